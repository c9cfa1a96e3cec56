# SPDX-License-Identifier: Apache-2.0
"""Program: the demonstration (vt_ros.demonstration), `python -m vt_ros.demo --help`."""

from __future__ import annotations

import signal
import sys

from vt_ros.program import EXIT_USAGE, import_ros


def main(argv: list[str] | None = None) -> int:
    """Run the demo from the command line."""
    module = import_ros("vt_ros.demonstration")
    if module is None:
        return EXIT_USAGE
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return int(module.main(argv))


if __name__ == "__main__":
    sys.exit(main())
