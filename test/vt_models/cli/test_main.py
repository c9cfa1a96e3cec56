# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import argparse
import csv
import importlib
import json
import logging
import operator
import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

import vt_models
from vt_models import InputError, api
from vt_models.cli import arguments, doctor, options
from vt_models.cli.export import with_settings
from vt_models.cli.main import COMMANDS, EXTRAS, declare, main, module_of
from vt_models.datasets import kinds
from vt_models.evaluation.baselines import BASELINES
from vt_models.evaluation.metrics.protocols import PROTOCOLS
from vt_models.grounding import list_grounders
from vt_models.tracker.tracker import Tracker
from vt_models.video.sources import VideoFile, open_recorded

if TYPE_CHECKING:
    from pathlib import Path

BOX = "40,50,24,24"


@pytest.fixture
def folder(tmp_path: Path, moving_square) -> Path:
    """The sequence as images named so that sorting by text would be wrong: 1, 10, 11, 2, ..."""
    path = tmp_path / "images"
    path.mkdir()
    for index, frame in enumerate(moving_square[0]):
        cv2.imwrite(str(path / f"{index + 1}.png"), frame[..., ::-1].copy())
    return path


@pytest.fixture
def video(tmp_path: Path, moving_square) -> Path:
    path = tmp_path / "video.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (160, 120))
    for frame in moving_square[0]:
        writer.write(frame[..., ::-1].copy())
    writer.release()
    return path


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """Standard error, which must be one line, beside an empty standard output."""
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_help_lists_every_command(capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_the_two_functions(name, capsys) -> None:
    training = {
        "train",
        "distill-backbone",
        "distill-text-encoder",
        "ground-train",
        "ground-export",
    }
    if name in training:
        pytest.importorskip("torch", reason="needs the training packages")
    elif name == "weights":
        pytest.importorskip("safetensors", reason="needs the training packages")
    module = importlib.import_module(module_of(name))
    assert callable(module.run)
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    assert "--" in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], *([name] for name in COMMANDS)], ids=str)
def test_help_loads_no_numeric_package(words, repository) -> None:
    code = (
        "import sys; from vt_models.cli.main import main\n"
        f"try: main([*{words}, '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = ('numpy', 'cv2', 'onnxruntime', 'torch')\n"
        "print([m for m in heavy if m in sys.modules], file=sys.stderr)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=repository
    )
    assert result.stderr.strip() == "[]"


def test_arguments_that_are_written_down_are_those_of_the_packages() -> None:
    assert tuple(sorted(kinds.DATASETS)) == arguments.DATASETS
    assert tuple(kinds.IMAGE_SETS) == arguments.IMAGE_SETS
    assert tuple(PROTOCOLS) == arguments.PROTOCOLS


@pytest.mark.parametrize(
    ("command", "settings", "names"),
    [
        ("pseudo-label", "data.pseudo_label.PseudoSettings", "clips length stride regions seed"),
        ("pseudo-label", "data.pseudo_label.PseudoSettings", "threshold score max_side"),
        (
            "distill-backbone",
            "distillation.backbone.BackboneSettings",
            "samples batch_size lr seed",
        ),
        (
            "distill-text-encoder",
            "distillation.text_encoder.ShrinkSettings",
            "steps batch_size seed",
        ),
        ("ground-train", "text_detector.DetectorSettings", "size seed optim.samples"),
        ("ground-train", "text_detector.DetectorSettings", "optim.batch_size"),
    ],
)
def test_defaults_of_training_commands_are_those_of_their_settings(
    command, settings, names
) -> None:
    pytest.importorskip("torch", reason="needs the training packages")
    module, name = settings.rsplit(".", 1)
    expected = getattr(importlib.import_module(f"vt_models.training.{module}"), name)()
    parser = argparse.ArgumentParser()
    declare(command, parser)
    for field in names.split():
        default = parser.get_default(field.rpartition(".")[2])
        assert default == operator.attrgetter(field)(expected), field


def test_python_m_is_the_same_program(repository) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "vt_models", "models", "--json"],
        check=True,
        capture_output=True,
        text=True,
        cwd=repository,
    )
    names = [entry["name"] for entry in json.loads(result.stdout)["models"]]
    assert names == vt_models.list_models()


