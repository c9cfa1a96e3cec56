# SPDX-License-Identifier: Apache-2.0
"""MAVLink 2: the messages that nodes of this package speak, and the links that carry them."""
