# SPDX-License-Identifier: Apache-2.0
"""The page in a real Chromium, on a real tracker: hands, eyes and keys of an operator."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import threading
import time

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("aiohttp", reason="pip install 'vt_ros[console]'")
playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")

from std_srvs.srv import Trigger

from vt_ros.common.convert import stamp_nanoseconds, xywh_from_bounding_box

pytestmark = pytest.mark.ros

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 60_000  # milliseconds
DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def browser():
    """The machine's own Chromium; nothing is downloaded."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("no browser: sudo apt install chromium")
    arguments = ["--no-sandbox", "--disable-background-networking", "--disable-quic"]
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=path, args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def tracker(shared_ros, tiny_model, grounder):
    return shared_ros.start_tracker(
        tiny_model,
        set_target_timeout=5.0,
        grounding__backend="onnx",
        grounding__source=str(grounder),
        # A loaded machine is slower than the hands that this is meant for.
        frame_buffer__seconds=20.0,
        target__coast_seconds=0.5,
        watchdog__timeout=60.0,
    )


@pytest.fixture(scope="module")
def console(shared_ros, tracker, start_console):
    return start_console(shared_ros)


class Camera:
    """Publishes what `frame` gives, some fifteen times a second."""

    def __init__(self, feed):
        self.feed, self.scene = feed, feed.scene
        self.frame = self.scene.frame
        self.boxes = {}  # where the target is, by stamp
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._play)
        self._thread.start()

    def _play(self):
        while not self._ended.wait(0.07):
            self.feed.step += 1
            message = self.feed.message()
            message.data = self.frame(self.feed.step).tobytes()
            self.boxes[stamp_nanoseconds(message.header.stamp)] = self.scene.box(self.feed.step)
            self.feed.publisher.publish(message)

    def close(self):
        self._ended.set()
        self._thread.join()


@pytest.fixture
def camera(tracker, console, guest, scene):
    camera = Camera(guest.feed(scene, real_time=True))
    yield camera
    camera.close()
    assert console.process.alive
    assert "Traceback" not in console.process.output
    guest.call(Trigger, "tracker/clear_target")


class Page:
    """A page of the console, and what is done on it."""

    def __init__(self, context, url, camera=None):
        self.page, self.camera = context.new_page(), camera
        self.page.set_default_timeout(PATIENCE)
        self.errors, self.elsewhere = [], []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on(
            "request",
            lambda one: None if one.url.startswith((url, "blob:")) else self.elsewhere.append(one),
        )
        self.page.goto(url)
        if camera is not None:
            self.wait("tile.shown && tile.shown.bitmap")

    def value(self, expression):
        """What JavaScript makes of an expression, in which `tile` is the first one."""
        first = "const tile = window.vtConsole?.tiles[0]"
        return self.page.evaluate(f"(() => {{ {first}; return tile && ({expression}); }})()")

    def wait(self, expression):
        """Until that is true. Playwright's own waiting needs eval, which the page forbids."""
        end = time.monotonic() + PATIENCE / 1000
        while not self.value(f"Boolean({expression})"):
            assert time.monotonic() < end, f"waited for {expression}"
            time.sleep(0.03)

    def wait_for_state(self, *states):
        self.wait(f"{list(states)}.includes(tile.shown.state.state)")

    def wait_for_target(self, after):
        """Until a target newer than that is tracked."""
        self.wait(f"tile.shown.state.target > {after} && tile.shown.state.state === 'TRACKING'")

    @property
    def target(self):
        return self.value("tile.shown.state.target")

    def rect(self):
        """Where the frame lies on the page: left, top, and page pixels for each of the frame's."""
        return self.page.evaluate(
            """async () => {
              const { place } = await import("/geometry.js");
              const tile = vtConsole.tiles[0];
              const rect = tile.canvas.getBoundingClientRect();
              const at = place(rect, tile.size, tile.focus);
              return [rect.left + at.x, rect.top + at.y, at.scale];
            }"""
        )

    def at(self, x, y):
        """Where a pixel of the frame is on the page."""
        left, top, scale = self.rect()
        return left + x * scale, top + y * scale

    def shot(self):
        """What is to be seen of the canvas: (H, W, 3) uint8 RGB."""
        png = self.page.locator("canvas").first.screenshot()
        return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(int)

    def close(self):
        assert self.errors == []
        assert self.elsewhere == [], "the page asks no other server"
        self.page.close()


