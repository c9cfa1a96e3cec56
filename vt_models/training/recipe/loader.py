# SPDX-License-Identifier: Apache-2.0
"""Reads training recipes: one YAML file a model, checked completely before the first batch.

A recipe may name another one as its `base:` and hold only what differs. Every mistake is named by
file and line.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import typing
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import yaml

from vt_models.errors import RecipeError
from vt_models.training.recipe.rules import check_rules
from vt_models.training.recipe.settings import Recipe

Section = TypeVar("Section")
BASE = "base"
COMMAND_LINE = "--set"
_RENAMED = {"augment.gray": "augment.grey"}
"""Earlier keys; they are read in this release and go with 0.2."""
_PLURALS = {str: "texts", int: "whole numbers"}


def load_recipe(path: Path, overrides: list[str] | None = None) -> Recipe:
    """Read and check a recipe.

    Args:
        path: YAML file.
        overrides: "section.key=value" strings that replace single settings; a file in them is
            seen from the working directory.

    Raises:
        RecipeError: Unreadable file, unknown key, wrong type or impossible value; the message
            names the file, the line and what is allowed.
    """
    data, lines = _read(path, ())
    where = _Places(str(path), lines)
    for override in overrides or []:
        where.lines[_apply_override(data, override)] = COMMAND_LINE
    recipe = _build(Recipe, data, where, "")
    check_rules(recipe, where.at)
    return recipe


@dataclass(frozen=True)
class _Places:
    """Which line of which file says what.

    Attributes:
        file: The recipe.
        lines: FILE:LINE by key ("optim.lr", "sources[0].kind").
    """

    file: str
    lines: dict[str, str] = field(default_factory=dict)

    def at(self, key: str) -> str:
        """Return FILE:LINE of a key, of the section it is in, or the recipe's name."""
        while key and key not in self.lines:
            key = key[: max(key.rfind("."), key.rfind("["), 0)]
        return self.lines.get(key, self.file)


def _read(path: Path, above: tuple[Path, ...]) -> tuple[dict[str, Any], dict[str, str]]:
    """Read a recipe with everything its bases say, and where each key comes from."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} cannot be read ({error}): give a recipe file.") from error
    try:
        data = yaml.safe_load(text)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(data, dict):
        raise RecipeError(f"{path} must be a mapping with at least `model:`.")
    lines = dict(_lines(path, node))
    for old, new in _RENAMED.items():
        _rename(data, old, new, lines)
    if isinstance(data.get("validation"), str) and data["validation"]:
        data["validation"] = str(_beside(path, data["validation"]))
    base = data.pop(BASE, None)
    if base is None:
        return data, lines
    if not isinstance(base, str):
        raise RecipeError(f"{lines[BASE]}: `{BASE}` must be the name of a recipe, not {base!r}.")
    below = _beside(path, base)
    if below.resolve() in (*above, path.resolve()):
        raise RecipeError(f"{lines[BASE]}: `{BASE}: {base}` leads back to this recipe.")
    if not below.is_file():
        raise RecipeError(f"{lines[BASE]}: there is no recipe {below}.")
    below_data, below_lines = _read(below, (*above, path.resolve()))
    return _merged(below_data, data), _without_lists(below_lines, data) | lines


def _beside(recipe: Path, name: str) -> Path:
    """Return the path of a file that a recipe names, seen from the recipe's folder."""
    path = recipe.parent / name
    plain = Path(os.path.normpath(path))
    # Of a folder that is a symbolic link, `..` is not the folder that the link stands in.
    return plain if plain.resolve() == path.resolve() else path


