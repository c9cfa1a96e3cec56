# SPDX-License-Identifier: Apache-2.0
"""Tracking a recording as the node would: targets with states through a bag, video or folder."""
