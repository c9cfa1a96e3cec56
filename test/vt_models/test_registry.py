# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys

import pytest

import vt_models
from vt_models import InputError, get_spec, list_models
from vt_models.nets.builders import find_builder, has_miniature, register_model, registered


@pytest.mark.parametrize("name", list_models())
def test_every_specification_is_sane(name) -> None:
    spec = get_spec(name)
    assert spec.name == name
    assert spec.template_size % 16 == 0
    assert spec.search_size % 16 == 0
    assert 0.0 < spec.template_factor < spec.search_factor
    assert all(0.0 <= value < 1.0 for value in spec.mean)
    assert all(0.0 < value < 1.0 for value in spec.std)
    assert spec.decoder in ("box", "dense")
    for value in (spec.window_influence, spec.size_smoothing, spec.size_calibration):
        assert 0.0 <= value <= 1.0
    assert spec.scale_penalty >= 0.0
    if spec.decoder == "box":
        assert (spec.window_influence, spec.size_smoothing, spec.scale_penalty) == (0.0, 0.0, 0.0)
    ours = spec.paper.startswith("after ")
    if not ours or spec.decoder == "box":
        assert (spec.size_calibration, spec.least_score) == (0.0, 0.0), (
            "the authors believe their boxes"
        )
    assert spec.paper
    assert spec.url.startswith("https://")


def test_the_default_comes_first() -> None:
    assert list_models()[0] == "asymtrack_lite0"


@pytest.mark.parametrize("name", ["asymtrack-t", "", None, 3, []])
def test_an_unknown_name_lists_the_names(name) -> None:
    with pytest.raises(InputError, match="asymtrack_lite0, asymtrack_nano, asymtrack_t"):
        get_spec(name)


def test_a_near_miss_is_suggested() -> None:
    with pytest.raises(InputError, match="did you mean 'asymtrack_t'"):
        get_spec("asymtrak_t")


def test_public_names_are_there() -> None:
    for name in vt_models.__all__:
        assert getattr(vt_models, name) is not None
        assert name in dir(vt_models)
    with pytest.raises(AttributeError, match="no_such_name"):
        vt_models.no_such_name  # noqa: B018


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Target", "LongTermTracker"),
        ("TargetEstimate", "LongTermEstimate"),
        ("TargetSettings", "LongTermSettings"),
        ("create_target", "create_long_term_tracker"),
    ],
)
def test_deprecated_name_works_and_its_warning_names_the_new_one(old: str, new: str) -> None:
    with pytest.warns(DeprecationWarning, match=rf"vt_models\.{old} is now .*vt_models\.{new};"):
        found = getattr(vt_models, old)
    assert found is getattr(vt_models, new)
    assert old not in vt_models.__all__


def test_importing_the_package_is_light(repository) -> None:
    code = (
        "import sys, vt_models; vt_models.list_models();"
        "print([m for m in ('numpy', 'cv2', 'onnxruntime', 'torch') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=repository
    )
    assert result.stdout.strip() == "[]"


def test_builders_and_specifications_belong_together() -> None:
    """Each specification finds its builder in its family's module; no builder is left over."""
    pytest.importorskip("torch", reason="needs the training packages")
    builds = [find_builder(get_spec(name)) for name in list_models()]
    assert [build.__name__ for build in builds] == list_models()
    families = [build.__module__ for build in builds]
    assert families == [f"vt_models.nets.{get_spec(name).family}" for name in list_models()]
    assert registered().keys() == set(list_models())
    miniatures = {name for name, build in registered().items() if has_miniature(build)}
    small = {"asymtrack_lite0", "asymtrack_nano", "procontext_tiny"}
    small |= {"asymtrack_t", "asymtrack_s", "asymtrack_b"}
    assert miniatures == set(list_models()) - small
    for name in list_models():
        build = find_builder(get_spec(name), miniature=True)
        keywords = getattr(build, "keywords", {})
        assert keywords == ({"miniature": True} if name in miniatures else {})


def test_register_model_twice_is_refused() -> None:
    pytest.importorskip("torch", reason="needs the training packages")
    with pytest.raises(ValueError, match=r"asymtrack\.asymtrack_t is registered already"):
        register_model(find_builder(get_spec("asymtrack_t")))
