# SPDX-License-Identifier: Apache-2.0
"""Reads training recipes: one YAML file a model, checked completely before the first batch.

A recipe may name another one as its `base:` and hold only what differs. Every mistake is named by
file and line. Pydantic would bring the types' checks of `vt_models.settings`, and take as many
lines to say its errors in sentences with places; a prototype was 66 lines of 754 shorter. So there
is none.
"""

from __future__ import annotations

import os
import reprlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from vt_models.errors import RecipeError
from vt_models.files import read_bytes
from vt_models.settings import read_section
from vt_models.training.recipe.rules import check_rules
from vt_models.training.recipe.settings import Recipe

BASE = "base"
COMMAND_LINE = "--set"
_RENAMED = {"augment.gray": "augment.grey"}
"""Earlier keys; they are read in this release and go with 0.2."""
_MOST_BYTES = 2**18
_MOST_EVENTS = 20_000
_MOST_DEPTH = 20


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
    if "model" not in data:
        raise RecipeError(f"{where.at('')}: `model:` is missing; name a model of the registry.")
    recipe = read_section(Recipe, data, where.at, RecipeError)
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
        text = read_bytes(path, _MOST_BYTES).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} cannot be read ({error}): give a recipe file.") from error
    data = _parse(text, str(path))
    node = yaml.compose(text, Loader=yaml.SafeLoader)
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


def _parse(text: str, where: str) -> Any:
    """Parse YAML that says each thing once and in few levels, so that reading it takes no time.

    Raises:
        RecipeError: it is not such; the message quotes nothing of the text but where it goes wrong.
    """
    depth = 0
    try:
        for count, event in enumerate(yaml.parse(text, Loader=yaml.SafeLoader)):
            line = event.start_mark.line + 1 if event.start_mark else 0
            place = f"{where}:{line}"
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            # Ten lines of references to one another are a thousand million entries.
            if isinstance(event, yaml.AliasEvent) or getattr(event, "value", None) == "<<":
                raise RecipeError(
                    f"{place}: a recipe does not repeat by `*` and `<<`: write it out, or name "
                    f"another recipe as `{BASE}`."
                )
            if depth > _MOST_DEPTH or count > _MOST_EVENTS:
                what = f"{_MOST_DEPTH} levels" if depth > _MOST_DEPTH else f"{_MOST_EVENTS} entries"
                raise RecipeError(f"{place}: more than {what}: this is no recipe.")
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = where if mark is None else f"{where}:{mark.line + 1}"
        raise RecipeError(f"{place}: not valid YAML: {error.problem}.") from None
    except (yaml.YAMLError, ValueError) as error:
        # A ValueError is a date that is none, or a number of thousands of digits.
        reason = getattr(error, "reason", None) or type(error).__name__
        raise RecipeError(f"{where}: not valid YAML: {reason}.") from None


def _beside(recipe: Path, name: str) -> Path:
    """Return the path of a file that a recipe names, seen from the recipe's folder."""
    path = recipe.parent / name
    plain = Path(os.path.normpath(path))
    try:
        path.is_file()  # raises for a name that no file may have
        # Of a folder that is a symbolic link, `..` is not the folder that the link stands in.
        return plain if plain.resolve() == path.resolve() else path
    except (OSError, ValueError) as error:  # too long, or with a zero byte
        reason = error.strerror if isinstance(error, OSError) else error
        raise RecipeError(f"{recipe}: {reprlib.repr(name)} names no file ({reason}).") from error


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


def _lines(path: Path, node: yaml.Node | None, prefix: str = "") -> Iterator[tuple[str, str]]:
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
    data[last] = _parse(value, f"{COMMAND_LINE} {override}")
    return key
