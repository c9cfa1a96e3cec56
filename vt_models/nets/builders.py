# SPDX-License-Identifier: Apache-2.0
"""Functions that build networks, registered beside the networks that they build.

The registry (`vt_models.registry`) says what a tracker must know about a model without torch; this
finds its network. A model of the family F is registered in `vt_models.nets.F`.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import import_module
from inspect import signature
from typing import Any, NamedTuple, TypeVar

from vt_models.errors import (
    BackendError,
    InputError,
    VtModelsError,
    import_torch,
    install_hint,
)
from vt_models.registry import ModelSpec, get_spec
from vt_models.settings import read_section

Builder = TypeVar("Builder", bound=Callable[..., Any])

LARGEST_SETTING = 1_000_000
"""Of a width, a number of words or of layers; lists are made of some of them."""
MOST_MODULES = 20_000
"""Several times what the largest network has (PJVLT, 1,100)."""
_MODELS: dict[str, Callable[..., Any]] = {}


def register_model(build: Builder) -> Builder:
    """Register a function that builds the network of the model of its name.

    That of a large network takes `miniature`; True builds the same network with few weights, for
    tests and dry runs.
    """
    if build.__name__ in _MODELS:
        raise ValueError(f"{build.__module__}.{build.__name__} is registered already")
    _MODELS[build.__name__] = build
    return build


def find_builder(spec: ModelSpec, miniature: bool = False) -> Callable[[], Any]:
    """Return the function that builds a model's network, or its miniature; imports the family.

    Raises:
        ImportError: torch, or another package that the network needs, is not installed.
    """
    import_module(f"vt_models.nets.{spec.family}")
    build = _MODELS[spec.name]
    return partial(build, miniature=True) if miniature and has_miniature(build) else build


@contextlib.contextmanager
def training_packages(spec: ModelSpec) -> Iterator[None]:
    """Say what to install where a package that a model's network needs is missing.

    Raises:
        BackendError: torch, or another package of the [train] extra, is not installed.
    """
    import_torch()
    try:
        yield
    except ModuleNotFoundError as error:
        raise BackendError(
            f"{spec.name} needs the Python package {error.name!r}; {install_hint('train')}"
        ) from error


def has_miniature(build: Callable[..., Any]) -> bool:
    """Return whether a registered function also builds a miniature."""
    return "miniature" in signature(build).parameters


def registered() -> dict[str, Callable[..., Any]]:
    """Return the functions of all families that have been imported, by the names of the models."""
    return dict(_MODELS)


class Configured(NamedTuple):
    """A network to build.

    Attributes:
        build: builds it.
        config: its configuration; None for the model's own.
    """

    build: Callable[[], Any]
    config: Any = None


def configure(
    spec: ModelSpec,
    settings: Mapping[str, Any],
    at: Callable[[str], str] = str,
    error: type[VtModelsError] = InputError,
) -> Configured:
    """Return a model's network with some settings changed (needs torch).

    A network with settings has them as `config`, a frozen dataclass, and is built from it alone. A
    configuration on which fields of the specification depend says them as `spec_changes`.

    Args:
        spec: the model's.
        settings: those that differ, by the names of the configuration's fields and nested as they
            are.
        at: key ("net.fusion.blocks") to the place that messages name.
        error: what is raised.

    Raises:
        VtModelsError: of the type `error`: no such setting, a wrong type or value, or no network
            can be built of them together.
    """
    build = find_builder(spec)
    if not settings:
        return Configured(build)
    net = weightless(build)
    if not hasattr(net, "config"):
        raise error(f"{at('net')}: the network of {spec.name} has no settings; remove `net`.")
    try:
        config = read_section(net.config.__class__, settings, at, error, "net.", net.config)
        _check_numbers(dataclasses.asdict(config))
        configured = Configured(partial(net.__class__, config), config)
        weightless(configured.build)
    except error:
        raise
    except (ValueError, ArithmeticError, AssertionError, LookupError, RuntimeError) as problem:
        raise error(f"{at('net')}: no {spec.name} can be built so: {problem}.") from problem
    return configured


def find_spec(name: str, settings: Mapping[str, Any]) -> ModelSpec:
    """Return the specification of a model whose network has these settings; see `configure`."""
    spec = get_spec(name)
    return spec_of(spec, configure(spec, settings)) if settings else spec


def spec_of(spec: ModelSpec, net: Any) -> ModelSpec:
    """Return a model's specification with what the settings of its network change in it."""
    changes = getattr(getattr(net, "config", None), "spec_changes", {})
    return dataclasses.replace(spec, **changes)


def changed_settings(spec: ModelSpec, net: Any) -> dict[str, Any]:
    """Return the settings in which a network differs from its model's, as `configure` takes them.

    They are plain data, for the metadata of its weights.
    """
    if not hasattr(net, "config"):
        return {}
    return _difference(weightless(find_builder(spec)).config, net.config)


def _difference(before: Any, after: Any) -> dict[str, Any]:
    """Return the fields of a dataclass that are not as before, nested dataclasses likewise."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(after):
        one, other = getattr(before, field.name), getattr(after, field.name)
        if one != other:
            found[field.name] = (
                _difference(one, other) if dataclasses.is_dataclass(other) else other
            )
    return found


def _check_numbers(values: Any) -> None:
    """Raise ValueError if nested dictionaries and tuples have a number above `LARGEST_SETTING`."""
    if isinstance(values, dict | tuple):
        for value in values.values() if isinstance(values, dict) else values:
            _check_numbers(value)
    elif isinstance(values, int | float) and values > LARGEST_SETTING:
        raise ValueError(f"{values:g} is more than {LARGEST_SETTING:g}")


def weightless(build: Callable[[], Any]) -> Any:
    """Build a network whose tensors have shapes and no memory.

    A file may ask for a billion layers, so modules are counted while they are made.

    Raises:
        ValueError: the network has more than `MOST_MODULES` modules.
    """
    torch = import_torch()
    count = 0

    def counted(*_: Any) -> None:
        nonlocal count
        count += 1
        if count > MOST_MODULES:
            raise ValueError(f"it would have more than {MOST_MODULES} modules")

    hook = torch.nn.modules.module.register_module_module_registration_hook(counted)
    try:
        with torch.device("meta"):
            return build()
    finally:
        hook.remove()