@pytest.fixture
def open_page(browser, console, camera):
    """Opens pages; they are checked and closed at the end."""
    opened = []

    def open_one(viewport=DESKTOP, **options):
        context = browser.new_context(viewport=viewport, **options)
        opened.append((Page(context, console.url, camera), context))
        return opened[-1][0]

    yield open_one
    for page, context in opened:
        page.close()
        context.close()


def middle_of(pixels):
    """The middle of what is True in an (H, W) array, between its extremes: x, y."""
    y, x = np.nonzero(pixels)
    assert len(x), "nothing of that colour"
    return (x.min() + x.max()) / 2, (y.min() + y.max()) / 2


def is_near(box, other, pixels=4.0):
    return np.abs(np.subtract(box, other)).max() <= pixels


def started(feed, target):
    """The status with which a target began, and its box."""
    status = feed.ros.until(
        lambda: next(
            (s for s in feed.status if s.target_id == target and s.message.endswith("set")), None
        ),
        "the start of the target",
    )
    (detection,) = feed.detection(status).detections
    return stamp_nanoseconds(status.header.stamp), xywh_from_bounding_box(detection.bbox)


def test_box_drawn_by_mouse_starts_on_the_frame_it_was_drawn_on(open_page, camera):
    page = open_page()
    assert page.value("tile.badge.textContent") == "No target"
    before = page.target
    # Where it will be by the time that the button is down: the scene stands still for so long.
    camera.scene.box, moving = (lambda _step: (120.0, 80.0, 48.0, 48.0)), camera.scene.box
    page.wait(f"Number(BigInt(tile.stamp) / 1000000n) > {time.time() * 1000}")
    mouse = page.page.mouse
    mouse.move(*page.at(120, 80))
    mouse.down()
    stamp = int(page.value("tile.stamp"))
    camera.scene.box = moving
    mouse.move(*page.at(150, 100))
    mouse.move(*page.at(168, 128), steps=4)
    assert page.value("tile.frozen")
    assert page.value("tile.hint.textContent") == "The frame is held while you draw"
    assert int(page.value("tile.stamp")) == stamp, "the frame is held"
    mouse.up()
    page.wait_for_target(before)
    began, box = started(camera.feed, page.target)
    assert began == stamp, "the tracker starts on that frame, not on the newest"
    assert is_near(box, (120, 80, 48, 48), pixels=2.0)


def test_box_on_the_screen_is_that_of_the_frame_below_it(open_page, camera):
    """Where the red object is tells the frame; the green box is what the tracker said of it."""
    page = open_page()
    assert camera.feed.set_target().success
    page.wait_for_state("TRACKING")
    page.value("tile.badge.hidden = true")  # it is of the box's colour
    for _ in range(3):
        image = page.shot()
        red = (image[..., 0] > 170) & (image[..., 1] < 90) & (image[..., 2] < 110)
        green = np.abs(image - (0x1F, 0xC3, 0x8F)).max(axis=-1) < 7  # the trail is paler
        left, top, scale = page.rect()
        corner = page.page.locator("canvas").first.bounding_box()
        to_frame = np.subtract((corner["x"], corner["y"]), (left, top))
        seen, drawn = ((middle_of(area) + to_frame) / scale for area in (red, green))
        # It moves by 3 pixels a frame, so it is there in one frame of the last seconds.
        stamps = [
            stamp
            for stamp, box in list(camera.boxes.items())[-60:]
            if np.abs(np.add(box[:2], 24.0) - seen).max() < 1.5
        ]
        said = camera.feed.ros.until(
            lambda at=stamps: [
                (detection.bbox.center.position.x, detection.bbox.center.position.y)
                for detections in list(camera.feed.detections)
                if stamp_nanoseconds(detections.header.stamp) in at
                for detection in detections.detections
            ],
            "what the tracker said of the frame on the screen",
        )
        assert min(np.abs(np.subtract(middle, drawn)).max() for middle in said) < 1.5


