# SPDX-License-Identifier: Apache-2.0
"""The demonstration: camera and tracker on a bundled video, and whether the target was kept."""
