# SPDX-License-Identifier: Apache-2.0
"""Console nodes in processes of their own, and images that go on while a test does something."""

from __future__ import annotations

import re

import pytest


class Console:
    """A console node that has said where its page is."""

    def __init__(self, ros, **parameters):
        self.process = ros.start("console", **{"port": 0, "tracker_timeout": 10.0, **parameters})
        found = ros.until(lambda: re.search(r"http://\S+:\d+/", self.process.output), "the page")
        self.url = found[0]
        self.host = self.url.removeprefix("http://").removesuffix("/")


@pytest.fixture(scope="session")
def start_console():
    """Class of console nodes: called with a ROS session and parameters."""
    return Console
