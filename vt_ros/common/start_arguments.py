# SPDX-License-Identifier: Apache-2.0
"""What was given to a node at its start and means nothing to it: said in the log, with a remedy."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import yaml
from rclpy.node import Node

_PARAMETERS = "ros__parameters"
_PARAMS_FILE = "--params-file"
# Declared when the subscription or publisher that they are for is created.
_LATE = "qos_overrides."


def warn_of_unused(node: Node, arguments: Sequence[str]) -> None:
    """Warn of parameters that the node has not declared, and of files that hold none for it.

    Args:
        node: has declared its parameters.
        arguments: command line.
    """
    for sentence in _unused(node, arguments):
        node.get_logger().warning(sentence)


def _unused(node: Node, arguments: Sequence[str]) -> Iterator[str]:
    # rclpy has no public way to what was given at start for a name that is not declared.
    given, known = node._parameter_overrides, [*node._parameters]  # noqa: SLF001
    for name in given:
        if not node.has_parameter(name) and not name.startswith(_LATE):
            near = difflib.get_close_matches(name, known, 1)
            meant = f"; did you mean {near[0]}?" if near else ""
            yield f"the parameter {name} was given, but this node has none of that name{meant}"
    for option, file in pairwise(arguments):
        if option != _PARAMS_FILE:
            continue
        try:
            patterns = [*_node_patterns(yaml.safe_load(Path(file).read_text(encoding="utf-8")))]
        except (OSError, ValueError, yaml.YAMLError, RecursionError):
            continue  # rcl has read it, in its own way
        own_name = node.get_fully_qualified_name()
        if patterns and not any(_matches(pattern, own_name) for pattern in patterns):
            yield (
                f"{file} has no parameters for this node, {own_name}, only for "
                f"{', '.join(patterns)}; rename the node there, /** stands for every node"
            )


def _node_patterns(section: object, above: str = "") -> Iterator[str]:
    """Yield the names of nodes, with wildcards, that a section of a parameter file is for."""
    if not isinstance(section, dict):
        return
    for name, content in section.items():
        if name == _PARAMETERS:
            yield above
        else:
            yield from _node_patterns(content, f"{above}/{str(name).strip('/')}")


def _matches(pattern: str, name: str) -> bool:
    """Return whether a node's full name is meant: `*` is one part of it, `**` any number."""
    parts = {"*": "/[^/]+", "**": "(/[^/]+)*"}
    tokens = pattern.strip("/").split("/")
    return bool(re.fullmatch("".join(parts.get(t, "/" + re.escape(t)) for t in tokens), name))
