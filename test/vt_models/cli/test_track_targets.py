# SPDX-License-Identifier: Apache-2.0
"""`vt-models track` of a bag: what is written, who can read it, and what is refused."""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

pytest.importorskip("rosbags", reason="the extra bags is not installed")

from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from vt_models.cli.main import main

IMAGE, STRING = "sensor_msgs/msg/Image", "std_msgs/msg/String"
SHAPE = (120, 160, 3)
FRAMES, DARK, FOREIGN = 30, range(12, 15), range(18, 22)


def place(number):
    return 30.0 + 2.0 * number, 40.0 + number, 28.0, 28.0


@pytest.fixture(scope="module")
def frames():
    """A patterned square that moves; dark for three frames, another scene for four."""
    rng = np.random.default_rng(3)
    scene = cv2.resize(rng.integers(0, 120, (15, 20, 3), np.uint8), (160, 120))
    other = cv2.resize(rng.integers(100, 255, (15, 20, 3), np.uint8), (160, 120))
    pattern = cv2.resize(rng.integers(120, 255, (4, 4, 3), np.uint8), (28, 28))
    found = []
    for number in range(FRAMES):
        frame = scene.copy()
        x, y, w, h = map(int, place(number))
        frame[y : y + h, x : x + w] = pattern
        if number in DARK:
            frame[:] = 0
        found.append(other.copy() if number in FOREIGN else frame)
    return found


@pytest.fixture(scope="module")
def bag(bags, frames, tmp_path_factory):
    return bags.of_frames(tmp_path_factory.mktemp("bags") / "flight", frames)


def box(number=0):
    return ",".join(str(value) for value in place(number))


def track(*words):
    return main(["track", *map(str, words)])


def read(path):
    """Messages by topic as (time, message), by the definitions that the file itself has."""
    found = {}
    with Reader(path) as reader:
        store = get_typestore(Stores.EMPTY)
        for connection in reader.connections:
            types = get_types_from_msg(connection.msgdef.data, connection.msgtype)
            store.register({name: one for name, one in types.items() if name not in store.types})
        for connection, stamp, data in reader.messages():
            message = store.deserialize_cdr(data, connection.msgtype)
            found.setdefault(connection.topic, []).append((stamp, message))
    return found


def names(messages):
    return [["IDLE", "TRACKING", "UNCERTAIN", "COASTING", "LOST"][one.state] for _, one in messages]


@pytest.fixture(scope="module")
def tracked(bag, tmp_path_factory):
    """Every output of a run that starts at the fourth frame."""
    folder = tmp_path_factory.mktemp("tracked")
    outputs = {suffix: folder / f"out.{suffix}" for suffix in ("mcap", "csv", "mp4", "html")}
    words = [word for path in outputs.values() for word in ("--output", path)]
    assert track(bag, "--box", box(3), "--at", "0.3", *words) == 0
    return outputs


def test_bag_has_a_status_for_every_image_with_its_stamp_and_frame(bag, tracked):
    source, found = read(bag), read(tracked["mcap"])
    for topic in source:
        assert [stamp for stamp, _ in found[topic]] == [stamp for stamp, _ in source[topic]]
    images, statuses = found["/camera/image_raw"], found["/tracker/status"]
    assert len(statuses) == FRAMES
    for (image_time, image), (status_time, status) in zip(images, statuses, strict=True):
        assert status_time == image_time
        assert repr(status.header.stamp) == repr(image.header.stamp)
        assert status.header.frame_id == "optical"
        assert (status.image_width, status.image_height) == (160, 120)
        assert np.isnan(status.inference_ms)
        assert np.isnan(status.image_age_ms)
    states = names(statuses)
    assert states[:3] == ["IDLE"] * 3
    assert states[3:12] == ["TRACKING"] * 9
    assert {states[number] for number in DARK} == {"COASTING"}
    assert states[20] == "LOST"
    assert [status.target_id for _, status in statuses] == [0] * 3 + [1] * 27
    assert [status.frames_processed for _, status in statuses] == list(range(1, FRAMES + 1))
    assert statuses[3][1].message == "target 1 set"


