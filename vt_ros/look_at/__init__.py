# SPDX-License-Identifier: Apache-2.0
"""The node `look_at`: turns a camera (gimbal, pan and tilt, robot) towards the target."""
