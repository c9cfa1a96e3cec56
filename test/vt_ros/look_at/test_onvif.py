# SPDX-License-Identifier: Apache-2.0
"""An ONVIF camera, played by a small SOAP server: moves, stops, silence, passwords, refusals."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import sys
import threading
import time
from datetime import datetime, timezone

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("onvif", reason="pip install 'vt_ros[onvif]'")

from aiohttp import web
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.logging import get_logger
from std_msgs.msg import Header

from vt_interfaces.msg import TrackStatus
from vt_models.errors import InputError
from vt_ros.look_at.onvif_head import OnvifHead
from vt_ros.look_at.parameters import SETTINGS, OnvifSettings, read_settings

PASSWORD = "open-sesame-17"  # noqa: S105 - of the camera in this test
PATIENCE = 30.0
NAMES = {
    "s": "http://www.w3.org/2003/05/soap-envelope",
    "tds": "http://www.onvif.org/ver10/device/wsdl",
    "trt": "http://www.onvif.org/ver10/media/wsdl",
    "tptz": "http://www.onvif.org/ver20/ptz/wsdl",
    "tt": "http://www.onvif.org/ver10/schema",
}
SPACES = " ".join(f'xmlns:{prefix}="{name}"' for prefix, name in NAMES.items())
PTZ = (
    '<tt:PTZConfiguration token="c"><tt:Name>n</tt:Name><tt:UseCount>1</tt:UseCount>'
    "<tt:NodeToken>n</tt:NodeToken></tt:PTZConfiguration>"
)


class FakeCamera:
    """Answers as ONVIF cameras do, with a password, and remembers when it was asked for what."""

    def __init__(self, profiles=("fixed", "moving")):
        self.calls, self.is_mute, self.bad_passwords = [], False, 0
        self.nonsense = {}  # what it answers instead, by operation
        self._profiles, self._ready, self._port = profiles, threading.Event(), 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        assert self._ready.wait(PATIENCE)

    @property
    def port(self):
        return self._port

    def close(self):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def of(self, name):
        """Times and values of calls of a name."""
        return [(time, values) for time, one, values in tuple(self.calls) if one == name]

    def _serve(self):
        asyncio.set_event_loop(self._loop)
        app = web.Application()
        app.router.add_post("/{where:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None)
        self._loop.run_until_complete(runner.setup())
        site = web.TCPSite(runner, "127.0.0.1", 0)
        self._loop.run_until_complete(site.start())
        self._port = runner.addresses[0][1]
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())

    async def _answer(self, request):
        body = (await request.read()).decode()
        assert PASSWORD not in body
        operation = re.search(r"Body>\s*<(?:\w+:)?(\w+)", body)[1]
        if self.is_mute:
            await asyncio.sleep(60.0)
        if operation != "GetSystemDateAndTime" and not self._is_welcome(body):
            self.bad_passwords += 1
            return self._envelope(
                "<s:Fault><s:Code><s:Value>s:Sender</s:Value></s:Code><s:Reason>"
                '<s:Text xml:lang="en">Sender not Authorized</s:Text></s:Reason></s:Fault>',
                400,
            )
        values = {key: float(value) for key, value in re.findall(r'\b([xy])="([^"]+)"', body)}
        values |= dict(re.findall(r":(Timeout|ProfileToken)>(\w[^<]*)", body))
        self.calls.append((time.monotonic(), operation, values))
        now = datetime.now(timezone.utc)
        clock = (
            f"<tt:UTCDateTime><tt:Time><tt:Hour>{now.hour}</tt:Hour><tt:Minute>{now.minute}"
            f"</tt:Minute><tt:Second>{now.second}</tt:Second></tt:Time><tt:Date><tt:Year>{now.year}"
            f"</tt:Year><tt:Month>{now.month}</tt:Month><tt:Day>{now.day}</tt:Day></tt:Date>"
            "</tt:UTCDateTime>"
        )
        services = "".join(
            f"<tds:Service><tds:Namespace>{NAMES[prefix]}</tds:Namespace><tds:XAddr>"
            f"http://{request.host}/{prefix}</tds:XAddr><tds:Version><tt:Major>2</tt:Major>"
            "<tt:Minor>0</tt:Minor></tds:Version></tds:Service>"
            for prefix in ("trt", "tptz")
        )
        profiles = "".join(
            f'<trt:Profiles token="{name}" fixed="true"><tt:Name>n</tt:Name>'
            f"{PTZ if name != 'fixed' else ''}</trt:Profiles>"
            for name in self._profiles
        )
        kind = "DateTimeType>NTP</tt:DateTimeType><tt:DaylightSavings>false</tt:DaylightSavings>"
        answers = {
            "GetSystemDateAndTime": (
                "<tds:GetSystemDateAndTimeResponse><tds:SystemDateAndTime><tt:"
                f"{kind}{clock}</tds:SystemDateAndTime></tds:GetSystemDateAndTimeResponse>"
            ),
            "GetServices": f"<tds:GetServicesResponse>{services}</tds:GetServicesResponse>",
            "GetProfiles": f"<trt:GetProfilesResponse>{profiles}</trt:GetProfilesResponse>",
        }
        if operation in self.nonsense:
            return web.Response(text=self.nonsense[operation], content_type="application/soap+xml")
        return self._envelope(answers.get(operation, f"<tptz:{operation}Response/>"))

    @staticmethod
    def _envelope(content, status=200):
        return web.Response(
            text=f"<s:Envelope {SPACES}><s:Body>{content}</s:Body></s:Envelope>",
            status=status,
            content_type="application/soap+xml",
        )

    @staticmethod
    def _is_welcome(body):
        """Check the digest: base64 of SHA-1 of nonce, time and password (WS-UsernameToken 1.0)."""
        parts = {
            name: re.search(rf":{name}[^>]*>([^<]*)<", body)
            for name in ("Nonce", "Created", "Password")
        }
        if not all(parts.values()):
            return False
        nonce = base64.b64decode(parts["Nonce"][1])
        whole = nonce + parts["Created"][1].encode() + PASSWORD.encode()
        return parts["Password"][1] == base64.b64encode(hashlib.sha1(whole).digest()).decode()  # noqa: S324


@pytest.fixture
def camera():
    camera = FakeCamera()
    yield camera
    camera.close()


@pytest.fixture
def password_file(tmp_path):
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n", encoding="utf-8")
    file.chmod(0o600)
    return file


def settings_of(camera, **changes):
    values = {"username": "operator", "password": PASSWORD, "profile": ""}
    values |= {"pan_rate": 1.0, "tilt_rate": 1.0, **changes}
    return OnvifSettings(host="127.0.0.1", port=camera.port, **values)


@pytest.fixture
def head(camera):
    head = OnvifHead(settings_of(camera), get_logger("test_onvif"))
    until(lambda: not head.problem, "the camera")
    yield head
    head.close(PATIENCE)


def until(condition, what):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited for {what}"
        time.sleep(0.005)


def test_velocity_is_sent_with_a_time_limit_again_and_again_and_zero_stops(camera, head):
    assert len(camera.of("Stop")) == 1  # whatever it did before

    def moved():
        head.set_velocity(0.25, -0.5)
        return len(camera.of("ContinuousMove")) >= 4

    until(moved, "four moves")
    times = [time for time, _ in camera.of("ContinuousMove")]
    values = camera.of("ContinuousMove")[-1][1]
    assert values == {"x": 0.25, "y": -0.5, "Timeout": "PT0.5S", "ProfileToken": "moving"}
    assert times[-1] - times[0] > 0.5  # refreshed, not flooded
    head.set_velocity(0.0, 0.0)
    until(lambda: len(camera.of("Stop")) == 2, "the stop")
    assert camera.calls[-1][1] == "Stop"


def test_velocity_that_is_not_set_again_is_none(camera, head):
    """As when the node hangs."""
    head.set_velocity(3.0, 0.0)
    until(lambda: camera.of("ContinuousMove"), "a move")
    assert camera.of("ContinuousMove")[0][1]["x"] == 1.0  # the largest there is
    until(lambda: len(camera.of("Stop")) == 2, "the stop")


def test_closing_stops_the_camera_and_home_is_asked_for_once(camera):
    head = OnvifHead(settings_of(camera, profile="moving"), get_logger("test_onvif"))
    until(lambda: not head.problem, "the camera")
    for _ in range(30):
        head.go_home()
        time.sleep(0.01)
    until(lambda: camera.of("GotoHomePosition"), "the way home")
    head.close(PATIENCE)
    assert len(camera.of("GotoHomePosition")) == 1
    assert camera.calls[-1][1] == "Stop"


def test_camera_that_falls_silent_is_a_problem_and_is_found_again(camera, head):
    camera.is_mute = True

    def noticed():
        head.set_velocity(0.3, 0.0)
        return bool(head.problem)

    until(noticed, "the silence")
    assert "no answer in time" in head.problem
    camera.is_mute = False
    until(lambda: not head.problem, "the camera")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"password": "wrong-secret-42"}, "Sender not Authorized"),
        ({"profile": "p9"}, "onvif.profile is 'p9', the camera has moving"),
    ],
)
def test_what_is_wrong_is_said_without_the_password(camera, changes, words):
    head = OnvifHead(settings_of(camera, **changes), get_logger("test_onvif"))
    until(lambda: words in head.problem, words)
    assert f"127.0.0.1:{camera.port}" in head.problem
    assert "wrong-secret" not in head.problem
    assert "wrong-secret" not in repr(settings_of(camera, **changes))
    assert not camera.of("ContinuousMove")
    head.close(PATIENCE)


BOMB = (
    '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {chr(98 + k)} "{f"&{chr(97 + k)};" * 10}">' for k in range(9))
    + "]><x>&j;</x>"
)


@pytest.mark.parametrize("text", ["", "hello", "<x/>", "<a><b></a>", "\0" * 1000, BOMB])
@pytest.mark.parametrize("operation", ["GetServices", "GetProfiles", "Stop"])
def test_camera_that_answers_nonsense_is_a_problem_and_asked_again(camera, operation, text):
    camera.nonsense[operation] = text
    head = OnvifHead(settings_of(camera), get_logger("test_onvif"))
    until(lambda: not head.problem or "has not answered yet" not in head.problem, "a reason")
    if operation == "GetProfiles":
        assert f"the ONVIF camera at 127.0.0.1:{camera.port}: " in head.problem
    camera.nonsense.clear()
    until(lambda: not head.problem, "the camera")
    head.close(PATIENCE)


def test_camera_without_pan_and_tilt_is_refused():
    camera = FakeCamera(profiles=("fixed",))
    head = OnvifHead(settings_of(camera), get_logger("test_onvif"))
    until(lambda: "no profile with pan and tilt" in head.problem, "the refusal")
    head.close(PATIENCE)
    camera.close()


def read(**changes):
    values = {setting.name: setting.default for setting in SETTINGS} | {"output": "onvif"}
    values |= {f"onvif.{name}": value for name, value in changes.items()}
    return read_settings(values.__getitem__)


def test_password_is_read_from_a_file_of_ones_own(password_file):
    given = {"host": "10.0.0.5", "username": "operator", "password_file": str(password_file)}
    assert read(**given).onvif.password == PASSWORD
    password_file.chmod(0o640)
    with pytest.raises(InputError, match="chmod 600") as refusal:
        read(**given)
    assert PASSWORD not in str(refusal.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "onvif.host is '', expected an address"),
        ({"host": "http://10.0.0.5"}, "onvif.host is 'http://10.0.0.5'"),
        ({"host": "a", "username": "b"}, "belong together"),
        ({"host": "a", "username": "b", "password_file": "/nowhere"}, "/nowhere cannot be read"),
    ],
)
def test_parameters_that_make_no_sense_are_one_sentence(changes, words):
    with pytest.raises(InputError, match=words):
        read(**changes)


def test_package_that_is_missing_is_named_and_not_needed_by_others(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'vt_ros\[onvif\]'"):
        read(host="10.0.0.5")
    values = {setting.name: setting.default for setting in SETTINGS}
    assert read_settings(values.__getitem__).onvif is None


def test_other_outputs_do_not_import_the_package():
    import subprocess  # noqa: PLC0415

    code = "import sys, vt_ros.look_at.node; print('onvif' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.ros
def test_node_turns_the_camera_to_the_target_and_stops_it_in_silence(ros, camera, password_file):
    process = ros.start(
        "look_at",
        output="onvif",
        dead_time__measure=False,
        max_image_age=2.0,
        onvif__host="127.0.0.1",
        onvif__port=camera.port,
        onvif__username="operator",
        onvif__password_file=str(password_file),
        onvif__pan_rate=2.0,
    )
    diagnostics = ros.collect(DiagnosticArray, "/diagnostics")
    publisher = ros.publisher(TrackStatus, "tracker/status")

    def turned():
        now = ros.node.get_clock().now().to_msg()
        status = TrackStatus(state=TrackStatus.STATE_TRACKING, target_id=1, azimuth=0.2)
        status.header, status.elevation = Header(stamp=now, frame_id="optical"), 0.1
        publisher.publish(status)
        time.sleep(0.03)
        moves = camera.of("ContinuousMove")
        return moves and moves[-1][1]["x"] > 0.2 and moves[-1][1]["y"] < -0.2

    ros.until(turned, "a move to the right and down")
    stops = len(camera.of("Stop"))
    ros.until(lambda: len(camera.of("Stop")) > stops, "the stop in silence")
    assert process.stop() == 0
    assert camera.calls[-1][1] == "Stop"
    assert PASSWORD not in process.output
    assert PASSWORD not in str(diagnostics)
    assert "Traceback" not in process.output
