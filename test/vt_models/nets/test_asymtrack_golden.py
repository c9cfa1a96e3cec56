# SPDX-License-Identifier: Apache-2.0
"""AsymTrack against vectors of the authors' code, in training form and merged form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the training packages")

from types import ModuleType

from vt_models.registry import get_spec
from vt_models.runtime.torch_engine import TorchEngine
from vt_models.tracker.tracker import Tracker

TOLERANCE = 1e-4
SEQUENCE_TOLERANCE_PX = 0.02
VARIANT_MODEL = {"tiny": "asymtrack_t", "small": "asymtrack_s", "base": "asymtrack_b"}

pytestmark = pytest.mark.train


@torch.no_grad()
def test_forward_training_form_gives_the_reference_box(golden: Any) -> None:
    outputs = golden.net(golden.template, golden.searches["s1"])

    close(outputs["box"], golden.vectors["trainform_box_cxcywh"][0])


@pytest.mark.parametrize("search", ["s1", "s2"])
@pytest.mark.parametrize("merged", [False, True], ids=["training_form", "merged"])
@torch.no_grad()
def test_search_boxes_and_score_maps_equal_the_reference(
    golden: Any, search: str, merged: bool
) -> None:
    net = golden.net.merge() if merged else golden.net

    outputs = net(golden.template, golden.searches[search])
    box, score = net.search(golden.searches[search], *net.encode_template(golden.template))

    close(outputs["box"], golden.vectors[f"{search}_box_cxcywh"][0])
    close(box, golden.vectors[f"{search}_box_cxcywh"][0])
    close(outputs["score_tl"], golden.vectors[f"{search}_score_tl"][0])
    close(outputs["score_br"], golden.vectors[f"{search}_score_br"][0])
    assert 0 <= float(score) <= 1


@pytest.mark.parametrize("merged", [False, True], ids=["training_form", "merged"])
@torch.no_grad()
def test_modules_maps_equal_the_reference(golden: Any, merged: bool) -> None:
    net = golden.net.merge() if merged else golden.net
    state = net.encode_template(golden.template)
    maps = record_outputs(net)

    net.search(golden.searches["s2"], *state)

    names = [name for name in golden.vectors if name.startswith("s2_sub_")]
    assert len(names) >= 16
    for name in names:
        channels_last = maps[module_name(name)].permute(0, 2, 3, 1)
        close(golden.sub(channels_last.numpy(), 512), golden.vectors[name], name)


@torch.no_grad()
def test_encode_template_prototypes_and_tokens_equal_the_reference(golden: Any) -> None:
    blocks = [list(stage.blocks) for stage in golden.net.backbone.layers]
    modulations = {1: blocks[1][2], 2: blocks[2][-3]}
    prototypes: dict[int, Any] = {}
    for stage, module in modulations.items():
        module.kernels = spy(module.kernels, prototypes, stage)
    maps = record_outputs(golden.net)

    golden.net.encode_template(golden.template)

    for stage in modulations:
        close(prototypes[stage], golden.vectors[f"tmpl_proto_layer{stage}"], relative=TOLERANCE)
    tokens = maps[f"backbone.layers.2.blocks.{len(blocks[2]) - 2}"].permute(0, 2, 3, 1)
    close(golden.sub(tokens.numpy(), 1024), golden.vectors["tmpl_att_tokens_sub"])


def test_tracker_sequence_gives_the_reference_boxes(golden: Any, golden_init: ModuleType) -> None:
    spec = get_spec(VARIANT_MODEL[golden.variant])
    engine = TorchEngine(golden.net, spec, device="cpu", threads=1)
    tracker = Tracker(spec, engine)
    frames, boxes = golden_init.frames(12)

    tracker.init(frames[0], boxes[0])
    tracked = [tracker.update(frame).box for frame in frames[1:]]

    np.testing.assert_allclose(
        tracked, golden.vectors["seq_boxes_xywh"], rtol=0, atol=SEQUENCE_TOLERANCE_PX
    )


def close(actual: Any, expected: Any, name: str = "", relative: float = 0.0) -> None:
    np.testing.assert_allclose(
        np.asarray(actual), expected, rtol=relative, atol=TOLERANCE, err_msg=name
    )


def record_outputs(net: Any) -> dict[str, Any]:
    """The last output of each module, by the module's name."""
    outputs: dict[str, Any] = {}
    for name, module in net.named_modules():

        def keep(_module: Any, _inputs: Any, output: Any, name: str = name) -> None:
            outputs[name] = output

        module.register_forward_hook(keep)
    return outputs


def spy(function: Any, arguments: dict[int, Any], key: int) -> Any:
    """A function that does the same and keeps its argument."""

    def called(argument: Any) -> Any:
        arguments[key] = argument
        return function(argument)

    return called


def module_name(vector: str) -> str:
    """ "s2_sub_layer1.block2.ETM" -> "backbone.layers.1.blocks.2"."""
    name = vector.removeprefix("s2_sub_")
    if name == "neck":
        return "bottleneck"
    if name == "patch_embed":
        return "backbone.patch_embed"
    stage, rest = name.removeprefix("layer").split(".", 1)
    if rest == "out":
        return f"backbone.layers.{stage}"
    return f"backbone.layers.{stage}.blocks.{rest.removeprefix('block').split('.')[0]}"