def test_zoomed_letterboxed_box_is_mapped_back(open_page, camera):
    page = open_page({"width": 1280, "height": 560})
    left = page.rect()[0] - page.value("tile.canvas.getBoundingClientRect().left")
    assert left > 50, "the frame is letterboxed"
    box = (200.0, 120.0, 48.0, 48.0)
    camera.scene.box = lambda _step: box
    page.page.mouse.move(*page.at(215, 140))
    for _ in range(4):
        page.page.mouse.wheel(0, -200)
    page.wait("tile.focus.zoom > 2")
    page.wait(f"Number(BigInt(tile.stamp) / 1000000n) > {time.time() * 1000}")
    before = page.target
    mouse = page.page.mouse
    mouse.move(*page.at(200, 120))
    mouse.down()
    mouse.move(*page.at(230, 150))
    mouse.move(*page.at(248, 168))
    mouse.up()
    page.wait_for_target(before)
    assert is_near(started(camera.feed, page.target)[1], box, pixels=1.5)
    page.page.keyboard.press("0")
    assert page.value("tile.focus.zoom") == 1


def test_click_starts_the_object_at_that_point(open_page, camera):
    page = open_page()
    box = (136.0, 96.0, 48.0, 48.0)
    camera.scene.box = lambda _step: box
    page.wait(f"Number(BigInt(tile.stamp) / 1000000n) > {time.time() * 1000}")
    before = page.target
    page.page.mouse.click(*page.at(160, 120))
    page.wait_for_target(before)
    left, top, width, height = started(camera.feed, page.target)[1]
    assert is_near((left + width / 2, top + height / 2), (160, 120), pixels=8.0)


def test_where_the_target_is_expected_is_drawn_beside_where_it_was_coasting(open_page, camera):
    page = open_page()
    drawn = page.page.evaluate(
        """async () => {
          const { place, toCanvas } = await import("/geometry.js");
          const tile = vtConsole.tiles[0];
          tile.frozen = true;
          const [box, prediction] = [[40, 60, 40, 40], [200, 60, 40, 40]];
          const coasting = { state: "COASTING", box, prediction };
          const at = place(tile.canvas.getBoundingClientRect(), tile.size, tile.focus);
          const middle = (x) => {
            const { x: left, y } = toCanvas(at, { x, y: 80 });
            const pixel = [Math.round(left * devicePixelRatio), Math.round(y * devicePixelRatio)];
            return [...tile.canvas.getContext("2d").getImageData(...pixel, 1, 1).data].join();
          };
          const look = (state) => {
            Object.assign(tile.shown.state, state);
            tile.draw();
            return [middle(60), middle(220)];
          };
          tile.trail = [];
          return [look({ state: "IDLE", box: null }), look(coasting)];
        }"""
    )
    (was, expected), (was_coasting, expected_coasting) = drawn
    assert was_coasting == was, "of the last box the corners alone"
    assert expected_coasting != expected, "the ghost is filled"


def test_frame_that_stays_and_a_clock_that_is_ahead_are_told(open_page, camera):
    page = open_page()
    page.page.evaluate(
        """() => {
          const tile = vtConsole.tiles[0];
          const take = tile.take.bind(tile);
          tile.take = (state, ...rest) => take({ ...state, age_ms: -3600000 }, ...rest);
        }"""
    )
    page.page.get_by_text("age unknown: stamps are ahead").wait_for()
    camera.close()
    page.page.get_by_text("tracker/status is silent, and no images arrive here").first.wait_for()
    page.wait("tile.isStopped && !tile.veil.hidden && tile.veil.textContent.includes('silent')")


def test_fields_and_answers_of_one_tracker_do_not_stay_for_another(open_page, camera):
    page = open_page()
    told = page.page.evaluate(
        """async () => {
          const { showParameters } = await import("/settings.js");
          const place = document.body.appendChild(document.createElement("div"));
          const change = async () => ({ ok: false, message: "no" });
          const of = (value, high) =>
            [{ name: "a", kind: "float", value, description: "", low: 0, high, choices: [] }];
          showParameters(place, "left", of(0.5, 1), change);
          showParameters(place, "left", of(0.75, 1), change);
          const field = place.querySelector("input");
          field.value = "9";
          field.dispatchEvent(new Event("change"));
          await new Promise((resolve) => setTimeout(resolve, 50));
          const refused = [field.value, place.querySelector(".answer").textContent];
          showParameters(place, "right", of(0.75, 1), change);
          const other = place.querySelector(".answer").textContent;
          showParameters(place, "right", of(0.75, 2), change);
          return [...refused, other, place.querySelector("input").max];
        }"""
    )
    assert told == ["0.75", "no", "", "2"]


