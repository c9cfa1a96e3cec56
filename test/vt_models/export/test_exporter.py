# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
import dataclasses
import json
import subprocess
import sys
import textwrap
from collections import Counter
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest

import vt_models
from vt_models import ExportError, Tracker, get_spec
from vt_models.export.parity import check_engines, synthetic_sequence
from vt_models.runtime.export_directory import read_export, sha256_of
from vt_models.runtime.onnx_engine import OnnxEngine

torch = pytest.importorskip("torch", reason="needs the training packages")
onnx = pytest.importorskip("onnx", reason="needs the training packages")

from vt_models.export import exporter as export_module
from vt_models.export.batch_norm_folding import fold_batch_norms
from vt_models.export.exporter import export_model
from vt_models.export.weight_storage import Storage, round_to_half, round_weights
from vt_models.runtime.torch_engine import TorchEngine
from vt_models.weights.tensors import load_weights

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("storage", get_args(Storage))
def test_export_is_complete_and_exact(small_model, tmp_path, storage) -> None:
    net, spec = small_model
    before = copy.deepcopy(net.state_dict())
    directory = export_model(net, spec, tmp_path / "deep" / "out", storage=storage)

    names = {path.name for path in directory.iterdir()}
    trained = set() if storage == "int8" else {"weights.safetensors"}
    assert names == {"template.onnx", "search.onnx", "model.json"} | trained
    manifest = json.loads((directory / "model.json").read_text())
    assert manifest["model"] == spec.name
    assert manifest["spec"]["search_size"] == spec.search_size
    assert manifest["precision"]["storage"] == storage
    assert manifest["precision"]["folded_batch_norms"] == 1
    assert manifest["parity"]["output_abs"] <= 1e-4
    assert manifest["parity"]["sequence_px"] <= 0.05
    assert manifest["producer"]["torch"] == torch.__version__
    assert manifest["weights"]["of"] == "tensors"
    for name, entry in manifest["files"].items():
        data = (directory / name).read_bytes()
        assert entry == {"sha256": sha256_of(data), "bytes": len(data)}
    assert read_export(directory).spec == spec
    assert [path.name for path in directory.parent.iterdir()] == ["out"]
    for key, value in net.state_dict().items():
        assert torch.equal(value, before[key])


def test_export_writes_the_new_name_of_the_size_calibration(small_model, tmp_path) -> None:
    net, spec = small_model
    spec = dataclasses.replace(spec, size_calibration=0.25)
    directory = export_model(net, spec, tmp_path / "out")
    recorded = json.loads((directory / "model.json").read_text())["spec"]
    assert recorded["size_calibration"] == 0.25
    assert "size_fit" not in recorded


@pytest.mark.parametrize("storage", ["float16", "float32"])
def test_export_includes_the_network_in_training_form(small_model, tmp_path, storage) -> None:
    net, spec = small_model
    directory = export_model(net, spec, tmp_path / "out", storage=storage)
    again = copy.deepcopy(net)
    for parameter in again.parameters():
        torch.nn.init.zeros_(parameter)
    load_weights(again, directory / "weights.safetensors", spec.name)
    for key, value in net.state_dict().items():
        rounded = value.half().float() if storage == "float16" and value.ndim >= 2 else value
        assert torch.equal(again.state_dict()[key], rounded)


def test_fp32_storage_equals_the_network_as_given(small_model, tmp_path) -> None:
    net, spec = small_model
    directory = export_model(net, spec, tmp_path / "out", storage="float32")
    measured = check_engines(spec, TorchEngine(net, spec, "cpu"), OnnxEngine(directory, "cpu"))
    assert measured["output_abs"] < 1e-5


def test_fp16_storage_halves_the_large_tensors(tmp_path) -> None:
    net, spec = vt_models.create_model("asymtrack_lite0"), get_spec("asymtrack_lite0")
    half = export_model(net, spec, tmp_path / "half")
    full = export_model(net, spec, tmp_path / "full", storage="float32")
    sizes = [(path / "search.onnx").stat().st_size for path in (half, full)]
    assert sizes[0] < 0.55 * sizes[1]
    model = onnx.load(str(half / "search.onnx"))
    large = [t for t in model.graph.initializer if np.prod(t.dims) >= 64]
    assert {t.data_type for t in large} <= {onnx.TensorProto.FLOAT16, onnx.TensorProto.INT64}


@pytest.mark.parametrize("name", ["asymtrack_lite0", "pjvlt_tiny"])
def test_int8_storage_takes_a_byte_a_weight_and_computes_the_rounded_network(
    tmp_path, name
) -> None:
    net, spec = vt_models.create_model(name), get_spec(name)
    directory = export_model(net, spec, tmp_path / name, storage="int8")

    for graph in directory.glob("*.onnx"):
        model = onnx.load(str(graph))
        large = [t for t in model.graph.initializer if np.prod(t.dims) >= 4096]
        held = Counter({t.data_type: 0 for t in large})
        for tensor in large:
            held[tensor.data_type] += int(np.prod(tensor.dims))
        assert held[onnx.TensorProto.INT8] > 0.9 * sum(held.values())
    parity = json.loads((directory / "model.json").read_text())["parity"]
    assert parity["output_abs"] <= 1e-4
    assert 0 < parity["storage_output_abs"] < 0.2


