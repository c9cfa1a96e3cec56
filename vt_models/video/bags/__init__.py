# SPDX-License-Identifier: Apache-2.0
"""Bags: recordings of ROS topics, rosbag2 in SQLite or MCAP, read and written without ROS.

`rosbags`, of the extra `bags`, knows the formats; it is imported when a bag is opened.
"""
