# SPDX-License-Identifier: Apache-2.0
"""Learning from another network."""
