# SPDX-License-Identifier: Apache-2.0
"""Boxes, crops and the camera model: plain numpy and OpenCV."""
