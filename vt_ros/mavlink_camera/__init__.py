# SPDX-License-Identifier: Apache-2.0
"""The node `mavlink_camera`: the tracker as a MAVLink 2 camera for ground stations, autopilots."""