@pytest.mark.parametrize(
    "arguments",
    [[], ["nothing"], ["track"], ["track", "x.mp4", "--box", "1,2,3"], ["models", "--what"]],
)
def test_a_wrong_call_is_one_line_and_status_2(arguments, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "--help" in one_line(capsys)


def test_models_as_text(capsys) -> None:
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = vt_models.list_models()
    assert [line.split()[0] for line in lines[1 : 1 + len(names)]] == names


def test_track_a_folder_to_csv_video_and_json(folder, exported_small, tmp_path, capsys) -> None:
    outputs = [tmp_path / "out.csv", tmp_path / "out.mp4"]
    arguments = ["track", str(folder), "--box", BOX, "--weights", str(exported_small), "--json"]
    for path in outputs:
        arguments += ["--output", str(path)]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert "frame" in captured.err  # the progress bar
    assert result["model"] == "asymtrack_lite0"
    assert result["frames"] == len(result["boxes"]) == len(result["scores"]) == 12
    assert result["boxes"][0] == [40, 50, 24, 24]
    assert result["ms_per_frame_p50"] > 0
    assert result["outputs"] == [str(path) for path in outputs]

    with outputs[0].open() as file:
        rows = list(csv.DictReader(file))
    assert [row["frame"] for row in rows] == [str(index) for index in range(12)]
    assert [float(rows[5][key]) for key in "xywh"] == pytest.approx(result["boxes"][5], abs=1e-3)
    assert open_recorded(outputs[1]).count == 12
    assert not list(tmp_path.glob(".*"))


def test_track_a_video_as_text(video, exported_small, capsys) -> None:
    assert main(["track", str(video), "--box", BOX, "--weights", str(exported_small)]) == 0
    text = capsys.readouterr().out
    assert text.startswith("12 frames with asymtrack_lite0")
    assert "last box" in text


def test_images_come_in_natural_order_and_as_rgb(folder, moving_square) -> None:
    for found, expected in zip(open_recorded(folder), moving_square[0], strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_source_can_be_read_twice(video) -> None:
    source = open_recorded(video)
    assert source.fps == 25.0
    assert [len(list(source)) for _ in range(2)] == [12, 12]


def test_open_recorded_invalid_file_is_refused(tmp_path) -> None:
    for name in ("text.mp4", "text.txt"):  # FFmpeg would play the latter, as a film of letters
        (tmp_path / name).write_text("no video\n" * 100)
        with pytest.raises(InputError, match="not a video"):
            open_recorded(tmp_path / name)
    with pytest.raises(InputError, match="has no images"):
        open_recorded(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"broken\.png: not a decodable image"):
        list(open_recorded(tmp_path))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"video": "nothing.mp4"}, "does not exist"),
        ({"--box": "500,500,5,5"}, "outside the 160x120 frame"),
        ({"--box": "nan,0,5,5"}, "not finite"),
        ({"--model": "asymtrack"}, "no model called 'asymtrack'"),
        ({"--model": "asymtrack_t"}, "not asymtrack_t"),
        ({"--weights": "nothing"}, "do not exist"),
        ({"--device": "gpu"}, "no device called 'gpu'"),
        ({"--threads": "0"}, "threads"),
        ({"--text": "a dog"}, "takes no text"),
        ({"--output": "out.txt"}, "must end in .mp4 or .csv"),
        ({"--output": "missing/out.mp4"}, "does not exist; create it"),
    ],
)
def test_track_errors_are_one_line_and_status_2(
    folder, exported_small, tmp_path, monkeypatch, capfd, change, words
) -> None:
    monkeypatch.chdir(tmp_path)
    options = {"--box": BOX, "--weights": str(exported_small), **change}
    source = options.pop("video", str(folder))
    arguments = [word for pair in options.items() for word in pair]
    assert main(["track", source, *arguments]) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("vt-models: error: ")
    assert words in line
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_track_refuses_an_output_that_is_no_file_before_it_tracks(
    folder, exported_small, tmp_path, capfd, kind
) -> None:
    output = tmp_path / "out.csv"
    if kind == "pipe":
        os.mkfifo(output)
    elif kind == "folder":
        output.mkdir()
    else:
        output.symlink_to("/dev/null")
    arguments = ["track", str(folder), "--box", BOX, "--weights", str(exported_small)]
    assert main([*arguments, "--output", str(output)]) == 2
    captured = capfd.readouterr()
    assert "out.csv is there and is not a regular file; give another name" in captured.err
    assert captured.err.count("\n") == 1, "frames were tracked"


