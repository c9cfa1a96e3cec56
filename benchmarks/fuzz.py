# SPDX-License-Identifier: Apache-2.0
"""Feed what enters the nodes and the library with malformed inputs, for a bounded time.

    python -m benchmarks.fuzz --minutes 10 --output benchmarks/results/fuzz.json

Each kind of input has its share of the time. Hypothesis draws inputs, most of them right but for
one or a few places, and shrinks what fails. An input may be accepted or refused, with an error of
vt_models or of the node; any other exception, a box or a direction that is not finite, a request
without an answer and a hang fail. Ends with 1 if one did.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import math
import os
import pickle
import reprlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import cv2
import numpy as np
import rclpy
import torch
from builtin_interfaces.msg import Time
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from rclpy.parameter import Parameter
from rclpy.serialization import serialize_message
from safetensors.torch import save
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from vision_msgs.msg import Point2D

from benchmarks.fuzz_inputs import NUMBERS, SIZES, Kind, spoilt
from benchmarks.fuzz_robots import ROBOT_REFUSALS, robot_kinds
from benchmarks.longterm_time import Instant
from benchmarks.result_file import write_result
from vt_interfaces.srv import SetTarget
from vt_models import text
from vt_models.datasets import open_dataset
from vt_models.datasets.image_pack import read_image_pack
from vt_models.datasets.images import read_image
from vt_models.datasets.regions import region_box
from vt_models.datasets.video_list import read_video_list
from vt_models.datasets.videos import read_annotated_videos
from vt_models.errors import InputError, VtModelsError
from vt_models.evaluation.provenance import command_line, provenance
from vt_models.geometry.bearing import BearingFinder
from vt_models.grounding.export_directory import read_detector
from vt_models.longterm import create_long_term_tracker
from vt_models.longterm.calibration import read_calibration
from vt_models.registry import get_spec
from vt_models.runtime.export_directory import read_export
from vt_models.tracker.tracker import Tracker
from vt_models.training.recipe.loader import load_recipe
from vt_models.video.image_messages import ENCODINGS
from vt_models.video.sources import open_source
from vt_models.weights.container import read_checkpoint
from vt_models.weights.tensors import read_tensors
from vt_ros.common.convert import array_to_image, bounding_box_from_xywh
from vt_ros.tracker.current_target import FrameReport, RunningModel
from vt_ros.tracker.image_buffer import (
    BufferedImage,
    ImageBuffer,
    ImageDecoder,
    UnreadableImageError,
)
from vt_ros.tracker.node import TrackerNode
from vt_ros.tracker.parameters import SETTINGS, live_settings
from vt_ros.tracker.target_request import FrameRef, TargetRefusedError, read_request
from vt_ros.tracker.tracking_thread import TrackingThread

ROOT = Path(__file__).resolve().parents[1]
BUNDLED = ROOT / "vt_models" / "weights" / "shipped"
LONGEST = 60.0  # seconds for one input; after these the process ends with all its stacks
REFUSALS = (VtModelsError, UnreadableImageError, TargetRefusedError, *ROBOT_REFUSALS)

JSON_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    NUMBERS,
    st.text(max_size=10),
    st.lists(st.integers(-5, 300), max_size=5),
    st.dictionaries(st.text(max_size=5), st.floats(), max_size=2),
)


@st.composite
def spoilt_json(draw: Callable[[st.SearchStrategy[Any]], Any], whole: bytes) -> bytes:
    """JSON with a few values that are something else."""
    content = json.loads(whole)
    for _ in range(draw(st.integers(1, 3))):
        place, key = {"": content}, ""
        while isinstance(place[key], (dict, list)) and place[key] and draw(st.integers(0, 3)):
            place = place[key]
            key = draw(st.sampled_from([*place] if isinstance(place, dict) else range(len(place))))
        place[key] = draw(JSON_VALUES)
    return json.dumps(content).encode("utf-8", "surrogatepass")


def main(arguments: list[str] | None = None) -> int:
    """Try all kinds, print and write what came of it."""
    parser = argparse.ArgumentParser(prog="benchmarks.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default="", help="only these, separated by commas")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/local/fuzz.json"))
    args = parser.parse_args(arguments)
    about = provenance(command_line(), args.seed)
    os.environ.setdefault("ROS_DOMAIN_ID", "98")  # of its own
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ["OPENCV_FFMPEG_LOGLEVEL"] = "-8"  # what is wrong with a video
    rclpy.init(args=["--ros-args", "--log-level", "fatal", "-p", "autostart:=false"])
    with tempfile.TemporaryDirectory() as folder:
        kinds = message_kinds() | robot_kinds() | file_kinds(Path(folder))
        chosen = args.kinds.split(",") if args.kinds else list(kinds)
        if unknown := sorted(set(chosen) - set(kinds)):
            parser.error(f"no kind {', '.join(unknown)}; there are {', '.join(kinds)}")
        for name in chosen:
            run(kinds[name], 60.0 * args.minutes / len(chosen), args.seed)
            print(name, kinds[name].figures(), flush=True)
    rclpy.shutdown()
    figures = {name: kinds[name].figures() for name in chosen}
    total = {
        "minutes": round(args.minutes, 2),
        "tried": sum(kinds[name].tried for name in chosen),
        "failures": sum(len(kinds[name].failures) for name in chosen),
    }
    write_result(args.output, {"benchmark": "fuzz", **about, **total, "kinds": figures})
    return int(total["failures"] > 0)


def run(kind: Kind, seconds: float, first_seed: int) -> None:
    """Try inputs of a kind for so many seconds; the first failure ends it."""
    end = time.monotonic() + seconds
    options = settings(
        max_examples=200,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )

    is_shrinking = False

    def attempt(value: Any) -> None:
        nonlocal is_shrinking
        if kind.tried and time.monotonic() > end and not is_shrinking:
            return  # the rest of a round costs little
        kind.tried += 1
        faulthandler.dump_traceback_later(LONGEST, exit=True)
        try:
            kind.check(value)
        except REFUSALS:
            kind.refused += 1
        except Exception:
            is_shrinking = True
            raise
        finally:
            faulthandler.cancel_dump_traceback_later()

    while time.monotonic() < end and not kind.failures:
        try:
            seed(first_seed + kind.tried)(options(given(kind.inputs)(attempt)))()
        except Exception as error:  # what the check raised; Hypothesis notes the input
            notes = " ".join(getattr(error, "__notes__", ()))
            kind.failures.append(f"{type(error).__name__}: {error} {notes}"[:2000])


# Messages, requests and parameters


def message_kinds() -> dict[str, Kind]:
    """Return what reaches a node through topics, services and parameters."""
    decoder, finder, node = ImageDecoder(), BearingFinder(), TrackerNode()
    pixels = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    whole = serialize_message(array_to_image(pixels, Header(frame_id="camera")))
    files = [
        cv2.imencode(suffix, pixels, options)[1].tobytes()
        for suffix, options in (
            (".jpg", ()),
            (".jpg", (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)),
            (".png", ()),
            (".bmp", ()),
        )
    ]

    def decode(message: Any, message_type: Any) -> None:
        data = message if isinstance(message, bytes) else serialize_message(message)
        decoder.decode(BufferedImage(1, data, 0.0, 0, message_type))

    def find(info: CameraInfo) -> None:
        finder.take(info)
        bearing = finder.find((3.0, 4.0, 5.0, 6.0), np.eye(4), (32, 24), rectified=bool(info.roi))
        if bearing is None:
            if not finder.problem:
                raise AssertionError("no bearing and no reason")
        elif abs(math.hypot(*bearing.ray) - 1.0) > 1e-6:
            raise AssertionError(f"no unit vector: {bearing}")

    raw = st.one_of(
        spoilt(whole, is_text=False),
        st.builds(
            Image,
            encoding=st.one_of(st.sampled_from(ENCODINGS), st.sampled_from(["", "mono16", "8UC3"])),
            width=SIZES,
            height=SIZES,
            step=SIZES,
            data=st.binary(max_size=300),
        ),
    )
    compressed = st.sampled_from(files).flatmap(lambda file: spoilt(file, is_text=False))
    nine, twelve = (st.lists(NUMBERS, min_size=n, max_size=n) for n in (9, 12))
    infos = st.builds(
        CameraInfo,
        width=st.sampled_from([32, 0, 2**32 - 1]),
        height=st.just(24),
        distortion_model=st.sampled_from(["plumb_bob", "rational_polynomial", "fisheye", "x"]),
        d=st.lists(NUMBERS, max_size=14),
        k=st.one_of(nine, st.just([500.0, 0, 16, 0, 500, 12, 0, 0, 1])),
        p=twelve,
        binning_x=st.sampled_from([0, 1, 2**32 - 1]),
    )
    names = [setting.name for setting in SETTINGS]
    values = st.one_of(
        NUMBERS, st.integers(-(2**63), 2**63 - 1), st.booleans(), st.text(max_size=20)
    )
    return {
        "images": Kind(raw, lambda message: decode(message, Image)),
        "compressed images": Kind(
            compressed.map(lambda data: CompressedImage(format="jpeg", data=data)),
            lambda message: decode(message, CompressedImage),
        ),
        "camera_info": Kind(infos, find),
        "requests and streams": Kind(st.lists(steps(), max_size=8), track),
        "parameters": Kind(
            st.dictionaries(st.sampled_from(names), values, min_size=1, max_size=4),
            lambda given: set_parameters(node, given),
        ),
    }


def steps() -> st.SearchStrategy[tuple[str, Any]]:
    """What happens to a tracking thread: images with any stamps, requests, a target cleared."""
    stamps = st.builds(Time, sec=st.integers(-(2**31), 2**31 - 1), nanosec=st.integers(0, 10**9))
    images = st.tuples(
        stamps, st.sampled_from([(24, 32), (24, 33), (1, 1), (70, 3)]), st.booleans()
    )
    boxes = st.one_of(
        st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS), st.just((8.0, 6.0, 10.0, 10.0))
    )
    requests = st.builds(
        SetTarget.Request,
        mode=st.integers(0, 5),
        box=boxes.map(bounding_box_from_xywh),
        text=st.text(max_size=30).filter(lambda words: "\0" not in words),
        point=st.builds(Point2D, x=NUMBERS, y=NUMBERS),
    )
    return st.one_of(
        st.tuples(st.just("image"), images),
        st.tuples(st.just("request"), requests),
        st.tuples(st.just("clear"), st.none()),
    )


def track(things: list[tuple[str, Any]]) -> None:
    """Do these things to a tracking thread on a network that answers at once."""
    live = live_settings({setting.name: setting.default for setting in SETTINGS}.__getitem__)
    tracker = create_long_term_tracker(Tracker(get_spec("asymtrack_lite0"), Instant()), live.target)
    reports: list[FrameReport] = []
    log = Mock()
    thread = TrackingThread(
        RunningModel(tracker), ImageBuffer(2.0, 1 << 20), lambda: live, reports.append, log
    )
    thread.start()
    answers, rng = [], np.random.default_rng(0)
    try:
        for number, (kind, thing) in enumerate(things, 1):
            if kind == "clear":
                thread.clear_target()
            elif kind == "request":
                try:
                    request = read_request(thing, FrameRef(0, 0.01, 0.05))
                except TargetRefusedError:
                    continue
                if request.box is not None:
                    answers.append(thread.set_target(request))
            else:
                stamp, (height, width), dark = thing
                pixels = rng.integers(0, 1 if dark else 255, (height, width, 3), np.uint8)
                data = serialize_message(array_to_image(pixels, Header(stamp=stamp)))
                nanoseconds = stamp.sec * 10**9 + stamp.nanosec
                thread.offer(BufferedImage(number, data, time.monotonic(), nanoseconds))
            while thread.seconds_without_turn():
                time.sleep(0.0005)
    finally:
        thread.stop(LONGEST / 2)
    if log.error.called or not all(answer.done() for answer in answers):
        raise AssertionError(f"{log.error.mock_calls or 'a request without an answer'}")
    for report in reports:
        if report.failure or not np.isfinite(report.box or (0.0,)).all():
            raise AssertionError(f"{report.failure or report.box}")


def set_parameters(node: TrackerNode, given: dict[str, Any]) -> None:
    """Set parameters together: taken as a whole, or refused with a reason, as a whole."""
    before = {name: node.get_parameter(name).value for name in given}
    wanted = [Parameter(name, value=value) for name, value in given.items()]
    result = node.set_parameters_atomically(wanted)
    if result.successful:
        live_settings(lambda name: node.get_parameter(name).value)
        return
    if not result.reason:
        raise AssertionError("refused without a reason")
    after = {name: node.get_parameter(name).value for name in given}
    if after != before:
        raise AssertionError(f"refused, and changed all the same: {before} {after}")
    raise InputError(result.reason)


# Files


def file_kinds(folder: Path) -> dict[str, Kind]:
    """Return what is read from files; each has a place in the folder, written anew for each try."""
    pixels = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    jpeg = cv2.imencode(".jpg", pixels)[1].tobytes()

    def spoilt_text(whole: bytes) -> st.SearchStrategy[bytes]:
        return spoilt(whole, is_text=True)

    def spoilt_bytes(whole: bytes) -> st.SearchStrategy[bytes]:
        return spoilt(whole, is_text=False)

    def spoilt_values(whole: bytes) -> st.SearchStrategy[bytes]:
        return st.one_of(spoilt_text(whole), spoilt_json(whole))

    def file_kind(place: str, inputs: Any, read: Callable[[Path], Any]) -> Kind:
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)

        def check(data: bytes) -> None:
            path.write_bytes(data)
            read(path)

        return Kind(inputs, check)

    for name in ("asymtrack_lite0", "text_detector"):
        shutil.copytree(BUNDLED / name, folder / name)
    sequence = folder / "dataset" / "sequence" / "img"
    sequence.mkdir(parents=True)
    for number in (1, 2):
        (sequence / f"{number:06d}.jpg").write_bytes(jpeg)
    (folder / "pack" / "img").mkdir(parents=True)
    (folder / "pack" / "img" / "1.jpg").write_bytes(jpeg)
    clip = str(folder / "clip.mp4")
    writer = cv2.VideoWriter(clip, cv2.VideoWriter.fourcc(*"mp4v"), 25, (32, 24))
    for _ in range(5):
        writer.write(pixels)
    writer.release()
    (folder / "videos").mkdir()
    shutil.copy(clip, folder / "videos" / "v.mp4")

    one = {"bbox": [1, 2, 10, 10], "name": "car"}
    size = {"width": 32, "height": 24, "source": "x"}
    pack = json.dumps({"image": "img/1.jpg", "boxes": [one], **size})
    tracks = [{"id": 1, "name": "car", "boxes": [None, [1, 2, 10, 10]]}]
    videos = json.dumps({"video": "v.mp4", "fps": 25, "frames": 2, "tracks": tracks, **size})
    manifest = (BUNDLED / "asymtrack_lite0" / "model.json").read_bytes()
    calibration = json.dumps(json.loads(manifest).get("calibration")).encode()
    vocabulary = json.loads((BUNDLED / "text_detector" / "tokenizer.json").read_bytes())
    words = vocabulary["model"]["vocab"]
    vocabulary["model"]["vocab"] = {word: words[word] for word in list(words)[:120]}
    tokens = json.dumps(vocabulary).encode()
    with tempfile.NamedTemporaryFile(suffix=".pth") as file:
        torch.save({"net": {"weight": torch.arange(6.0).reshape(2, 3)}}, file.name)
        checkpoint = Path(file.name).read_bytes()
    tensors = save({"weight": torch.arange(6.0)}, {"format": "vt_models"})
    pickled = pickle.dumps({"net": [1.0, ("a", {"b": 2})]})

    recipe = (ROOT / "recipes" / "asymtrack_lite0_videos.yaml").read_bytes()
    return {
        "model.json": file_kind(
            "asymtrack_lite0/model.json", spoilt_values(manifest), lambda p: read_export(p.parent)
        ),
        "calibration": file_kind("calibration.json", spoilt_values(calibration), parse_calibration),
        "grounding.json": file_kind(
            "text_detector/grounding.json",
            spoilt_values((BUNDLED / "text_detector" / "grounding.json").read_bytes()),
            lambda p: read_detector(p.parent),
        ),
        "tokenizer.json": Kind(spoilt_values(tokens), text.load_tokenizer),
        ".pth": file_kind(
            "weights.pth",
            st.one_of(spoilt_bytes(checkpoint), spoilt_bytes(pickled)),
            read_checkpoint,
        ),
        ".safetensors": file_kind("weights.safetensors", spoilt_bytes(tensors), read_tensors),
        "recipe": file_kind("recipe.yaml", spoilt_text(recipe), load_recipe),
        "image pack": file_kind(
            "pack/annotations.jsonl",
            spoilt_values(pack.encode()),
            lambda path: read_image_pack(path.parent),
        ),
        "annotated videos": file_kind(
            "videos/annotations.jsonl",
            spoilt_values(videos.encode()),
            lambda path: read_annotated_videos(path.parent),
        ),
        "list of videos": file_kind(
            "videos.tsv",
            spoilt_text((ROOT / "recipes" / "validation.tsv").read_bytes()[:400]),
            read_video_list,
        ),
        "groundtruth.txt": file_kind(
            "dataset/sequence/groundtruth.txt",
            spoilt_text(b"1,2,10,10\n2,3,10,10\n"),
            lambda path: list(open_dataset("folder", path.parents[1], cache=False)),
        ),
        "region": Kind(
            spoilt_text(b"m1,2,10,10,0,5,3,4").map(lambda data: data.decode("utf-8", "replace")),
            lambda line: region_box("line", line),
        ),
        "image file": file_kind("image.jpg", spoilt_bytes(jpeg), read_image),
        "video file": file_kind("video.mp4", spoilt_bytes(Path(clip).read_bytes()), play),
    }


def play(path: Path) -> None:
    """Read the first frames of a video."""
    source = open_source(str(path))
    for _ in range(20):
        if source.read_bgr() is None:
            break
    source.close()


def parse_calibration(path: Path) -> None:
    """Read what model.json says about the score."""
    try:
        entry = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return  # model.json is read elsewhere
    read_calibration(entry)


if __name__ == "__main__":
    reprlib.aRepr.maxstring = 200
    sys.exit(main())
