# SPDX-License-Identifier: Apache-2.0
"""Weights: our own `.safetensors` files, and published checkpoints made into such files.

Nothing here unpickles: `.safetensors` holds tensors only, and `importer` reads a published
checkpoint without running anything that is written in it. `importer` and `tensors` need the library
safetensors; `verify`, which a robot runs, does not.
"""
