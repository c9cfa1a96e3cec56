# SPDX-License-Identifier: Apache-2.0
"""The command line `vt-models`: `main`, a module a command, shared options in `options`."""
