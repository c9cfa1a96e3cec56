# SPDX-License-Identifier: Apache-2.0
"""The node `tracker`: images in; detections, status and bearing out; targets by service."""
