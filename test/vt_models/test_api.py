# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

import vt_models
from vt_models import InputError, Tracker, WeightsError
from vt_models.runtime.installed_weights import bundled_directory
from vt_models.runtime.onnx_engine import OnnxEngine


def test_create_tracker_unknown_device_or_backend_is_an_input_error(exported_small) -> None:
    with pytest.raises(InputError, match="auto, cpu, cuda, tensorrt"):
        OnnxEngine(exported_small, "gpu")
    with pytest.raises(InputError, match="onnxruntime, torch"):
        vt_models.create_tracker("asymtrack_lite0", exported_small, backend="tflite")


def test_create_tracker_from_a_directory_tracks(exported_small, moving_square) -> None:
    frames, boxes = moving_square
    tracker = vt_models.create_tracker("asymtrack_lite0", exported_small, threads=1)
    assert isinstance(tracker, Tracker)
    assert tracker.spec.search_size == 64
    tracker.init(frames[0], boxes[0])
    assert 0.0 <= tracker.update(frames[1]).score <= 1.0


def test_create_tracker_weights_of_another_model_are_refused(exported_small) -> None:
    with pytest.raises(WeightsError, match="holds asymtrack_lite0, not asymtrack_t"):
        vt_models.create_tracker("asymtrack_t", exported_small)


def test_create_tracker_missing_or_unusable_weights_are_refused(tmp_path) -> None:
    with pytest.raises(WeightsError, match="do not exist"):
        vt_models.create_tracker("asymtrack_t", tmp_path / "nothing")
    with pytest.raises(WeightsError, match=r"model\.json does not exist"):
        vt_models.create_tracker("asymtrack_t", tmp_path)
    (tmp_path / "file.pth").write_bytes(b"x")
    with pytest.raises(WeightsError, match="weights import"):
        vt_models.create_tracker("asymtrack_t", tmp_path / "file.pth")
    with pytest.raises(WeightsError, match=r"no weights\.safetensors"):
        vt_models.create_tracker("asymtrack_t", tmp_path, backend="torch")


@pytest.mark.parametrize("name", vt_models.list_models())
def test_create_tracker_bundled_weights_track_or_the_error_helps(name, moving_square) -> None:
    frames, boxes = moving_square
    if bundled_directory(vt_models.get_spec(name)) is None:
        with pytest.raises(
            WeightsError, match=f"no weights are bundled for {name}.*weights import"
        ):
            vt_models.create_tracker(name)
        return
    tracker = vt_models.create_tracker(name, device="cpu")
    tracker.init(frames[0], boxes[0])
    for frame in frames[1:]:
        estimate = tracker.update(frame)
        assert np.isfinite(estimate.box).all()


def test_create_tracker_takes_one_thread_whatever_the_backend() -> None:
    torch = pytest.importorskip("torch", reason="needs the training packages")
    torch.set_num_threads(2)
    vt_models.create_tracker("asymtrack_lite0", backend="torch", device="cpu")
    assert torch.get_num_threads() == 1