def test_bag_has_detections_bearings_and_annotations(tracked):
    found = read(tracked["mcap"])
    states = names(found["/tracker/status"])
    for (_, detections), state in zip(found["/tracker/detections"], states, strict=True):
        assert len(detections.detections) == (state not in ("IDLE", "LOST"))
        for one in detections.detections:
            expected = "coasting" if state == "COASTING" else "target"
            assert one.results[0].hypothesis.class_id == expected
            assert one.results[0].pose.pose.orientation.w == 1.0
    (first,) = found["/tracker/detections"][3][1].detections
    assert (first.bbox.center.position.x, first.bbox.center.position.y) == (50.0, 57.0)
    assert (first.bbox.size_x, first.bbox.size_y, first.id) == (28.0, 28.0, "1")
    measured = [state in ("TRACKING", "UNCERTAIN") for state in states]
    assert len(found["/tracker/bearing"]) == sum(measured)
    direction = found["/tracker/bearing"][0][1].vector
    # Focal length 200, centre (80, 60); a pixel's middle is at + 0.5.
    assert direction.x / direction.z == pytest.approx((50.0 - 0.5 - 80.0) / 200.0, abs=0.003)
    azimuth = found["/tracker/status"][3][1].azimuth
    assert azimuth == pytest.approx(np.arctan2(direction.x, direction.z), abs=1e-6)
    assert len(found["/tracker/annotations"]) == FRAMES
    (label,) = found["/tracker/annotations"][3][1].texts
    assert label.text == "TRACKING 1.00"


def test_bag_is_read_by_mcap_as_foxglove_reads_it(bag, tracked):
    factory = pytest.importorskip("mcap_ros2.decoder", reason="needs mcap-ros2-support")
    reader = pytest.importorskip("mcap.reader")
    with tracked["mcap"].open("rb") as file:
        decoded = reader.make_reader(file, decoder_factories=[factory.DecoderFactory()])
        summary = decoded.get_summary()
        assert summary.statistics.message_count > 4 * FRAMES
        found = [
            (channel.topic, schema.encoding, message)
            for schema, channel, _, message in decoded.iter_decoded_messages()
        ]
    assert {encoding for _, encoding, _ in found} == {"ros2msg"}
    ours = read(tracked["mcap"])
    for topic, messages in ours.items():
        assert sum(name == topic for name, _, _ in found) == len(messages)
    theirs = [message for topic, _, message in found if topic == "/tracker/status"]
    assert [one.state for one in theirs] == [one.state for _, one in ours["/tracker/status"]]
    assert [one.score for one in theirs] == [one.score for _, one in ours["/tracker/status"]]


def test_same_bag_gives_the_same_bytes(bag, tracked, tmp_path):
    again = tmp_path / "out.mcap"
    assert track(bag, "--box", box(3), "--at", "0.3", "--output", again) == 0
    assert again.read_bytes() == tracked["mcap"].read_bytes()


def test_other_outputs_tell_the_same(tracked):
    statuses = read(tracked["mcap"])["/tracker/status"]
    rows = list(csv.DictReader(tracked["csv"].open()))
    assert [row["state"] for row in rows] == names(statuses)
    assert rows[3]["stamp"] == "100.300000000"
    assert [float(rows[3][key]) for key in "xywh"] == list(place(3))
    assert rows[0]["x"] == ""
    capture = cv2.VideoCapture(str(tracked["mp4"]))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == FRAMES
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(10.0, abs=0.01)
    page = tracked["html"].read_text()
    assert "COASTING" in page
    changes = sum(a != b for a, b in itertools.pairwise(["", *names(statuses)]))
    assert page.count("<img src=") == changes
    assert "http" not in page.replace("http://www.w3.org", "")


def test_several_targets_of_a_file_have_topics_of_their_own(bag, frames, tmp_path, capsys):
    file, out = tmp_path / "targets.yaml", tmp_path / "out.mcap"
    first, second = list(place(0)), list(place(5))
    file.write_text(
        f"targets:\n- {{name: early, box: {first}}}\n- {{name: late, box: {second}, at: 0.5}}\n"
    )
    assert track(bag, "--targets", file, "--output", out, "--json") == 0
    found = read(out)
    assert names(found["/early/status"])[:6] == ["TRACKING"] * 6
    assert names(found["/late/status"])[:6] == ["IDLE"] * 5 + ["TRACKING"]
    summary = json.loads(capsys.readouterr().out)
    assert summary["frames"] == FRAMES
    assert summary["targets"]["late"]["states"]["IDLE"] == 5
    assert summary["outputs"] == [str(out)]


