# SPDX-License-Identifier: Apache-2.0
"""Nodes in processes of their own, as the demonstrations start them."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

from vt_ros.common.resources import fast_dds_environment

_HIGHEST_DOMAIN = 101

NAMESPACE = f"/demo_{os.getpid()}"
"""Should another run be in the same ROS domain, the topics are still this one's own."""


class DemoError(RuntimeError):
    """The demo cannot go on; the message says why and what to do."""


class Process:
    """One node, its output in a log file.

    Args:
        name: of its module in `vt_ros`.
        parameters: by name.
        log: where its output goes.
        remappings: of topics, by the name in the node.
    """

    def __init__(
        self,
        name: str,
        parameters: dict[str, object],
        log: Path,
        remappings: dict[str, str] | None = None,
    ) -> None:
        command = [sys.executable, "-m", f"vt_ros.{name}"]
        command += ["--ros-args", "-r", f"__ns:={NAMESPACE}"]
        for parameter, value in parameters.items():
            text = str(value).lower() if isinstance(value, bool) else str(value)
            command += ["-p", f"{parameter}:={text}"]
        for topic, other in (remappings or {}).items():
            command += ["-r", f"{topic}:={other}"]
        self._name, self._log = name, log
        with log.open("w", encoding="utf-8") as file:
            # The environment as it is: the ROS wheels' own variables must come together.
            self._process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)

    def check(self) -> None:
        """Raise DemoError if the process has ended."""
        code = self._process.poll()
        if code is None:
            return
        raise DemoError(f"{self._name} ended with code {code}: {self.last_words()}")

    def last_words(self) -> str:
        """Return the end of its log on one line."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return " | ".join(lines[-2:])

    def stop(self) -> None:
        """Stop it as Ctrl-C does, and kill it if that does not help."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(10.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def isolate() -> None:
    """Take a ROS domain of this run's own on this machine, and the profile for large images."""
    os.environ["ROS_DOMAIN_ID"] = str(random.SystemRandom().randint(1, _HIGHEST_DOMAIN))
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ.update(fast_dds_environment(os.environ))
