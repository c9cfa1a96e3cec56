# SPDX-License-Identifier: Apache-2.0
"""ROS 2 nodes around vt_models: camera in, detections out."""
