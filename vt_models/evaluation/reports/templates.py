# SPDX-License-Identifier: Apache-2.0
"""Pages from the Jinja2 templates beside this module, which escape every text (extra `report`)."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from vt_models.evaluation.reports.tables import cell_text


def render(template: str, **values: Any) -> str:
    """Fill a template; one that names a value which is not given raises `UndefinedError`.

    Args:
        template: its file's name.
        values: by the names that the template uses.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, loader=FunctionLoader(_source)
    )
    environment.filters |= {"cell": cell_text, "plain": _plain}
    return environment.get_template(template).render(**values)


def _source(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(one)}" for name, one in value.items())
    return str(value)
