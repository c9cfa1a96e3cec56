# SPDX-License-Identifier: Apache-2.0
"""Videos in and out, without ROS: sources of frames, drawing, recording of results."""