def test_realtime_drops_what_comes_while_the_machine_works(bag, tmp_path, capsys):
    """A frame each 100 ms, 250 ms of work: of five frames two are processed."""
    out = tmp_path / "out.mcap"
    words = ("--realtime", "--latency", "250", "--json", "--output", out)
    assert track(bag, "--box", box(), *words) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["frames"] + summary["dropped"] == FRAMES
    statuses = read(out)["/tracker/status"]
    numbers = [round((stamp - 100_010_000_000) / 1e8) for stamp, _ in statuses]
    assert numbers[:6] == [0, 2, 5, 7, 10, 12]
    assert len(read(out)["/camera/image_raw"]) == FRAMES
    assert [round(one.image_age_ms) for _, one in statuses[:4]] == [250, 300, 250, 300]
    assert [one.frames_dropped for _, one in statuses[:4]] == [0, 1, 3, 4]


def test_image_that_cannot_be_read_counts_as_a_missed_one(bags, frames, tmp_path):
    images = [bags.raw(number, frame) for number, frame in enumerate(frames[:8])]
    images[4] = bags.raw(4, np.zeros((120, 160), np.uint8), "mono16")
    source = bags.write(tmp_path / "b", {"/image": (IMAGE, images)})
    out = tmp_path / "out.mcap"
    assert track(source, "--box", box(), "--output", out) == 0
    statuses = [one for _, one in read(out)["/tracker/status"]]
    assert statuses[4].message.startswith("image refused: encoding 'mono16' has more than 8 bits")
    assert names([(0, statuses[4])]) == ["COASTING"]
    assert (statuses[-1].frames_processed, statuses[-1].frames_rejected) == (7, 1)
    assert names([(0, statuses[-1])]) == ["TRACKING"]


def test_text_and_point_find_the_target_or_say_why_not(bag, capsys):
    assert track(bag, "--point", "500,500") == 2
    assert (
        "target tracker: the point (500, 500) is outside the 160x120 frame"
        in capsys.readouterr().err
    )
    assert track(bag, "--text", "a giraffe with a hat") == 2
    assert "target tracker: " in capsys.readouterr().err


def test_ctrl_c_keeps_what_is_done(bags, frames, tmp_path):
    source = bags.of_frames(tmp_path / "long", frames * 40)
    out, table = tmp_path / "out.mcap", tmp_path / "out.csv"
    command = [sys.executable, "-m", "vt_models", "track", str(source), "--box", box()]
    command += ["--output", str(out), "--output", str(table)]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    seen = ""
    while "/1200" not in seen or " 0/1200" in seen[-60:]:
        seen += process.stderr.read(1)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    output, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    done = int(output.split()[0])
    assert 0 < done < 1200
    assert f"interrupted after {done} frames" in error
    assert len(read(out)["/tracker/status"]) == done
    assert len(list(csv.DictReader(table.open()))) == done


FULL_DISK = """
import resource, sys
from vt_models.cli.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
sys.exit(main(sys.argv[1:]))
"""


def test_disk_that_is_full_is_said_and_keeps_what_was_done_before(bag, tmp_path):
    out, table = tmp_path / "out.mcap", tmp_path / "out.csv"
    out.write_text("previous")
    words = ["track", str(bag), "--box", box(), "--output", str(out), "--output", str(table)]
    command = [sys.executable, "-c", FULL_DISK, *words]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    said = done.stderr.splitlines()[-1]
    assert said.count(f"a bag cannot be written to {out}: ") == 1
    assert "File too large" in said
    assert out.read_text() == "previous"
    assert f"wrote {table}" in done.stdout
    assert f"wrote {out}" not in done.stdout
    assert 0 < len(list(csv.DictReader(table.open()))) < FRAMES
    assert {one.name for one in tmp_path.iterdir()} == {"out.mcap", "out.csv"}


