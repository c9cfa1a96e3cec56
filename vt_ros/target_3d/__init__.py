# SPDX-License-Identifier: Apache-2.0
"""The node `target_3d`: from the tracker's box and a range to a position in space."""