@pytest.mark.usefixtures("ctrl_c_counts")
@pytest.mark.parametrize("by", ["image", signal.SIGINT, signal.SIGTERM])
def test_track_that_stops_midway_keeps_what_it_has(
    folder, exported_small, tmp_path, capsys, monkeypatch, by
) -> None:
    if by == "image":
        (folder / "5.png").write_bytes(b"broken")
    else:
        update, seen = Tracker.update, []

        def interrupted(self, frame):
            seen.append(frame)
            if len(seen) == 4:
                signal.raise_signal(by)
            return update(self, frame)

        monkeypatch.setattr(Tracker, "update", interrupted)
    outputs = [tmp_path / "out.mp4", tmp_path / "out.csv"]
    arguments = ["track", str(folder), "--box", BOX, "--weights", str(exported_small)]
    for path in outputs:
        arguments += ["--output", str(path)]
    assert main(arguments) == (2 if by == "image" else 130)
    said = capsys.readouterr().err.splitlines()[-1]
    assert ("5.png" in said) if by == "image" else ("interrupted after 4 frames" in said)
    assert open_recorded(outputs[0]).count == 4
    assert len(outputs[1].read_text().splitlines()) == 5


@pytest.mark.parametrize("link", [False, True])
def test_track_does_not_write_over_the_video_that_it_reads(
    video, exported_small, tmp_path, capsys, link
) -> None:
    source = video.rename(tmp_path / "video.mp4")
    output = tmp_path / "link.mp4" if link else source
    if link:
        output.symlink_to(source)
    before = source.read_bytes()
    arguments = ["track", str(source), "--box", BOX, "--weights", str(exported_small)]
    assert main([*arguments, "--output", str(output)]) == 2
    assert f"--output {output} is {source}, which is read" in one_line(capsys)
    assert source.read_bytes() == before


def test_track_says_that_a_video_ends_before_its_last_frame(
    video, exported_small, monkeypatch, capsys
) -> None:
    real = VideoFile.__init__

    def declares_more(self, *arguments):
        real(self, *arguments)
        self.count = 120

    monkeypatch.setattr(VideoFile, "__init__", declares_more)
    assert main(["track", str(video), "--box", BOX, "--weights", str(exported_small)]) == 1
    assert "declares 120 frames and ends after 12" in capsys.readouterr().err


def test_track_on_a_full_disk_names_the_file_and_says_what_it_found(
    folder, exported_small, tmp_path, capsys, monkeypatch
) -> None:
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vt_models.files.os.fsync", full)
    arguments = ["track", str(folder), "--box", BOX, "--weights", str(exported_small), "--json"]
    outputs = [tmp_path / "out.csv", tmp_path / "out.mp4"]
    for path in outputs:
        arguments += ["--output", str(path)]
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert json.loads(captured.out)["outputs"] == []
    for path in outputs:
        assert str(path) in captured.err.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


@pytest.mark.parametrize(
    ("package", "remedy"),
    [
        ("torch", "run pip install '.[train]' in a checkout of vt_ros"),
        ("timm.layers", "run pip install '.[train]' in a checkout of vt_ros"),
        ("transformers", "run pip install '.[grounding]' in a checkout of vt_ros"),
        ("jinja2", "run pip install '.[report]' in a checkout of vt_ros"),
        ("tqdm", "run pip install . in a checkout of vt_ros"),
        ("their_module", "install it"),
    ],
)
def test_a_missing_package_is_named_with_what_brings_it(
    monkeypatch, capsys, package: str, remedy: str
) -> None:
    def missing(name: str):
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)

    monkeypatch.setattr("vt_models.cli.main.import_module", missing)
    assert main(["train", "x.yaml"]) == 2
    assert one_line(capsys).strip().endswith(f"needs the Python package {package!r}; {remedy}")