def test_fingers_draw_pinch_and_stop_on_a_phone(open_page, camera):
    page = open_page(PHONE, has_touch=True, is_mobile=True, device_scale_factor=2)
    assert page.page.evaluate("document.documentElement.scrollWidth") <= 360
    box = (100.0, 60.0, 48.0, 48.0)
    camera.scene.box = lambda _step: box
    page.wait(f"Number(BigInt(tile.stamp) / 1000000n) > {time.time() * 1000}")
    before = page.target
    session = page.page.context.new_cdp_session(page.page)

    def touch(kind, *points):
        fingers = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})

    touch("touchStart", page.at(100, 60))
    touch("touchMove", page.at(125, 80))
    touch("touchMove", page.at(148, 108))
    touch("touchEnd")
    page.wait_for_target(before)
    assert is_near(started(camera.feed, page.target)[1], box, pixels=3.0)

    touch("touchStart", page.at(150, 110), page.at(170, 110))
    touch("touchMove", page.at(120, 110), page.at(200, 110))
    touch("touchEnd")
    assert page.value("tile.focus.zoom") > 1.5
    assert page.value("tile.draft") is None, "two fingers draw nothing"
    stop = page.page.locator("#stop").bounding_box()
    assert stop["y"] + stop["height"] <= PHONE["height"], "STOP is always to be seen"
    assert stop["width"] > 300
    page.page.locator("#stop").tap()
    page.wait_for_state("IDLE")


def test_two_that_fit_a_text_are_drawn_on_the_searched_frame_and_one_is_tapped(open_page, camera):
    page = open_page()
    box = (200.0, 120.0, 48.0, 48.0)
    camera.scene.box = lambda _step: box
    camera.frame = lambda step: camera.scene.with_another(step, (10, 10))
    page.wait(f"Number(BigInt(tile.stamp) / 1000000n) > {time.time() * 1000}")
    before = page.target
    page.page.keyboard.press("/")
    page.page.keyboard.type("red square")
    page.page.keyboard.press("Enter")
    chips = page.page.locator("#candidates button")
    chips.nth(1).wait_for()
    assert chips.count() == 2
    assert "ambiguous" in page.page.inner_text("#answer")
    boxes = page.value("tile.candidates.boxes")
    image = page.shot()
    yellow = (image[..., 0] > 235) & (image[..., 1] > 200) & (image[..., 2] < 110)
    left, top, scale = page.rect()
    rect = page.page.locator("canvas").first.bounding_box()
    for x, y, _, _ in boxes:
        column = round(left - rect["x"] + x * scale + 12)
        row = round(top - rect["y"] + y * scale + 4)
        assert yellow[row - 3 : row + 3, column - 3 : column + 3].any(), "it is marked"
    chips.nth(boxes.index(min(boxes))).click()
    page.wait_for_target(before)
    stamp, found = started(camera.feed, page.target)
    assert is_near(found, (10, 10, 48, 48))
    assert stamp in camera.boxes
    assert page.page.locator("#candidates").is_hidden()


def test_of_two_searches_the_answer_of_the_newer_counts_and_none_after_stop(open_page, camera):
    page = open_page()
    told = page.page.evaluate(
        """async () => {
          const { tiles: [tile], connection } = vtConsole;
          const asked = [];
          connection.request = (message) =>
            new Promise((answer) => asked.push({ message, answer }));
          const search = (text) => {
            document.getElementById("text").value = text;
            document.getElementById("text-form").requestSubmit();
            return asked.at(-1);
          };
          const answer = async (request, x) => {
            const candidates = [[x, 2, 30, 40], [x, 60, 30, 40]];
            request.answer({ ok: false, message: "ambiguous", candidates, stamp: "0" });
            await new Promise((resolve) => setTimeout(resolve, 50));
            return tile.candidates?.boxes[0][0] ?? null;
          };
          const [first, second] = [search("a car"), search("a bus")];
          const shown = [await answer(first, 1), await answer(second, 5)];
          document.querySelector("#candidates button").click();
          const { box, text } = asked.at(-1).message;
          const third = search("a van");
          document.getElementById("stop").click();
          return [...shown, box[0], text, await answer(third, 9)];
        }"""
    )
    assert told == [None, 5, 5, "a bus", None]


