# SPDX-License-Identifier: Apache-2.0
"""`python -m vt_models` is `vt-models`."""

from __future__ import annotations

import sys

from vt_models.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
