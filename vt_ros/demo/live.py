# SPDX-License-Identifier: Apache-2.0
"""The demo's footage again and again, with the operator's page in the browser: make demo-console.

Runs until Ctrl-C or SIGTERM: exit code 0 then, 1 if a node ended by itself, 2 for bad arguments.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import time
import webbrowser
from pathlib import Path
from typing import NoReturn

from vt_models.errors import InputError
from vt_models.video.sources import VideoFile
from vt_ros.demo.demonstration import CLIPS, bundled_clip
from vt_ros.demo.processes import DemoError, Process, isolate

EXIT_OK, EXIT_FAILED = 0, 1

_PATIENCE = 60.0  # seconds for a node to be at work, on a slow, busy machine
_ACTIVE = re.compile(r"\]: (active): ")
_PAGE = re.compile(r"open (http://\S+) in a browser")
_REFUSAL = re.compile(r"\]: (cannot (?:configure|activate): .+)")


def run(arguments: argparse.Namespace) -> NoReturn:
    """Start the nodes, say where the page is, and wait until one of them ends.

    Raises:
        DemoError: a node has ended; the message has its last words.
    """
    folder = Path(arguments.output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DemoError(f"cannot make the folder {folder}: {error.strerror}") from error
    try:
        video = arguments.video or bundled_clip(arguments.clip, folder).video
        VideoFile(Path(video)).close()  # a sentence at once, not a line in the camera's log
    except InputError as error:
        raise DemoError(str(error)) from error
    isolate()
    processes: dict[str, Process] = {}
    try:
        for name, parameters in (
            # Who draws with care needs more than the two seconds that a frame is held.
            ("tracker", {"model": arguments.model, "frame_buffer.seconds": 10.0}),
            ("camera", {"source": video, "loop": True}),
            ("console", {"port": arguments.port}),
        ):
            processes[name] = Process(name, parameters, folder / f"{name}.log")
        _wait_for(_ACTIVE, folder / "tracker.log", processes)
        url = _wait_for(_PAGE, folder / "console.log", processes)
        print(f"{url} shows the tracker live: draw a box, click, or write what to track")
        print("Ctrl-C ends it", flush=True)
        if not arguments.no_browser and (os.environ.get("DISPLAY") or sys.platform == "darwin"):
            webbrowser.open(url)
        while True:
            time.sleep(0.5)
            for process in processes.values():
                process.check()
    finally:
        for process in processes.values():
            process.stop()


def _wait_for(line: re.Pattern[str], log: Path, processes: dict[str, Process]) -> str:
    """Return what a node's log says; one that is at work no more, or not at all, is an error."""
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        text = log.read_text(encoding="utf-8", errors="replace")
        found, refusal = line.search(text), _REFUSAL.search(text)
        if found:
            return found[1]
        if refusal:  # a node that is refused its transition goes on
            raise DemoError(f"{log.stem} {refusal[1]}")
        for process in processes.values():
            process.check()
        time.sleep(0.1)
    raise DemoError(f"waited {_PATIENCE:g} s for the {log.stem}; see {log}")


def main(argv: list[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="demo-console", description=__doc__.splitlines()[0])
    parser.add_argument("--clip", choices=CLIPS, default=CLIPS[0], help="what is shown")
    parser.add_argument("--video", help="a video of your own instead")
    parser.add_argument("--port", type=int, default=8080, help="of the page; 0: a free one")
    parser.add_argument("--no-browser", action="store_true", help="open no browser")
    parser.add_argument("--model", default="asymtrack_lite0", metavar="NAME")
    parser.add_argument("--output", default="demo_output", metavar="DIR", help="for the logs")
    arguments = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the nodes would live on
    try:
        run(arguments)
    except DemoError as error:
        sys.stderr.write(f"error: {error} (logs in {arguments.output})\n")
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