def test_lost_and_found_target_waits_for_yes_where_the_operator_confirms(open_page, camera):
    page = open_page()
    page.page.locator("#settings summary").click()
    mode = page.page.locator("[id='parameter-target.confirm']")
    mode.select_option("operator")
    page.page.get_by_text("target.confirm is operator now").wait_for()
    doubt = page.page.locator("[id='parameter-target.doubt_threshold']")
    doubt.fill("0.95")
    doubt.press("Enter")
    refusal = page.page.locator(".answer.refused")
    refusal.wait_for()
    assert "doubt_threshold" in refusal.inner_text(), "the node's own words"
    assert doubt.input_value() == "0.2", "and its value as it was"

    assert camera.feed.set_target().success
    page.wait_for_state("TRACKING")
    camera.frame = lambda _step: camera.scene.empty()
    page.wait_for_state("LOST")
    assert page.value("tile.badge.textContent") == "Lost"
    page.page.get_by_text("Lost, being searched for", exact=True).wait_for()
    episodes = page.page.locator("#episodes")
    episodes.get_by_text("Lost").first.wait_for()
    camera.frame = camera.scene.frame
    question = page.page.locator("#confirmation")
    question.wait_for(state="visible")
    assert page.value("tile.shown.state.state") != "TRACKING"
    page.page.locator("#confirm").click()
    page.wait_for_state("TRACKING")
    question.wait_for(state="hidden")
    episodes.get_by_text("Tracking").first.wait_for()
    mode.select_option("automatic")
    page.page.get_by_text("target.confirm is automatic now").wait_for()


def test_keyboard_alone_places_nudges_starts_and_stops(open_page, camera):
    page = open_page()
    box = (136.0, 96.0, 48.0, 48.0)  # in the middle
    camera.scene.box = lambda _step: box
    page.wait(f"Number(BigInt(tile.stamp) / 1000000n) > {time.time() * 1000}")
    before, keys = page.target, page.page.keyboard
    for _ in range(3):
        keys.press("Tab")
        if page.page.evaluate("document.activeElement.className") == "stage":
            break
    assert page.page.evaluate("document.activeElement.getAttribute('aria-label')")
    keys.press("b")
    keys.press("ArrowRight")
    keys.press("ArrowLeft")
    keys.press("Alt+Shift+ArrowRight")
    assert page.value("tile.keyboardBox[2]") == 49
    keys.press("Escape")
    assert page.value("tile.keyboardBox") is None
    keys.press("b")
    keys.press("Enter")
    page.wait_for_target(before)
    assert is_near(started(camera.feed, page.target)[1], box)
    keys.press("Escape")
    page.wait_for_state("IDLE")
    keys.press("?")
    assert page.page.locator("#help").is_visible()