def test_a_package_that_is_there_but_broken_is_named(tmp_path, monkeypatch, capsys) -> None:
    """Some other package has changed protobuf, for instance, and tensorboard raises at import."""
    (tmp_path / "their_board").mkdir()
    (tmp_path / "their_board/__init__.py").write_text("raise RuntimeError('gencode 6, runtime 5')")
    monkeypatch.syspath_prepend(tmp_path)
    real = importlib.import_module
    monkeypatch.setattr("vt_models.cli.main.import_module", lambda _: real("their_board"))
    assert main(["train", "x.yaml"]) == 2
    said = "train cannot load the Python package 'their_board': RuntimeError: gencode 6, runtime 5"
    assert said in one_line(capsys)


def test_an_error_of_ours_is_not_explained_away(monkeypatch) -> None:
    def mistaken(_):
        raise RuntimeError

    monkeypatch.setattr("vt_models.cli.models.run", mistaken)
    with pytest.raises(RuntimeError):
        main(["models"])


def test_what_the_system_refuses_is_one_line_and_status_2(monkeypatch, capsys) -> None:
    def full(_):
        raise OSError(28, "No space left on device", "out/x.npz")

    monkeypatch.setattr("vt_models.cli.models.run", full)
    assert main(["models"]) == 2
    assert "models failed: out/x.npz: No space left on device" in one_line(capsys)


def test_every_requirement_has_a_remedy(repository: Path) -> None:
    imported_as = {"opencv-contrib-python-headless": "cv2", "PyYAML": "yaml"}
    for name in ("runtime", "train", "grounding", "report", "bags", "streams"):
        for line in (repository / "requirements" / f"{name}.txt").read_text().splitlines():
            if found := re.match(r"[\w-]+", line):
                module = imported_as.get(found[0], found[0].replace("-", "_"))
                assert module in EXTRAS, line


def test_an_interrupt_is_one_line_and_status_130(monkeypatch, capsys) -> None:
    def interrupt(args):
        raise KeyboardInterrupt

    monkeypatch.setattr("vt_models.cli.models.run", interrupt)
    assert main(["models"]) == 130
    assert "interrupted" in one_line(capsys)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_is_an_interrupt(monkeypatch, capsys, number) -> None:
    def wait(args):
        signal.raise_signal(number)
        raise AssertionError

    before = signal.signal(number, signal.SIG_DFL)
    monkeypatch.setattr("vt_models.cli.models.run", wait)
    try:
        assert main(["models"]) == 130
        assert "interrupted" in one_line(capsys)
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)


