# SPDX-License-Identifier: Apache-2.0
"""Standard output and error that take any text, also of a process that was started without them."""

from __future__ import annotations

import io
import os
import sys


def open_standard_streams() -> None:
    """Open what is closed, as by a daemon or a shell's `>&-`; escape what a terminal cannot show.

    Python has None in place of a closed stream. And the next file or socket that is opened would
    get its number, so that what native code writes to standard error would end up in there.
    """
    opened = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    while opened <= 2:
        opened = os.open(os.devnull, os.O_RDWR)
    os.close(opened)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            stream = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - it stays
            setattr(sys, name, stream)
        elif isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