def test_round_weights_int8_error_is_at_most_half_a_step() -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(16, 20, 3), torch.nn.Linear(64, 40))
    with torch.no_grad():
        net[1].weight[3] *= 1000.0
        net[1].weight[4] = 0.0
    before = {name: value.clone() for name, value in net.state_dict().items()}

    stored = round_weights(net, "int8")

    assert len(stored.scaled) == 3  # a kernel, and a matrix both ways round
    for name, value in net.state_dict().items():
        given = before[name]
        if value.ndim == 1:
            assert torch.equal(value, given.half().float())
            continue
        step = given.flatten(1).abs().amax(1).view(-1, *(1,) * (given.ndim - 1)) / 127
        assert torch.all((value - given).abs() <= 0.501 * step)
        assert not torch.equal(value, given)


@pytest.mark.parametrize("letter", ["t", "s", "b"])
def test_exported_asymtrack_tracks_like_the_authors_code(letter, golden_init, shared_dir, tmp_path):
    variant = {"t": "tiny", "s": "small", "b": "base"}[letter]
    path = shared_dir / "reference" / "asymtrack" / f"{variant}.golden.npz"
    with np.load(path) as archive:
        salt, expected = str(archive["salt"]), archive["seq_boxes_xywh"]
    name = f"asymtrack_{letter}"
    net = vt_models.create_model(name)
    golden_init.fill(net.state_dict(), salt)
    directory = export_model(net, get_spec(name), tmp_path / name, storage="float32")

    frames, boxes = golden_init.frames(12)
    tracker = vt_models.create_tracker(name, directory, device="cpu")
    for _ in range(2):
        tracker.init(frames[0], boxes[0])
        found = [tracker.update(frame).box for frame in frames[1:]]
        np.testing.assert_allclose(found, expected, atol=0.05)


def test_export_records_the_source_file(small_model, tmp_path) -> None:
    net, spec = small_model
    source = tmp_path / "w.safetensors"
    source.write_bytes(b"weights")
    manifest = json.loads(
        (export_model(net, spec, tmp_path / "a", source=source) / "model.json").read_text()
    )
    assert manifest["weights"] == {
        "source": "w.safetensors",
        "sha256": sha256_of(b"weights"),
        "of": "file",
    }


class _Wrong:
    """An engine whose answers are off by a little."""

    def __init__(self, engine: Any, offset: float) -> None:
        self._engine, self._offset = engine, offset

    def set_template(self, template: Any) -> None:
        self._engine.set_template(template)

    def search(self, crop: Any, mask: Any = None) -> tuple[Any, ...]:
        return tuple(array + np.float32(self._offset) for array in self._engine.search(crop, mask))


