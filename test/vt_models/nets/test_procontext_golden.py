# SPDX-License-Identifier: Apache-2.0
"""ProContEXT at full size against vectors of the authors' code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the training packages")

from pathlib import Path
from types import ModuleType

from vt_models.geometry.boxes import CropWindow
from vt_models.nets.centre_head import box_at_peak
from vt_models.nets.procontext import procontext
from vt_models.registry import get_spec
from vt_models.runtime.torch_engine import TorchEngine
from vt_models.tracker.decoders import Decoder
from vt_models.tracker.tracker import Tracker

TOLERANCE = 1e-4
SEQUENCE_TOLERANCE_PX = 0.02
LAYERS = ("patch_embed_last", "block0", "block3", "block6", "block9", "block11", "norm")

pytestmark = [pytest.mark.train, pytest.mark.slow]


class Reference:
    """ProContEXT with reference weights, one pass through it, and what the authors' code gave."""

    @torch.no_grad()
    def __init__(self, folder: Path, golden_init: ModuleType) -> None:
        torch.set_num_threads(1)
        self.vectors = dict(np.load(folder / "procontext.golden.npz"))
        self.net = procontext().eval()
        golden_init.fill(self.net.state_dict(), str(self.vectors["salt"]))
        views = [
            torch.from_numpy(golden_init.net_input(f"template{index}", 192)) for index in range(4)
        ]
        search = torch.from_numpy(golden_init.net_input("search1", 384))
        static, dynamic = torch.stack(views[:2], dim=1), torch.stack(views[2:], dim=1)
        self.layers, self.orders = record(self.net.backbone)
        self.outputs = self.net(static, search, dynamic)
        self.layers["norm"] = self.net.backbone.norm(self.layers["block11"])
        self.layers["patch_embed_last"] = self.net.backbone.patch_embed(views[3])


@pytest.fixture(scope="module")
def reference(shared_dir: Path, golden_init: ModuleType) -> Reference:
    return Reference(shared_dir / "reference" / "procontext", golden_init)


def test_search_maps_and_box_equal_the_reference(reference: Reference) -> None:
    outputs, vectors = reference.outputs, reference.vectors

    close(outputs["score_map"], vectors["score_map"][0])
    close(outputs["size_map"], vectors["size_map"])
    close(outputs["offset_map"], vectors["offset_map"])
    close(box_at_peak(outputs["score_map"], outputs["box_map"]), vectors["pred_boxes"][0])


@pytest.mark.parametrize("layer", LAYERS)
def test_blocks_template_tokens_equal_the_reference(
    reference: Reference, golden_init: ModuleType, layer: str
) -> None:
    """The vectors hold the templates' tokens; values grow from block to block."""
    ours = golden_init.sub(reference.layers[layer][:, :576].numpy(), 1024)

    expected = reference.vectors[f"sub_{layer}"]
    np.testing.assert_allclose(ours, expected, rtol=TOLERANCE, atol=TOLERANCE)


def test_prune_eliminates_the_reference_s_candidates(reference: Reference) -> None:
    """All of them: at the cuts the scores lie at least 1e-4 apart, and agree much better."""
    rows = reference.vectors["ce_rows_lens_t_lens_s_keep_ratio_relmargin"]
    left = np.arange(576)

    for stage, order in enumerate(reference.orders):
        templates, before, after, ratio, margin = rows[stage]
        assert (templates, before, after, ratio) == (576, len(left), order.shape[1], 0.7)
        assert margin > 1e-4
        kept = left[order[0].numpy()]
        removed = np.sort(np.setdiff1d(left, kept))
        np.testing.assert_array_equal(removed, reference.vectors[f"removed_sorted_{stage}"])
        left = kept


def test_decoder_windowed_box_equals_the_reference(reference: Reference) -> None:
    """Another cell than the plain peak; in a crop of one pixel, pixels are fractions."""
    maps = tuple(reference.outputs[name].numpy() for name in ("score_map", "box_map"))
    former = (0.0, 0.0, 1.0, 1.0)

    proposal = Decoder(get_spec("procontext"))(maps, CropWindow(0, 0, 1), former)

    assert proposal is not None
    x, y, w, h = proposal.box
    close([x + w / 2, y + h / 2, w, h], reference.vectors["hann_box"][0])
    close(proposal.peak, reference.vectors["score"][0, 0])
    assert proposal.score < proposal.peak


@pytest.mark.parametrize(("vectors", "frame_number"), [("seq", 0), ("sequpd", 95)])
def test_tracker_sequence_gives_the_reference_boxes(
    reference: Reference,
    golden_init: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    vectors: str,
    frame_number: int,
) -> None:
    """Without an update, and with one at frame 100, which is the fifth if counted from 95."""
    spec = get_spec("procontext")
    engine = TorchEngine(reference.net, spec, device="cpu", threads=1)
    peaks, updates = watch(engine)
    tracker = Tracker(spec, engine)
    frames, boxes = golden_init.frames(12)

    tracker.init(frames[0], boxes[0])
    monkeypatch.setattr(tracker, "_frame_number", frame_number)
    tracked = [tracker.update(frame).box for frame in frames[1:]]

    np.testing.assert_allclose(
        tracked,
        reference.vectors[f"{vectors}_boxes_xywh"],
        rtol=0,
        atol=SEQUENCE_TOLERANCE_PX,
    )
    close(peaks, reference.vectors[f"{vectors}_scores"])
    assert updates == ([5] if frame_number else [])


def watch(engine: TorchEngine) -> tuple[list[float], list[int]]:
    """Lists that fill with the peak of each score map, and with the frames that updated."""
    peaks: list[float] = []
    updates: list[int] = []
    search, set_dynamic = engine.search, engine.set_dynamic

    def searching(*arguments: Any) -> Any:
        outputs = search(*arguments)
        peaks.append(float(outputs[0].max()))
        return outputs

    def updating(template: Any) -> None:
        updates.append(len(peaks))
        set_dynamic(template)

    engine.search, engine.set_dynamic = searching, updating  # type: ignore[method-assign]
    return peaks, updates


def record(backbone: Any) -> tuple[dict[str, Any], list[Any]]:
    """Outputs of the layers by name and what each pruning keeps, filled by the next pass."""
    layers: dict[str, Any] = {}
    orders: list[Any] = []

    def keep(name: str) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            layers[name] = output

        return hook

    for index, block in enumerate(backbone.blocks):
        block.register_forward_hook(keep(f"block{index}"))
        block.prune = recording(block.prune, layers, f"block{index}", orders)
    return layers, orders


def recording(prune: Any, layers: dict[str, Any], name: str, orders: list[Any]) -> Any:
    def run(*arguments: Any) -> Any:
        x, order = prune(*arguments)
        layers[name] = x
        orders.append(order)
        return x, order

    return run


def close(actual: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=0, atol=TOLERANCE)
