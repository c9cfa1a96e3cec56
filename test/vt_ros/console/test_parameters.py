# SPDX-License-Identifier: Apache-2.0
"""Parameters that make no sense together, and tokens that are not to be relied on, are refused."""

from __future__ import annotations

import os

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from vt_models.errors import InputError
from vt_ros.console.parameters import SETTINGS, TrackerSource, read_settings

DEFAULTS = {setting.name: setting.default for setting in SETTINGS}
GOOD = "correct-horse-battery"


def read(**given):
    return read_settings({**DEFAULTS, **given}.__getitem__)


@pytest.fixture
def token_file(tmp_path):
    def write(text=GOOD, name="token", mode=0o600):
        path = tmp_path / name
        path.write_text(text)
        path.chmod(mode)
        return str(path)

    return write


def test_defaults_are_one_tracker_on_loopback_without_a_token():
    settings = read()
    assert settings.sources == (TrackerSource("tracker", ""),)
    assert not settings.operator_token
    for address in ("127.0.0.1", "::1", "127.3.2.1"):
        assert read(address=address).address == address


def test_trackers_have_their_images_in_order():
    settings = read(trackers=["/a/tracker", "b"], images=["", "/b/rgb"])
    assert settings.sources == (TrackerSource("/a/tracker", ""), TrackerSource("b", "/b/rgb"))


def test_token_of_a_file_is_read_without_its_line_end(token_file):
    settings = read(address="0.0.0.0", token_file=token_file(f"{GOOD}\n"))  # noqa: S104
    assert settings.operator_token == GOOD


REFUSED = {
    "no tracker": ({"trackers": [""]}, "trackers is empty"),
    "a tracker that is no name": ({"trackers": ["a b"]}, "'a b', expected the name of a node"),
    "a tracker that begins with a digit": ({"trackers": ["/a/1b"]}, "'/a/1b', expected the name"),
    "a tracker with an empty part": ({"trackers": ["a//b"]}, "'a//b', expected the name"),
    "a tracker that ends with a slash": ({"trackers": ["a/"]}, "'a/', expected the name"),
    "one tracker twice": ({"trackers": ["a", "a"]}, "twice"),
    "images for another number": ({"images": ["/a", "/b"]}, "2 topics for 1 trackers"),
    "images that are no name": ({"images": ["a-b"]}, "'a-b', expected the name of a topic"),
    "a name as address": ({"address": "robot.local"}, "expected an IP address"),
    "all networks without a token": ({"address": "0.0.0.0"}, "token_file is empty"),  # noqa: S104
    "a host with a port": ({"hosts": ["robot:80"]}, "without a port"),
    "a token file that is not there": ({"token_file": "/no/such/file"}, "cannot be read"),
    "a token file that is a folder": ({"token_file": "/tmp"}, "cannot be read"),  # noqa: S108
    "a token file that is a device": ({"token_file": "/dev/zero"}, "cannot be read"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_read_settings_refuses(case):
    given, said = REFUSED[case]
    with pytest.raises(InputError) as refusal:
        read(**given)
    assert said in str(refusal.value)


@pytest.mark.parametrize("text", ["short", "has a space in the middle", "", "x" * 300, "é" * 20])
def test_token_that_is_easily_guessed_or_no_token_is_refused_and_not_repeated(text, token_file):
    with pytest.raises(InputError) as refusal:
        read(token_file=token_file(text))
    assert "secrets.token_urlsafe" in str(refusal.value)
    assert not text or text not in str(refusal.value)


@pytest.mark.skipif(os.name != "posix", reason="permissions of files")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_token_file_that_others_may_read_is_refused(mode, token_file):
    path = token_file(mode=mode)
    with pytest.raises(InputError, match=f"chmod 600 {path}"):
        read(token_file=path)


def test_second_token_must_be_another_and_beside_a_first(token_file):
    with pytest.raises(InputError, match="the same token"):
        read(token_file=token_file(), viewer_token_file=token_file(name="other"))
    with pytest.raises(InputError, match="without token_file"):
        read(viewer_token_file=token_file())
    other = token_file("another-good-token", "other")
    assert read(token_file=token_file(), viewer_token_file=other).viewer_token
