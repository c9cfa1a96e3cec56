# SPDX-License-Identifier: Apache-2.0
"""What the nodes share: messages, parameter tables, diagnostics, the process around a node."""