@pytest.mark.parametrize("offset", [2e-4, np.nan])
def test_export_graph_that_differs_fails_and_leaves_nothing(
    small_model, tmp_path, monkeypatch, offset
) -> None:
    net, spec = small_model

    def wrong(*arguments: Any, **options: Any) -> Any:
        return _Wrong(OnnxEngine(*arguments, **options), offset)

    monkeypatch.setattr(export_module, "OnnxEngine", wrong)
    with pytest.raises(ExportError, match="does not reproduce"):
        export_model(net, spec, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_export_failure_keeps_the_previous_export(small_model, tmp_path, monkeypatch) -> None:
    net, spec = small_model
    directory = export_model(net, spec, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in directory.iterdir()}

    def wrong(*arguments: Any, **options: Any) -> Any:
        return _Wrong(OnnxEngine(*arguments, **options), 1.0)

    monkeypatch.setattr(export_module, "OnnxEngine", wrong)
    with pytest.raises(ExportError):
        export_model(net, spec, directory)
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_export_again_replaces_the_previous_and_keeps_its_card(
    small_model, tmp_path, caplog
) -> None:
    net, spec = small_model
    directory = export_model(net, spec, tmp_path / "out", source="first")
    (directory / "MODEL_CARD.md").write_text("card")
    assert not caplog.records
    export_model(net, spec, directory, source="second")
    assert f"holds an export of {spec.name} of 20" in caplog.text
    assert "which is replaced" in caplog.text
    assert (directory / "MODEL_CARD.md").read_text() == "card"
    assert read_export(directory).manifest["weights"]["source"] == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_export_into_a_directory_of_other_files_is_refused(small_model, tmp_path) -> None:
    net, spec = small_model
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ExportError, match="not empty"):
        export_model(net, spec, tmp_path)
    with pytest.raises(ExportError, match="is a file"):
        export_model(net, spec, tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_export_does_not_replace_another_model_or_its_own_weights(small_model, tmp_path) -> None:
    net, spec = small_model
    directory = export_model(net, spec, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    other = dataclasses.replace(spec, name="other")
    with pytest.raises(ExportError, match=f"holds an export of '{spec.name}'; give another"):
        export_model(net, other, directory)
    with pytest.raises(ExportError, match="lies in the directory that it would replace"):
        export_model(net, spec, directory, source=directory / "weights.safetensors")
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before
    (directory / "model.json").write_text("{")
    export_model(net, spec, directory)
    assert read_export(directory).spec == spec


def test_export_untraceable_network_is_an_export_error(small_model, tmp_path, monkeypatch) -> None:
    net, spec = small_model

    def search(self: Any, search: Any, *state: Any) -> Any:
        return (torch.linalg.svd(search[0, 0])[0][None], torch.linalg.eigvals(search[0, 0]).real)

    monkeypatch.setattr(type(net), "search", search)
    with pytest.raises(ExportError, match=r"torch cannot export search\.onnx"):
        export_model(net, spec, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_export_with_dynamo_gives_the_same(small_model, tmp_path, monkeypatch) -> None:
    pytest.importorskip("onnxscript")
    net, spec = small_model
    monkeypatch.setattr(
        export_module,
        "_export",
        lambda graph: export_module._export_with(graph, dynamo=True),
    )
    assert read_export(export_model(net, spec, tmp_path / "out")).spec == spec


def test_fold_batch_norms_keeps_the_outputs() -> None:
    nn = torch.nn
    torch.manual_seed(0)
    shared = nn.Conv2d(3, 3, 3, padding=1)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.plain = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.BatchNorm2d(3))
            self.late = nn.BatchNorm2d(3)  # after a ReLU: cannot be folded
            self.shared, self.first, self.second = shared, nn.BatchNorm2d(3), nn.BatchNorm2d(3)
            self.unused = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))

        def forward(self, x: Any) -> Any:
            x = self.late(torch.relu(self.plain(x)))
            return self.first(self.shared(x)) + self.second(self.shared(x))

    net = Net().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.5, 2)
    x = torch.randn(1, 3, 8, 8)
    expected = net(x)
    assert fold_batch_norms(net, lambda: net(x)) == 1
    torch.testing.assert_close(net(x), expected)
    assert net.plain[1].eps == 0.0
    assert fold_batch_norms(net, lambda: net(x)) == 1  # an identity again: harmless
    torch.testing.assert_close(net(x), expected)


def test_round_to_half_leaves_what_half_cannot_hold() -> None:
    net = torch.nn.Linear(2, 1)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[0.1, 1e6]]))
        net.bias.fill_(0.1)
    for parameter in net.parameters():
        round_to_half(parameter.data)
    assert net.weight[0, 1] == 1e6
    assert float(net.bias[0].detach()) == np.float32(np.float16(0.1))


def test_synthetic_sequence_is_the_same_every_time() -> None:
    first, second = synthetic_sequence(), synthetic_sequence()
    assert len(first.frames) == len(first.boxes) == 12
    for one, other in zip(first.frames, second.frames, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.shape == (240, 320, 3)
        assert one.dtype == np.uint8


def test_exported_directory_tracks_without_torch(
    exported_small: Path, repository: Path, moving_square
) -> None:
    """In a process of its own, with torch, onnx and timm made unimportable."""
    frames, boxes = moving_square
    program = textwrap.dedent(
        """
        import json, sys

        class Blocker:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in ("torch", "torchvision", "timm", "onnx", "safetensors"):
                    raise ModuleNotFoundError(f"No module named {name!r}", name=name)

        sys.meta_path.insert(0, Blocker())
        import numpy as np
        import vt_models

        for run in (lambda: __import__("torch"), lambda: vt_models.create_model("asymtrack_t")):
            try:
                run()
            except ModuleNotFoundError:
                pass
            except vt_models.VtModelsError as error:
                assert "pip install '.[train]' in a checkout" in str(error), error
            else:
                raise SystemExit("torch was imported")
        tracker = vt_models.create_tracker("asymtrack_lite0", sys.argv[1], device="cpu")
        frames = np.load(sys.argv[2])
        tracker.init(frames[0], json.loads(sys.argv[3]))
        print(json.dumps([tracker.update(frame).box for frame in frames[1:]]))
        """
    )
    file = exported_small.parent / "frames.npy"
    np.save(file, np.stack(frames))
    result = subprocess.run(
        [sys.executable, "-c", program, str(exported_small), str(file), json.dumps(boxes[0])],
        capture_output=True,
        text=True,
        cwd=repository,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    tracker = Tracker(read_export(exported_small).spec, OnnxEngine(exported_small, "cpu"))
    tracker.init(frames[0], boxes[0])
    expected = [tracker.update(frame).box for frame in frames[1:]]
    np.testing.assert_allclose(json.loads(result.stdout), expected, atol=1e-6)
