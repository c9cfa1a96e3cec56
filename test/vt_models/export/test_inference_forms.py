# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
from collections import Counter

import numpy as np
import pytest

import vt_models
from vt_models import get_spec

torch = pytest.importorskip("torch", reason="needs the training packages")
onnx = pytest.importorskip("onnx", reason="needs the training packages")
pytest.importorskip("timm", reason="needs the training packages")

from vt_models.export.exporter import example_graphs, onnx_bytes
from vt_models.export.inference_forms import (
    BlockedSeparable,
    BlockedSqueezeExcite,
    PairedSimilarity,
    use_inference_forms,
)
from vt_models.export.weight_storage import round_weights
from vt_models.nets.asymtrack_lite import CellSimilarity, SeparableBlock
from vt_models.nets.mobilenet import SqueezeExcite
from vt_models.runtime.onnx_engine import open_session


def random_map(channels: int, height: int = 12, width: int = 9) -> torch.Tensor:
    generator = torch.Generator().manual_seed(channels)
    return torch.randn(1, channels, height, width, generator=generator)


@pytest.mark.parametrize("inside", ["none", "half", "all"])
def test_paired_similarity_is_that_of_the_network(inside) -> None:
    given = CellSimilarity()
    covered = {"none": torch.zeros(1, 64, 1), "all": torch.ones(1, 64, 1)}.get(
        inside, torch.linspace(0, 1, 64)[None, :, None]
    )
    cells = CellSimilarity.encode(random_map(40, 8, 8))
    search = random_map(40)
    search[..., 0, 0] = 0.0  # a position without features has no direction
    expected = given(search, cells, covered)
    found = PairedSimilarity(given)(search, cells, covered)
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-6)


@pytest.mark.parametrize("channels", [16, 40])
def test_blocked_separable_is_the_block(channels) -> None:
    torch.manual_seed(0)
    given = SeparableBlock(channels).eval()
    x = random_map(channels)
    torch.testing.assert_close(BlockedSeparable(given)(x), given(x), rtol=0.0, atol=1e-6)


def test_blocked_squeeze_excite_is_that_of_the_network() -> None:
    torch.manual_seed(0)
    given = SqueezeExcite(24, 8).eval()
    x = random_map(24)
    torch.testing.assert_close(BlockedSqueezeExcite(given)(x), given(x), rtol=0.0, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "parts"), [("asymtrack_nano", 1 + 7 + 4), ("asymtrack_lite0", 1 + 4)]
)
def test_use_inference_forms_of_a_network_gives_the_same_outputs_without_slow_operations(
    name, parts
) -> None:
    spec = get_spec(name)
    torch.manual_seed(0)
    plain = vt_models.create_model(name).eval().merge().requires_grad_(False)
    changed = copy.deepcopy(plain)
    assert use_inference_forms(changed) == parts
    assert use_inference_forms(changed) == 0

    sessions, operations, inputs = [], [], []
    for net in (plain, changed):
        graph = example_graphs(net, spec)[0]
        data = onnx_bytes(graph)
        operations.append(Counter(node.op_type for node in onnx.load_from_string(data).graph.node))
        sessions.append(open_session(data, name, "cpu", 1))
        inputs.append([tensor.numpy() for tensor in graph.inputs])
    for one, other in zip(*inputs, strict=True):
        np.testing.assert_allclose(other, one, rtol=0.0, atol=1e-5)
    names = [entry.name for entry in sessions[0].get_inputs()]
    given = dict(zip(names, inputs[0], strict=True))
    for one, other in zip(*(each.run(None, given) for each in sessions), strict=True):
        np.testing.assert_allclose(other, one, rtol=0.0, atol=1e-5)
    slow = {"ReduceL2", "ReduceMean"}
    assert slow & set(operations[0])
    assert not slow & set(operations[1])


def test_int8_storage_holds_the_weights_of_a_squeeze_that_became_a_convolution() -> None:
    spec = get_spec("asymtrack_nano")
    torch.manual_seed(0)
    net = vt_models.create_model("asymtrack_nano").eval().merge().requires_grad_(False)
    stored = round_weights(net, "int8")
    plain = onnx_bytes(example_graphs(net, spec)[0], stored)
    use_inference_forms(net)
    model = onnx.load_from_string(onnx_bytes(example_graphs(net, spec)[0], stored))
    shapes = {
        tuple(tensor.dims)
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.INT8
    }
    assert {(64, 240, 1, 1), (240, 64, 1, 1)} <= shapes
    assert len(model.SerializeToString()) < 1.05 * len(plain)
