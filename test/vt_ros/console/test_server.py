# SPDX-License-Identifier: Apache-2.0
"""The web server before real requests: who is let in, what is refused, and what a message costs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import struct
import time
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
aiohttp = pytest.importorskip("aiohttp", reason="pip install 'vt_ros[console]'")

from std_srvs.srv import Trigger

from vt_ros.common.convert import stamp_nanoseconds
from vt_ros.console.parameters import SETTINGS, read_settings
from vt_ros.console.server import ConsoleServer

pytestmark = pytest.mark.ros

OPERATOR, VIEWER = "operators-token-1234", "viewers-token-12345"


@pytest.fixture(scope="module")
def tracker(shared_ros, tiny_model):
    return shared_ros.start_tracker(tiny_model, watchdog__timeout=60.0)


@pytest.fixture(scope="module")
def open_console(shared_ros, tracker, start_console):
    """Without a token, as on this machine alone."""
    return start_console(shared_ros, max_viewers=4)


@pytest.fixture(scope="module")
def guarded(shared_ros, start_console, tmp_path_factory):
    """With tokens of operators and of viewers."""
    folder = tmp_path_factory.mktemp("tokens")
    for name, token in (("operator", OPERATOR), ("viewer", VIEWER)):
        (folder / name).write_text(token)
        (folder / name).chmod(0o600)
    return start_console(
        shared_ros,
        token_file=str(folder / "operator"),
        viewer_token_file=str(folder / "viewer"),
        hosts=["robot.local"],
        tracker_timeout=0.5,
    )


@pytest.fixture
def feed(tracker, open_console, guest, scene):
    feed = guest.feed(scene, real_time=True)
    yield feed
    assert open_console.process.alive
    assert "Traceback" not in open_console.process.output
    guest.call(Trigger, "tracker/clear_target")


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


class Browser:
    """A WebSocket without a browser around it: shows frames at once, or never."""

    def __init__(self, socket, shows=True):
        self.socket, self.shows = socket, shows
        self.frames, self.answers, self.reports, self.hello = [], {}, {}, None
        self._task = asyncio.ensure_future(self._read())

    async def _read(self):
        async for message in self.socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                await self._take(json.loads(message.data))
                continue
            (length,) = struct.unpack_from("<I", message.data)
            state = json.loads(message.data[4 : 4 + length])
            self.frames.append((state, message.data[4 + length :]))
            if self.shows:
                shown = {"type": "shown", "tracker": state["tracker"], "frame": state["frame"]}
                await self.say(**shown, transfer_ms=1.0)

    async def _take(self, message):
        if message["type"] == "hello":
            self.hello = message
        elif message["type"] == "answer":
            self.answers[message["id"]] = message
        elif message["type"] == "report":
            self.reports.setdefault(message["tracker"], {}).update(message)

    async def say(self, **message):
        await self.socket.send_str(json.dumps(message))

    async def ask(self, **message):
        number = len(self.answers) + 1
        await self.say(id=number, **message)
        return await self.until(lambda: self.answers.get(number), f"an answer to {message}")

    async def until(self, condition, what):
        end = time.monotonic() + 60.0
        while not condition():
            assert time.monotonic() < end, f"waited for {what}"
            await asyncio.sleep(0.01)
        return condition()

    async def shows_frames(self, width=320):
        await self.say(type="view", tracker=0, width=width)


def visit(console, visitor, **options):
    """Run a coroutine that is given a session of its own."""

    async def run():
        jar = aiohttp.CookieJar(unsafe=True)  # an IP address may have cookies, too
        async with aiohttp.ClientSession(console.url, cookie_jar=jar, **options) as session:
            return await asyncio.wait_for(visitor(session), 120.0)

    return asyncio.run(run())


def test_page_and_its_files_come_with_headers_that_keep_other_pages_out(open_console):
    async def visitor(session):
        for name, kind in (("", "text/html"), ("main.js", "text/javascript"), ("icon.svg", "svg")):
            async with session.get(f"/{name}") as answer:
                assert answer.status == 200
                assert kind in answer.headers["Content-Type"]
                policy = answer.headers["Content-Security-Policy"]
                assert "default-src 'none'" in policy
                assert "frame-ancestors 'none'" in policy
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
        for path in ("/absent.js", "/../node.py", "/..%2fnode.py", "/static/main.js", "/node.py"):
            async with session.get(path) as answer:
                assert answer.status == 404
        async with session.post("/", data=b"x" * 100) as answer:
            assert answer.status == 405

    visit(open_console, visitor)


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "robot.local", "", "["])
def test_name_that_is_not_this_machines_is_refused(open_console, host):
    async def visitor(session):
        async with session.get("/", headers={"Host": host}) as answer:
            assert answer.status in (400, 403)
            assert "is not known as" in await answer.text() or answer.status == 400

    visit(open_console, visitor)


def test_names_that_are_this_machines_are_taken(open_console, guarded):
    async def visitor(session):
        for host in (f"localhost:{session._base_url.port}", "127.0.0.1", "[::1]:80", "192.168.1.7"):
            async with session.get("/icon.svg", headers={"Host": host}) as answer:
                assert answer.status == 200, host

    async def named(session):
        async with session.get("/icon.svg", headers={"Host": "Robot.local:80"}) as answer:
            assert answer.status == 200

    visit(open_console, visitor)
    visit(guarded, named)


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:1", "file://", "https://localhost"]
)
def test_socket_of_another_page_is_refused(open_console, origin):
    async def visitor(session):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
            await session.ws_connect("/ws", origin=origin)
        assert refusal.value.status == 403

    visit(open_console, visitor)


def test_socket_of_the_page_itself_is_taken(open_console):
    async def visitor(session):
        async with session.ws_connect("/ws", origin=f"http://{open_console.host}") as socket:
            hello = await socket.receive_json()
            assert hello["role"] == "operator"
            assert hello["trackers"] == ["/tracker"]

    visit(open_console, visitor)


def test_nothing_is_given_without_a_token(guarded):
    async def visitor(session):
        async with session.get("/", allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (303, "/login")
        for path in ("/main.js", "/snapshot?tracker=0", "/ws"):
            async with session.get(path) as answer:
                assert answer.status == 403, path
        for wrong in ("", "wrong", OPERATOR[:-1], f"{OPERATOR}x", "\u00e9" * 20):
            headers = {"Authorization": f"Bearer {wrong}".encode().decode("latin-1")}
            async with session.get("/main.js", headers=headers) as answer:
                assert answer.status == 403
        cookies = {f"vt_console_{session._base_url.port}": "forged", "vt_console_0": OPERATOR}
        async with session.get("/main.js", cookies=cookies) as answer:
            assert answer.status == 403

    visit(guarded, visitor)


def test_token_is_asked_for_once_and_is_in_no_log(guarded, shared_ros):
    async def visitor(session):
        async with session.post("/login", data={"token": "not-the-token-1234"}) as answer:
            assert answer.history[0].headers["Location"] == "/login#wrong"
            assert not session.cookie_jar.filter_cookies(answer.url)
        async with session.post("/login", data={"token": f" {OPERATOR} "}) as answer:
            assert answer.status == 200
            (cookie,) = session.cookie_jar.filter_cookies(answer.url).values()
            assert OPERATOR not in str(cookie)
            (said,) = answer.history[0].headers.getall("Set-Cookie")
            assert "HttpOnly" in said
            assert "SameSite=Strict" in said
        async with session.ws_connect("/ws") as socket:
            assert (await socket.receive_json())["role"] == "operator"
        async with session.post("/login", data={"token": VIEWER}):
            pass
        async with session.ws_connect("/ws") as socket:
            assert (await socket.receive_json())["role"] == "viewer"
        return cookie.value

    value = visit(guarded, visitor)
    for secret in (OPERATOR, VIEWER, value, "not-the-token-1234"):
        assert secret not in guarded.process.output


def test_form_that_is_too_large_or_of_another_page_is_refused(guarded):
    async def visitor(session):
        async with session.post("/login", data={"token": "x" * 10_000}) as answer:
            assert answer.status == 413
        headers = {"Origin": "http://evil.example"}
        async with session.post("/login", data={"token": OPERATOR}, headers=headers) as answer:
            assert answer.status == 403
        async with session.post("/login", json=[1, 2]) as answer:
            assert answer.history[0].headers["Location"] == "/login#wrong"

    visit(guarded, visitor)


def test_what_is_no_request_or_no_form_is_refused_and_logged_in_a_line(guarded):
    host, port = guarded.host.split(":")
    form = b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 7\r\n%s\r\n\r\ntoken=\xff"
    kinds = (
        b"Content-Type: application/x-www-form-urlencoded; charset=none",
        b"Content-Type: multipart/form-data; boundary=x",
        b"Content-Type: application/x-www-form-urlencoded",
        b"Content-Encoding: gzip",
    )
    requests = [
        b"GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: http://[\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nA B: c\r\n\r\n",
        b"GET /" + 9000 * b"a" + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        *(form % kind for kind in kinds),
    ]
    before = len(guarded.process.output)
    for request in requests:
        for _ in range(5 if request.startswith(b"GET") else 1):
            with socket.create_connection((host, int(port)), timeout=30) as connection:
                connection.sendall(request)
                assert connection.recv(12)[9:] in (b"303", b"400", b"403"), request[:80]
    assert "Traceback" not in guarded.process.output
    assert len(guarded.process.output) - before < 3000


def test_forms_that_never_come_whole_keep_nobody_from_logging_in(guarded):
    host, port = guarded.host.split(":")

    async def visitor(session):
        async with session.post("/login", data={"token": OPERATOR}) as answer:
            assert answer.status == 200

    with contextlib.ExitStack() as stack:
        for _ in range(20):
            connection = socket.create_connection((host, int(port)), timeout=30)
            stack.enter_context(connection)
            connection.sendall(
                b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
            )
        visit(guarded, visitor)


def test_guesses_in_a_header_wait_as_those_in_the_form(guarded):
    async def visitor(session):
        async def guess(number):
            headers = bearer(f"{OPERATOR}{number}")
            async with session.get("/main.js", headers=headers) as answer:
                return answer.status

        statuses = await asyncio.gather(*(guess(number) for number in range(40)))
        assert set(statuses) == {403, 503}, "more than a few at a time are not looked at"

    visit(guarded, visitor)


def test_another_page_may_lead_here_and_neither_embed_nor_fetch(open_console):
    async def visitor(session):
        for site in ("cross-site", "same-site"):
            headers = {"Sec-Fetch-Site": site}
            for path, status in (("/", 200), ("/snapshot?tracker=0", 403), ("/main.js", 403)):
                async with session.get(path, headers=headers) as answer:
                    assert answer.status == status, path

    visit(open_console, visitor)


def test_connection_that_says_nothing_is_closed(monkeypatch):
    monkeypatch.setattr("vt_ros.console.server._SECONDS_TO_SPEAK", 0.2)
    monkeypatch.setattr("vt_ros.console.server._PERIOD", 0.05)
    defaults = {setting.name: setting.default for setting in SETTINGS} | {"port": 0}
    settings = read_settings(defaults.get)

    async def run():
        server = ConsoleServer([], lambda: settings, print)
        url = await server.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
        writer.write(b"GET / HT")
        assert await asyncio.wait_for(reader.read(), 60.0) == b""
        writer.close()
        async with aiohttp.ClientSession(url) as session, session.ws_connect("/ws") as socket:
            await asyncio.sleep(0.5)
            await socket.send_str('{"type":"clock","sent":1}')
            while (await socket.receive_json())["type"] != "clock":
                pass
        await server.close()

    asyncio.run(run())


def test_viewer_is_refused_whatever_would_change_something(guarded):
    async def visitor(session):
        async with session.ws_connect("/ws") as socket:
            browser = Browser(socket)
            for kind in ({"type": "stop"}, {"type": "confirm", "accept": True}):
                answer = await browser.ask(tracker=0, **kind)
                assert not answer["ok"]
                assert "read-only" in answer["message"]
            box = {"type": "start", "stamp": "0", "box": [1, 2, 30, 40]}
            assert "read-only" in (await browser.ask(tracker=0, **box))["message"]
            value = {"type": "set_parameter", "name": "model", "value": "x"}
            assert "read-only" in (await browser.ask(tracker=0, **value))["message"]

    visit(guarded, visitor, headers=bearer(VIEWER))


def test_frame_comes_with_the_state_of_its_own_stamp(feed, open_console):
    async def visitor(session):
        async with session.ws_connect("/ws") as socket:
            browser = Browser(socket)
            await browser.shows_frames()
            await browser.until(lambda: browser.frames, "a frame")
            state, _ = browser.frames[-1]
            assert (state["state"], state["size"]) == ("IDLE", [320, 240])
            box = list(feed.scene.box(feed.step))
            answer = await browser.ask(type="start", tracker=0, stamp="0", box=box)
            assert answer["ok"], answer
            count = len(browser.frames)
            await browser.until(lambda: len(browser.frames) > count + 8, "frames with a target")
            return browser.frames[count:]

    with feed.playing():
        frames = visit(open_console, visitor)
    told = lambda: {stamp_nanoseconds(one.header.stamp): one for one in feed.status}  # noqa: E731
    stamps = {int(state["stamp"]) for state, _ in frames}
    feed.ros.until(lambda: stamps <= told().keys(), "the statuses of all frames")
    statuses = told()
    offsets = []
    for state, jpeg in frames:
        image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert image.shape == (240, 320, 3)
        assert state["score"] == pytest.approx(statuses[int(state["stamp"])].score, abs=1e-6)
        if state["box"] is not None:
            # The square is red in exactly this image: where it is, the box is.
            y, x = np.nonzero((image[..., 2] > 150) & (image[..., 1] < 110))
            left, top, width, height = state["box"]
            offsets += [abs(x.mean() - left - width / 2), abs(y.mean() - top - height / 2)]
    assert len(offsets) >= 8
    assert max(offsets) < 6, "it moves by 3 pixels a frame"


def test_next_frame_waits_until_the_last_was_shown_and_is_the_newest(feed, open_console):
    async def visitor(session):
        async with session.ws_connect("/ws") as slow, session.ws_connect("/ws") as quick:
            stalled, other = Browser(slow, shows=False), Browser(quick)
            await stalled.shows_frames()
            await other.shows_frames()
            await other.until(lambda: len(other.frames) > 15, "frames of the other browser")
            assert len(stalled.frames) == 1, "nothing was sent beyond what was not shown"
            begin, count = len(feed.status), len(other.frames)
            newest = other.frames[-1][0]["frame"]
            first = stalled.frames[0][0]["frame"]
            await stalled.say(type="shown", tracker=0, frame=first, transfer_ms=1.0)
            await stalled.until(lambda: len(stalled.frames) == 2, "the next")
            assert stalled.frames[1][0]["frame"] >= newest > first + 8
            await other.until(lambda: len(other.frames) > count + 5, "frames go on")
            assert len(feed.status) > begin, "and so does the tracker"

    with feed.playing():
        visit(open_console, visitor)


def test_hidden_tile_is_sent_nothing(feed, open_console):
    async def visitor(session):
        async with session.ws_connect("/ws") as socket:
            browser = Browser(socket)
            await browser.shows_frames()
            await browser.until(lambda: len(browser.frames) > 2, "frames")
            await browser.say(type="view", tracker=0, width=0)
            begin = len(feed.status)
            await browser.until(lambda: len(feed.status) > begin + 3, "the tracker goes on")
            count = len(browser.frames)
            await browser.until(lambda: len(feed.status) > begin + 15, "the tracker goes on")
            assert len(browser.frames) <= count + 1
            await browser.shows_frames(width=100)
            await browser.until(lambda: len(browser.frames) > count + 2, "frames again")
            image = cv2.imdecode(np.frombuffer(browser.frames[-1][1], np.uint8), cv2.IMREAD_COLOR)
            assert image.shape[1] == 100, "no larger than it is shown"

    with feed.playing():
        visit(open_console, visitor)


def test_refusals_of_the_tracker_come_back_in_its_own_words(feed, open_console):
    async def visitor(session):
        async with session.ws_connect("/ws") as socket:
            browser = Browser(socket)
            await browser.until(lambda: browser.reports.get(0, {}).get("parameters"), "parameters")
            tiny = await browser.ask(type="start", tracker=0, stamp="0", box=[1, 1, 0.5, 0.5])
            assert not tiny["ok"]
            assert "2x2" in tiny["message"]
            old = await browser.ask(type="start", tracker=0, stamp="5", box=[1, 1, 50, 50])
            assert not old["ok"]
            change = {"type": "set_parameter", "tracker": 0}
            wrong = await browser.ask(**change, name="target.doubt_threshold", value=0.99)
            assert not wrong["ok"]
            assert "above" in wrong["message"]
            locked = await browser.ask(**change, name="weights", value="/etc/passwd")
            assert "controls" in locked["message"]
            good = await browser.ask(**change, name="target.redetection_threshold", value=1)
            assert good["ok"], good
            await browser.ask(**change, name="target.redetection_threshold", value=0.4)
            return browser.reports[0]["parameters"]

    feed.answered()
    parameters = {one["name"]: one for one in visit(open_console, visitor)}
    assert parameters["target.doubt_threshold"]["high"] == 1.0
    assert parameters["target.doubt_threshold"]["description"].endswith(".")
    assert not any(name.startswith(("weights", "grounding")) for name in parameters)


def test_strangers_messages_leave_page_and_tracker_as_they_were(feed, open_console):
    chance = random.Random(7)
    kinds = ("start", "stop", "confirm", "set_parameter", "shown", "view", "clock", "none")

    async def visitor(session):
        for _ in range(6):
            async with session.ws_connect("/ws") as socket:
                for _ in range(25):
                    message = {
                        "type": chance.choice(kinds),
                        "tracker": chance.choice([0, 1, -1, None, 2**70, "0", [0]]),
                        "id": chance.choice([1, None, "a"]),
                        "box": chance.choice([None, [1e308] * 4, [float("nan")] * 4, {}, "box"]),
                        "stamp": chance.choice(["-1", 0, "9" * 30, None]),
                        "accept": "yes",
                        "value": {},
                    }
                    await socket.send_str(json.dumps(message))
                # Closed by the server, or by us: whichever is first.
        async with session.ws_connect("/ws") as socket:
            await socket.send_bytes(b"\0" * 100)
            message = await socket.receive()
            while message.type is aiohttp.WSMsgType.TEXT:
                message = await socket.receive()
            assert socket.close_code == aiohttp.WSCloseCode.POLICY_VIOLATION
        async with session.ws_connect("/ws") as socket:
            await socket.send_str("x" * 100_000)
            while not socket.closed:
                await socket.receive()
            assert socket.close_code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG
        async with session.ws_connect("/ws") as socket:
            assert (await Browser(socket).ask(type="stop", tracker=0))["ok"]

    feed.answered()
    feed.set_target()
    target = feed.answered().target_id
    visit(open_console, visitor)
    assert feed.answered().target_id in (0, target)
    assert len(open_console.process.output) < 100_000, "the log is not flooded"


def test_one_browser_too_many_is_told_so(open_console):
    async def visitor(session):
        sockets = [await session.ws_connect("/ws") for _ in range(4)]
        with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
            await session.ws_connect("/ws")
        assert refusal.value.status == 503
        async with session.get("/ws") as answer:
            assert "4 browsers are connected" in await answer.text()
        await sockets[0].close()
        for _ in range(100):
            try:
                await session.ws_connect("/ws")
            except aiohttp.WSServerHandshakeError:
                await asyncio.sleep(0.05)
                continue
            return
        pytest.fail("a place that became free was not given")

    visit(open_console, visitor)


def test_snapshot_is_the_newest_frame_in_full_size(feed, open_console):
    async def visitor(session):
        async with session.ws_connect("/ws") as socket:
            browser = Browser(socket)
            await browser.shows_frames(width=60)
            await browser.until(lambda: len(browser.frames) > 2, "frames")
            async with session.get("/snapshot?tracker=0") as answer:
                assert answer.headers["Content-Disposition"].startswith("attachment;")
                image = cv2.imdecode(np.frombuffer(await answer.read(), np.uint8), 1)
                assert image.shape == (240, 320, 3)
        for query, status in (("", 400), ("?tracker=1", 404), ("?tracker=-1", 400)):
            async with session.get(f"/snapshot{query}") as answer:
                assert answer.status == status

    with feed.playing():
        visit(open_console, visitor)


def test_without_a_tracker_the_page_says_what_is_missing(guarded):
    """Of the module's tracker nothing is heard: no images arrive at it."""

    async def visitor(session):
        async with session.ws_connect("/ws") as socket:
            browser = Browser(socket)
            await browser.until(lambda: browser.reports.get(0, {}).get("state"), "a report")
            await browser.shows_frames()
            said = lambda: browser.reports[0]["state"]  # noqa: E731
            await browser.until(lambda: "is the camera running?" in said(), "what is missing")

    visit(guarded, visitor, headers=bearer(OPERATOR))
