# SPDX-License-Identifier: Apache-2.0
"""`vt-models weights`: published checkpoints imported, weights averaged, exports checked."""

from __future__ import annotations

import argparse
import json
import sys

from vt_models.cli.options import check_weights_file
from vt_models.errors import InputError, VtModelsError
from vt_models.registry import get_spec
from vt_models.runtime.export_directory import TORCH_WEIGHTS
from vt_models.verify import Verified, verify, weights_here


def run(args: argparse.Namespace) -> int:
    """Run `vt-models weights`; raises VtModelsError for what the command prints in one line."""
    actions = {"import": _import, "mean": _mean, "verify": _verify}
    return actions[args.action](args)


def _verify(args: argparse.Namespace) -> int:
    """All directories are checked, whatever is wrong with the first."""
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


def _mean(args: argparse.Namespace) -> int:
    from vt_models.weights.mean import save_mean  # noqa: PLC0415 - needs an extra

    check_weights_file(args.output, *args.files)
    shares = None
    if args.shares is not None:
        try:
            shares = [float(share) for share in args.shares.split(",")]
        except ValueError:
            raise InputError(
                f"--shares {args.shares!r}: expected numbers such as 0.25,0.75"
            ) from None
    written = save_mean(args.files, get_spec(args.model).name, args.output, shares)
    about = {"model": args.model, "output": str(written), "files": [str(f) for f in args.files]}
    sys.stdout.write(
        json.dumps(about, indent=2) + "\n"
        if args.json
        else f"wrote {written}, the mean of {len(args.files)} files\n"
    )
    return 0


def _import(args: argparse.Namespace) -> int:
    from vt_models.nets.importer import import_checkpoint  # noqa: PLC0415 - needs an extra

    check_weights_file(args.output, args.file)
    imported = import_checkpoint(args.file, args.model)
    about = {
        "model": imported.model,
        "output": str(imported.save(args.output)),
        "tensors": len(imported.tensors),
        "values": sum(tensor.size for tensor in imported.tensors.values()),
        "unused": list(imported.unused),
        "epoch": imported.epoch,
        "source": imported.source,
        "source_sha256": imported.source_sha256,
    }
    if args.json:
        sys.stdout.write(json.dumps(about, indent=2) + "\n")
        return 0
    epoch = "" if imported.epoch is None else f", epoch {imported.epoch}"
    lines = [
        f"{imported.source} (sha256 {imported.source_sha256}{epoch})",
        f"{about['tensors']} tensors, {about['values']} values, for {imported.model}",
    ]
    if imported.unused:
        lines.append(f"{len(imported.unused)} published tensors that nothing reads, left out:")
        lines.extend(f"  {name}" for name in imported.unused)
    sys.stdout.write("\n".join([*lines, f"wrote {about['output']}"]) + "\n")
    return 0
