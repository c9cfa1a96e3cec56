# SPDX-License-Identifier: Apache-2.0
"""Attention and other inner maps of a network, kept while somebody asks for them.

A network says where it has something to see: ``record("decoder", lambda: weights)``. Nobody
computes it but inside `recording`, so inference, training and exported graphs stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

Records = dict[str, list[Tensor]]
"""By name, in the order in which the network came to them."""

_records: ContextVar[Records | None] = ContextVar("records", default=None)


@contextmanager
def recording() -> Iterator[Records]:
    """Keep what networks record meanwhile, in this thread."""
    found: Records = {}
    token = _records.set(found)
    try:
        yield found
    finally:
        _records.reset(token)


def record(name: str, compute: Callable[[], Tensor]) -> None:
    """Keep a tensor under a name if somebody records; else do nothing."""
    records = _records.get()
    if records is not None:
        records.setdefault(name, []).append(compute().detach().float().cpu())
