# SPDX-License-Identifier: Apache-2.0
"""The node `camera`: a video file, a folder of images or a webcam as `image_raw`."""