def test_video_and_folder_are_tracked_like_a_bag_with_long_term(frames, tmp_path, capsys):
    folder = tmp_path / "images"
    folder.mkdir()
    for number, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"{number}.png"), frame[..., ::-1])
    table, out = tmp_path / "out.csv", tmp_path / "out.mcap"
    outputs = ("--output", table, "--output", out)
    assert track(folder, "--long-term", "--box", box(), "--at", "0.1", *outputs) == 0
    rows = list(csv.DictReader(table.open()))
    assert len(rows) == FRAMES
    assert [rows[number]["state"] for number in (2, 3, 20)] == ["IDLE", "TRACKING", "LOST"]
    found = read(out)
    assert names(found["/tracker/status"]) == [row["state"] for row in rows]
    images = [one for _, one in found["/image_raw/compressed"]]
    assert len(images) == FRAMES
    stamp = images[0].header.stamp
    assert (stamp.sec, stamp.nanosec) == (0, 33_333_333), "a stamp of 0 would be none"
    assert np.abs(cv2.imdecode(images[5].data, 1)[..., ::-1].astype(int) - frames[5]).mean() < 3
    assert main(["dataset", str(out), "--output", str(tmp_path / "pack")]) == 0
    capsys.readouterr()
    assert track(folder, "--box", box(), "--at", "1") == 2
    assert "--at is for bags and for --long-term" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give the target's --box X,Y,W,H, --text or --point X,Y, or --targets"),
        (["--box", "1,1,9,9", "--topic", "/b"], "has no topic /b; images are in /camera/image_raw"),
        (["--box", "500,500,9,9"], "target tracker: "),
        (["--box", "1,1,9,9", "--point", "1,1"], "a point is given beside a box"),
        (["--box", "1,1,9,9", "--at", "-1"], "at is -1.0; expected seconds, 0 or more"),
        (["--box", "1,1,9,9", "--at", "99"], "was to start at 99 s"),
        (["--box", "1,1,9,9", "--name", "a b"], "a target is called 'a b'"),
        (["--box", "1,1,9,9", "--latency", "10"], "give that, too"),
        (["--box", "1,1,9,9", "--realtime", "--latency", "0"], "--latency is 0.0"),
        (["--box", "1,1,9,9", "--output", "a.avi"], "must end in .mcap, .mp4, .csv, .html"),
        (["--box", "1,1,9,9", "--show-response"], "--show-response is for videos"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(bag, capsys, words, said):
    assert track(bag, *words) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""
    assert captured.err.strip().splitlines()[-1].startswith("vt-models: error: ")


def test_what_is_missing_is_named_with_its_extra_and_nothing_is_left(bag, tmp_path):
    for package, extra in (("rosbags", "bags"), ("jinja2", "report")):
        code = (
            f"import sys; sys.modules['{package}'] = None; from vt_models.cli.main import main\n"
            f"sys.exit(main(['track', '{bag}', '--box', '{box()}', '--output', 'out.mcap', "
            "'--output', 'out.html']))"
        )
        command = [sys.executable, "-c", code]
        ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
        assert ended.returncode == 2
        assert f"'{package}'" in ended.stderr
        assert f"pip install '.[{extra}]'" in ended.stderr
        assert ended.stderr.count("\n") == 1
        assert list(tmp_path.iterdir()) == []


def test_outputs_never_replace_what_is_read(bag, capsys):
    inside = next(bag.glob("*.mcap"))
    before = inside.read_bytes()
    for source, output in ((bag, inside), (inside, inside), (bag, bag / "new.csv")):
        assert track(source, "--box", box(), "--output", output) == 2
        assert "which is read" in capsys.readouterr().err
    assert inside.read_bytes() == before
    assert not (bag / "new.csv").exists()


def test_bag_that_has_fewer_images_than_it_declares_says_so(bags, frames, tmp_path, capsys):
    source = bags.of_frames(tmp_path / "b", frames[:5], storage="sqlite3")
    with contextlib.closing(sqlite3.connect(next(source.glob("*.db3")))) as database, database:
        database.execute("DELETE FROM messages WHERE timestamp > 100200000000")
    assert track(source, "--box", box()) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith("2 frames")
    assert f"{source} declares 5 images and has 2" in captured.err


def test_bag_that_is_damaged_in_the_middle_keeps_what_was_before(bags, frames, tmp_path, capsys):
    source = bags.of_frames(tmp_path / "b", frames * 3, compression="storage")
    file = next(source.glob("*.mcap"))
    content = bytearray(file.read_bytes())
    middle = len(content) * 3 // 4
    content[middle : middle + 2000] = b"\xff" * 2000
    file.write_bytes(content)
    out, table = tmp_path / "out.mcap", tmp_path / "out.csv"
    assert track(file, "--box", box(), "--output", out, "--output", table) == 2
    captured = capsys.readouterr()
    done = int(captured.out.split()[0])
    assert 0 < done < 3 * FRAMES
    said = captured.err.strip().splitlines()[-1]
    assert f"{file} is damaged: " in said
    assert said.endswith(f"{done} frames before it were tracked")
    assert len(list(csv.DictReader(table.open()))) == done
    assert len(read(out)["/tracker/status"]) == done
