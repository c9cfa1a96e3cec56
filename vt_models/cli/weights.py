# SPDX-License-Identifier: Apache-2.0
"""`vt-models weights`: published checkpoints to weights files; export directories checked."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vt_models.cli.options import add_json
from vt_models.errors import VtModelsError

if TYPE_CHECKING:
    from vt_models.weights.importer import ImportedCheckpoint
    from vt_models.weights.verify import Verified


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the actions of `vt-models weights` and their options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    importing = actions.add_parser(
        "import",
        help="make a published checkpoint into a .safetensors file",
        description="Make a checkpoint as published into a .safetensors file. "
        "Nothing in the checkpoint is executed.",
    )
    add = importing.add_argument
    add("file", type=Path, metavar="FILE", help="the checkpoint, for instance .pth.tar")
    add("--model", required=True, help="name of the model, see `vt-models models`")
    add("--output", required=True, type=Path, help="the .safetensors file to write")
    add_json(add)

    verifying = actions.add_parser(
        "verify",
        help="check export directories: sha256, description, and that they run",
        description="Check the files of export directories against their sha256, and run each on a "
        "few synthetic frames. Exit status 1 if one fails.",
    )
    add = verifying.add_argument
    add("directories", type=Path, nargs="*", metavar="DIR", help="default: all that are here")
    add_json(add)


def run(args: argparse.Namespace) -> int:
    """Run `vt-models weights`; raises VtModelsError for what the command prints in one line."""
    return _verify(args) if args.action == "verify" else _import(args)


def _verify(args: argparse.Namespace) -> int:
    """All directories are checked, whatever is wrong with the first."""
    from vt_models.weights.verify import verify, weights_here  # noqa: PLC0415 (heavy)

    passed: list[Verified] = []
    failed: dict[str, str] = {}
    for directory in args.directories or weights_here():
        try:
            passed.append(verify(directory))
        except VtModelsError as error:
            failed[str(directory)] = str(error)
    if args.json:
        found = [{**vars(one), "directory": str(one.directory)} for one in passed]
        sys.stdout.write(json.dumps({"passed": found, "failed": failed}, indent=2) + "\n")
    else:
        sys.stdout.writelines(f"{_verified(one)}\n" for one in passed)
        sys.stdout.writelines(f"FAILED: {reason}\n" for reason in failed.values())
    return 1 if failed else 0


def _verified(one: Verified) -> str:
    from vt_models.runtime.export_directory import TORCH_WEIGHTS  # noqa: PLC0415 - loads OpenCV

    size = sum(one.files.values()) / 1e6
    lacks = {
        "no calibration (vt-models calibrate)": one.calibrated is False,
        "no model card": not one.has_card,
        "network not checked (needs torch)": one.network_loaded is None
        and TORCH_WEIGHTS in one.files,
    }
    remarks = "; ".join(remark for remark, holds in lacks.items() if holds)
    return (
        f"{one.model}: {one.directory}: {len(one.files)} files, {size:.1f} MB, sha256 as recorded, "
        f"{one.does}; exported with {one.commit[:7] or 'unknown code'}"
        + (remarks and f"; {remarks}")
    )


def _import(args: argparse.Namespace) -> int:
    from vt_models.weights.importer import import_checkpoint  # noqa: PLC0415 (heavy)

    imported = import_checkpoint(args.file, args.model)
    output = imported.save(args.output)
    text = json.dumps(_to_json(imported, output), indent=2) if args.json else _to_text(imported)
    sys.stdout.write(text + "\n")
    if not args.json:
        sys.stdout.write(f"wrote {output}\n")
    return 0


def _to_json(imported: ImportedCheckpoint, output: Path) -> dict[str, object]:
    return {
        "model": imported.model,
        "output": str(output),
        "tensors": len(imported.tensors),
        "values": _values(imported),
        "unused": list(imported.unused),
        "epoch": imported.epoch,
        "source": imported.source,
        "source_sha256": imported.source_sha256,
    }


def _to_text(imported: ImportedCheckpoint) -> str:
    epoch = "" if imported.epoch is None else f", epoch {imported.epoch}"
    lines = [
        f"{imported.source} (sha256 {imported.source_sha256}{epoch})",
        f"{len(imported.tensors)} tensors, {_values(imported)} values, for {imported.model}",
    ]
    if imported.unused:
        lines.append(f"{len(imported.unused)} published tensors that nothing reads, left out:")
        lines.extend(f"  {name}" for name in imported.unused)
    return "\n".join(lines)


def _values(imported: ImportedCheckpoint) -> int:
    return sum(tensor.size for tensor in imported.tensors.values())
