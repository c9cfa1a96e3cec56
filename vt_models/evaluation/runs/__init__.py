# SPDX-License-Identifier: Apache-2.0
"""Running trackers over sequences."""
