# SPDX-License-Identifier: Apache-2.0
"""Training recipes: their settings, how they are read, which values go together."""