def test_page_speaks_to_screen_readers_and_in_light_and_dark(open_page, camera):
    page = open_page(color_scheme="dark")
    names = page.page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, canvas, [role]")]
          .filter((one) => one.offsetParent)
          .filter((one) => !(one.textContent.trim() || one.ariaLabel || one.labels?.length
            || one.getAttribute("aria-labelledby") || one.closest("[role=application]")))
          .map((one) => one.outerHTML)"""
    )
    empty = ('role="status"', 'role="alert"')
    assert [name for name in names if not any(role in name for role in empty)] == []
    page.wait("document.getElementById('announcer').textContent.includes('/tracker')")
    colours = []
    for scheme in ("dark", "light"):
        page.page.emulate_media(color_scheme=scheme)
        colours.append(page.page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert colours[0] != colours[1]
    with page.page.expect_download() as download:
        page.page.locator("#snapshot").click()
    image = cv2.imread(str(download.value.path()))
    assert image.shape == (240, 320, 3)
    assert download.value.suggested_filename.startswith("tracker_")


def test_two_browsers_see_one_target_and_the_second_may_stop_it(open_page, camera):
    first, second = open_page(), open_page(PHONE)
    assert camera.feed.set_target().success
    for page in (first, second):
        page.wait_for_state("TRACKING")
    # One that stands still: the other, and the tracker, go on.
    first.page.evaluate("window.requestAnimationFrame = () => 0")
    count, frame = len(camera.feed.status), second.value("tile.shown.state.frame")
    second.wait(f"tile.shown.state.frame > {frame + 10}")
    assert len(camera.feed.status) > count + 5
    second.page.locator("#stop").click()
    second.wait_for_state("IDLE")


def test_token_that_is_wrong_is_refused_and_the_right_one_opens_the_page(
    browser, shared_ros, camera, start_console, tmp_path
):
    token = tmp_path / "token"
    token.write_text("a-token-of-this-test")
    token.chmod(0o600)
    guarded = start_console(shared_ros, token_file=str(token))
    context = browser.new_context(viewport=PHONE)
    page = Page(context, guarded.url)
    assert page.page.url.endswith("/login")
    page.page.get_by_label("Token").fill("not-the-token-at-all")
    page.page.get_by_role("button").click()
    page.page.get_by_text("That is not the token").wait_for()
    page.page.get_by_label("Token").fill("a-token-of-this-test")
    page.page.keyboard.press("Enter")
    page.page.locator("#stop").wait_for()
    page.wait("tile.shown")
    assert guarded.process.stop() == 0
    page.page.get_by_text("No connection to the console").wait_for()
    page.close()
    context.close()


def test_two_trackers_are_tiles_and_a_click_chooses_one(browser, shared_ros, camera, start_console):
    both = start_console(shared_ros, trackers=["tracker", "/rear/tracker"])
    context = browser.new_context(viewport=DESKTOP)
    page = Page(context, both.url, camera)
    tiles = page.page.locator(".tile")
    assert tiles.count() == 2
    tiles.nth(1).get_by_text("nobody publishes /rear/image_raw: is the camera running?").wait_for()
    before = page.target
    tiles.nth(1).locator("canvas").click()
    assert page.page.locator(".tile.selected .name").inner_text() == "/rear/tracker"
    page.page.locator("#stop").click()
    page.page.get_by_text("there is no /rear/tracker/clear_target").wait_for()
    tiles.nth(0).locator("canvas").click()
    assert page.page.locator(".tile.selected .name").inner_text() == "/tracker"
    assert page.target == before, "the click that chooses a tile starts nothing"
    page.close()
    context.close()
    assert both.process.stop() == 0


class ThinLink:
    """A way to the console of so many bytes a second, with the small buffers of a slow modem."""

    def __init__(self, host, rate):
        self._target, self._rate = host.split(":"), rate
        self.is_dead = False  # then nothing comes through, and nobody is told
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        self._ready.wait()

    async def _serve(self):
        self._loop, self._closing = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0, limit=4096)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        self._ready.set()
        await self._closing.wait()
        server.close()

    async def _connect(self, reader, writer):
        host, port = self._target
        inner, outer = await asyncio.open_connection(host, port, limit=4096)
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(
                self._copy(reader, outer, None), self._copy(inner, writer, self._rate)
            )

    async def _copy(self, reader, writer, rate):
        while data := await reader.read(1024):
            while self.is_dead:
                await asyncio.sleep(0.05)
            writer.write(data)
            await writer.drain()
            if rate is not None:
                await asyncio.sleep(len(data) / rate)
        writer.close()

    def close(self):
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()


def test_link_that_dies_in_silence_is_told_and_what_was_asked_is_answered(browser, console, camera):
    link = ThinLink(console.host, 1e6)
    context = browser.new_context(viewport=DESKTOP)
    try:
        page = Page(context, link.url, camera)
        link.is_dead = True
        page.page.locator("#stop").click()
        page.page.get_by_text("Stopping …").wait_for()
        page.page.get_by_text("The connection ended before the answer came.").wait_for()
        page.page.get_by_text("No connection to the console").wait_for()
        link.is_dead = False
        page.page.get_by_text("connected", exact=True).wait_for()
        frame = page.value("tile.shown.state.frame")
        page.wait(f"tile.shown.state.frame > {frame + 5}")
        page.close()
    finally:
        link.is_dead = False
        context.close()
        link.close()


def test_thin_link_lowers_the_quality_and_the_age_stays_bounded(browser, console, camera):
    """Fifteen frames a second of some 8 kB through 30 kB a second: a queue would grow."""
    link = ThinLink(console.host, 30_000.0)
    context = browser.new_context(viewport=DESKTOP)
    try:
        page = Page(context, link.url, camera)
        page.wait("tile.shown.state.quality < 60")
        first = page.value("tile.shown.state.frame")
        page.wait(f"tile.shown.state.frame > {first + 100}")
        assert page.value("tile.ageMs") < 3000, "after seven seconds and more"
        assert page.value("tile.shown.state.bytes") < 30_000 * 0.3
        page.close()
    finally:
        context.close()
        link.close()
