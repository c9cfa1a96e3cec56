# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of the project; results in `results/`."""
