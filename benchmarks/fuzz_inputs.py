# SPDX-License-Identifier: Apache-2.0
"""What the kinds of malformed inputs are made of; `benchmarks.fuzz` tries them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from hypothesis import strategies as st

NUMBERS = st.one_of(
    st.floats(), st.sampled_from([0.0, -1.0, 1e300, 1e-300, 1e30, 2.0**31, 2.0**63, 640.0])
)
SIZES = st.one_of(st.integers(0, 40), st.sampled_from([2**15, 2**16, 2**31, 2**32 - 1]))
# What a text file may hold in place of something harmless.
TOKENS = (
    *("NaN", "Infinity", "-1", "0", "1e999", "9" * 5000, "null", "true", '""', "[]", "{}", "\0"),
    *(
        "[" * 2000,
        "{a: " * 500,
        "&a [*a]",
        "!!python/object:os.system {}",
        "../../x",
        "\t",
        "\ud800",
    ),
)


@dataclass
class Kind:
    """A kind of input: where it comes from, and the check, which raises for what may not be."""

    inputs: st.SearchStrategy[Any]
    check: Callable[[Any], object]
    tried: int = 0
    refused: int = 0
    failures: list[str] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        """What is printed and written of it."""
        return {"tried": self.tried, "refused": self.refused, "failures": self.failures}


def spoilt(whole: bytes, is_text: bool) -> st.SearchStrategy[bytes]:
    """Bytes that are right but for a few places.

    One number is drawn and the rest made of it: drawing each place takes five times as long.
    """

    def spoil(number: int) -> bytes:
        random, data = Random(number), whole
        for _ in range(random.randint(0, 4)):
            first = random.randint(0, len(data))
            last = min(len(data), first + random.choice((0, 1, 4, random.randint(0, 40))))
            new = random.randbytes(random.randint(0, 8))
            if is_text and random.random() < 0.5:
                new = random.choice(TOKENS).encode("utf-8", "surrogatepass")
            elif first < len(data) and random.random() < 0.3:  # one bit
                last, new = first + 1, bytes((data[first] ^ 1 << random.randrange(8),))
            data = data[:first] + new + data[last:]
        return data[: random.randint(0, len(data))] if random.random() < 0.1 else data

    return st.integers(0, 2**64 - 1).map(spoil)