def test_nohup_is_respected(monkeypatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    monkeypatch.setattr("vt_models.cli.models.run", lambda _: signal.raise_signal(signal.SIGHUP))
    try:
        assert not main(["models"])
    finally:
        signal.signal(signal.SIGHUP, before)


def test_export_from_a_weights_file(tmp_path, capsys) -> None:
    pytest.importorskip("torch", reason="needs the training packages")
    from vt_models.weights.tensors import save_weights  # noqa: PLC0415 - needs safetensors

    name = "asymtrack_lite0"
    file, output = tmp_path / "w.safetensors", tmp_path / "out"
    save_weights(vt_models.create_model(name).state_dict(), file, name)
    arguments = ["export", name, "--weights", str(file), "--output", str(output)]
    assert main([*arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["output"] == str(output)
    assert result["weights"]["source"] == "w.safetensors"
    assert vt_models.create_tracker(name, output, device="cpu").spec.name == name
    assert main(arguments) == 0
    assert "differs from torch by" in capsys.readouterr().out
    assert main(["export", "asymtrack_t", "--weights", str(file), "--output", str(output)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_an_export_keeps_the_settings_that_its_weights_want(tmp_path) -> None:
    pytest.importorskip("torch", reason="needs the training packages")
    from vt_models.weights.tensors import save_weights  # noqa: PLC0415 - needs safetensors

    name = "asymtrack_t"
    file, output = tmp_path / "w.safetensors", tmp_path / "out"
    save_weights(vt_models.create_model(name).state_dict(), file, name)
    arguments = ["export", name, "--weights", str(file), "--output", str(output)]
    assert main([*arguments, "--set", "clip_margin=2", "--set", "size_smoothing=0.5"]) == 0
    spec = vt_models.create_tracker(name, output, device="cpu").spec
    assert (spec.clip_margin, spec.size_smoothing) == (2, 0.5)
    assert vt_models.get_spec(name).clip_margin == 10, "the authors' weights keep their own"


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("clip_margin=2.5", "whole number"),
        ("clip_margin=-1", "0 or more"),
        ("size_smoothing=nan", "from 0 to 1"),
        ("size_smoothing=fast", "from 0 to 1"),
        ("size_calibration=1.5", "from 0 to 1"),
        (
            "window_influence=0.3",
            "it has clip_margin, size_calibration, size_smoothing, least_score",
        ),
        ("search_size=512", "no setting 'search_size'"),
        ("clip_margin", "whole number"),
    ],
)
def test_settings_of_an_export_are_checked_first(setting, words, tmp_path, capsys) -> None:
    output = tmp_path / "out"
    arguments = ["export", "asymtrack_t", "--weights", "none.safetensors", "--output", str(output)]
    assert main([*arguments, "--set", setting]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert setting in said
    assert not output.exists()


def test_export_set_with_the_old_name_is_accepted_with_a_warning(capsys) -> None:
    spec = with_settings(vt_models.get_spec("asymtrack_t"), ["size_fit=0.3"])
    assert spec.size_calibration == 0.3
    assert capsys.readouterr().err == "warning: --set size_fit is now called size_calibration\n"
    assert with_settings(spec, ["size_calibration=0.2"]).size_calibration == 0.2
    assert not capsys.readouterr().err


@pytest.mark.parametrize("backend", ["torch", "onnxruntime"])
def test_a_weights_file_tracks_with_both_backends(backend, tmp_path, moving_square) -> None:
    pytest.importorskip("torch", reason="needs the training packages")
    from vt_models.weights.tensors import save_weights  # noqa: PLC0415 - needs safetensors

    frames, boxes = moving_square
    name, file = "asymtrack_lite0", tmp_path / "w.safetensors"
    save_weights(vt_models.create_model(name).state_dict(), file, name)
    tracker = vt_models.create_tracker(name, file, backend=backend, device="cpu", threads=1)
    tracker.init(frames[0], boxes[0])
    assert np.isfinite(tracker.update(frames[1]).box).all()


def test_doctor_explains_every_part(capsys) -> None:
    status = main(["doctor", "--json"])
    result = json.loads(capsys.readouterr().out)
    assert result["ok"] == (status == 0)
    states = {check["name"]: check["state"] for check in result["checks"]}
    for part in ("python", "numpy", "cv2", "onnxruntime"):
        assert states[part] == "ok"
    assert {f"weights {name}" for name in vt_models.list_models()} <= set(states)
    for check in result["checks"]:
        assert check["detail"]
        if check["state"] == "error":
            assert check["remedy"]
    main(["doctor"])
    assert "OK  python" in capsys.readouterr().out


def test_doctor_names_what_is_broken_and_how_to_mend_it(monkeypatch, capsys) -> None:
    real = importlib.import_module

    def broken(name: str):
        if name in ("torch", "rclpy", "jinja2"):
            raise ModuleNotFoundError(f"no {name} today", name=name)
        if name in ("onnxruntime", "torch.utils.tensorboard"):
            raise ImportError(f"no {name} today")
        return real(name)

    monkeypatch.setattr(doctor, "import_module", broken)
    assert main(["doctor"]) == 1
    text = capsys.readouterr().out
    assert "!!  onnxruntime" in text
    assert "pip install onnxruntime" in text
    assert "--  torch" in text
    assert "--  rclpy" in text
    assert re.search("--  extra report +without jinja2\n.*'.\\[report\\]'", text)
    said = "tensorboard cannot be loaded: ImportError: no torch.utils.tensorboard today"
    assert re.search(f"!!  extra train +{said}\n.*'.\\[train\\]'", text)


@pytest.mark.parametrize("command", ["eval", "bench"])
def test_main_old_spelling_of_an_option_works_and_names_the_new_one(
    command, monkeypatch, capsys
) -> None:
    seen = []
    monkeypatch.setattr(f"vt_models.cli.{command}.run", lambda args: seen.append(args) or 0)
    options = [] if command == "bench" else ["--model", "m", "--dataset", "folder", "--root", "."]
    assert main([command, *options, "--peers=csrt", "--peer-weights", "folder"]) == 0
    assert seen[0].baselines == ["csrt"]
    assert str(seen[0].baseline_weights) == "folder"
    first, second = capsys.readouterr().err.splitlines()
    assert "--peers is now --baselines" in first
    assert "--peer-weights is now --baseline-weights" in second


def test_main_old_name_of_a_command_works_and_names_the_new_one(monkeypatch, capsys) -> None:
    pytest.importorskip("torch", reason="needs the training packages")
    monkeypatch.setattr("vt_models.cli.distill_text_encoder.run", lambda args: 0)
    assert main(["shrink-text", "teacher.safetensors", "--output", "out.safetensors"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert "shrink-text is now distill-text-encoder" in line


@pytest.mark.parametrize("renamed", sorted(options.RENAMED_OPTIONS))
def test_renamed_options_lead_to_options_that_exist(renamed, capsys) -> None:
    with pytest.raises(SystemExit):
        main([renamed, "--help"])
    text = capsys.readouterr().out
    for old, new in options.RENAMED_OPTIONS[renamed].items():
        assert f"{new} " in text
        assert old not in text.replace(f"--grounding{old[1:]}", "")


def test_with_current_names_leaves_values_and_other_commands_alone(capsys) -> None:
    words = ["track", "x.mp4", "--backend", "torch", "--text", "a--peers=1"]
    assert options.with_current_names(words) == words
    assert options.with_current_names([]) == []
    assert capsys.readouterr().err == ""


def test_shared_options_name_what_the_packages_have() -> None:
    assert tuple(list_grounders()) == options.GROUNDERS
    assert api.BACKENDS == options.BACKENDS
    assert tuple(BASELINES) == options.BASELINES


@pytest.mark.parametrize(("option", "default"), [("--device", "auto"), ("--backend", None)])
def test_every_command_spells_and_defaults_an_option_alike(option, default) -> None:
    for name in COMMANDS:
        parser = argparse.ArgumentParser()
        declare(name, parser)
        action = parser._option_string_actions.get(option)
        if action is not None:
            assert action.default == (default or options.BACKENDS[0]), name


def test_a_log_of_the_library_goes_to_standard_error(monkeypatch, capsys) -> None:
    def run(args):
        logging.getLogger("vt_models.anything").info("kept %d", 2)
        return 0

    monkeypatch.setattr("vt_models.cli.models.run", run)
    assert main(["models"]) == main(["models"]) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "kept 2\nkept 2\n")


def test_a_text_that_the_terminal_cannot_show_is_escaped(tmp_path: Path) -> None:
    image = tmp_path / "grey.png"
    cv2.imwrite(str(image), np.full((64, 64, 3), 90, np.uint8))
    words = ["ground", "--image", str(image), "--text", "F\u00fc\u00dfe"]
    result = subprocess.run(
        [sys.executable, "-m", "vt_models", *words],
        env={**os.environ, "PYTHONIOENCODING": "ascii:strict"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2, "no detector's word"
    assert "does not know what 'f\\xfc\\xdfe' is" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
@pytest.mark.parametrize(
    ("words", "status"), [("models", 0), ("track nowhere.mp4 --box 1,2,3,4", 2)]
)
def test_closed_streams_change_nothing(tmp_path: Path, closed, words, status) -> None:
    """As of a daemon, or of a shell's >&-."""
    command = ["sh", "-c", f"exec '{sys.executable}' -m vt_models {words} {closed}"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == status
    assert "Traceback" not in result.stdout + result.stderr