def _merged(below: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """Merge sections key by key; replace everything else, lists too."""
    merged = dict(below)
    for key, value in data.items():
        before = merged.get(key)
        both = isinstance(before, dict) and isinstance(value, dict)
        merged[key] = _merged(before, value) if both else value  # type: ignore[arg-type]
    return merged


def _without_lists(lines: dict[str, str], data: dict[str, Any]) -> dict[str, str]:
    """Return the lines of a base without those of lists that are replaced."""
    lists = tuple(f"{key}[" for key, value in data.items() if isinstance(value, list))
    return {key: line for key, line in lines.items() if not key.startswith(lists)}


def _lines(
    path: Path, node: yaml.Node | None, prefix: str = ""
) -> typing.Iterator[tuple[str, str]]:
    """Yield key and FILE:LINE of everything in a YAML file."""
    if isinstance(node, yaml.SequenceNode):
        for number, entry in enumerate(node.value):
            name = f"{prefix.rstrip('.')}[{number}]"
            yield name, f"{path}:{entry.start_mark.line + 1}"
            yield from _lines(path, entry, f"{name}.")
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            name, line = f"{prefix}{key.value}", key.start_mark.line + 1
            if name in seen:
                raise RecipeError(
                    f"{path}:{line}: `{name}` is there twice (line {seen[name]}): remove one."
                )
            seen[name] = line
            yield name, f"{path}:{line}"
            yield from _lines(path, value, f"{name}.")


def _rename(data: dict[str, Any], old: str, new: str, lines: dict[str, str]) -> None:
    """Replace an earlier key by the current one, with a warning that names its line."""
    section, _, key = old.rpartition(".")
    values = data.get(section)
    if not isinstance(values, dict) or key not in values:
        return
    where, current = lines.pop(old), new.rpartition(".")[2]
    if current in values:
        raise RecipeError(f"{where}: `{old}` is `{new}` now, which is there too: remove one.")
    warnings.warn(f"{where}: `{old}` is `{new}` now", FutureWarning, stacklevel=2)
    values[current] = values.pop(key)
    lines[new] = where


def _apply_override(data: dict[str, Any], override: str) -> str:
    """Put a setting in; return its key."""
    key, separator, value = override.partition("=")
    if not separator:
        raise RecipeError(f"Override {override!r} must look like section.key=value.")
    if key in _RENAMED:
        warnings.warn(f"--set {override}: `{key}` is `{_RENAMED[key]}` now", FutureWarning, 2)
        key = _RENAMED[key]
    *sections, last = key.split(".")
    for section in sections:
        data = data.setdefault(section, {})
        if not isinstance(data, dict):
            raise RecipeError(f"Override {override!r}: {section!r} is not a section.")
    try:
        data[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise RecipeError(f"Override {override!r}: {value!r} is not valid YAML.") from error
    return key


def _build(cls: type[Section], data: Any, where: _Places, prefix: str) -> Section:
    if not isinstance(data, dict):
        section = prefix.rstrip(".")
        raise RecipeError(f"{where.at(section)}: `{section}` must be a mapping.")
    hints = get_type_hints(cls)
    values: dict[str, Any] = {}
    for key, value in data.items():
        if key not in hints:
            close = difflib.get_close_matches(str(key), hints, n=1)
            hint = f" Did you mean `{close[0]}`?" if close else ""
            raise RecipeError(
                f"{where.at(f'{prefix}{key}')}: unknown key `{prefix}{key}`.{hint} "
                f"Allowed here: {', '.join(hints)}."
            )
        values[key] = _convert(hints[key], value, where, f"{prefix}{key}")
    if "model" in hints and "model" not in values:
        raise RecipeError(f"{where.file}: `model:` is missing; name a model of the registry.")
    return cls(**values)


def _convert(kind: Any, value: Any, where: _Places, key: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return _build(kind, value, where, f"{key}.")  # type: ignore[arg-type]
    if typing.get_origin(kind) is tuple:
        return _convert_list(typing.get_args(kind)[0], value, where, key)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is float and isinstance(value, str):
        # YAML 1.1 reads 1e-4 as text (it wants 1.0e-4); people write 1e-4.
        try:
            return float(value)
        except ValueError:
            number = False
    if kind is float and number:
        return float(value)
    if kind is int and number and float(value).is_integer():
        return int(value)
    if kind in (str, bool) and isinstance(value, kind):
        return value
    raise RecipeError(f"{where.at(key)}: `{key}` must be a {kind.__name__}, not {value!r}.")


def _convert_list(kind: Any, value: Any, where: _Places, key: str) -> tuple[Any, ...]:
    wanted = "mappings" if dataclasses.is_dataclass(kind) else _PLURALS[kind]
    if not isinstance(value, list):
        raise RecipeError(f"{where.at(key)}: `{key}` must be a list of {wanted}, not {value!r}.")
    return tuple(_convert(kind, entry, where, f"{key}[{n}]") for n, entry in enumerate(value))
