# SPDX-License-Identifier: Apache-2.0
"""Scores of boxes against the truth, by the rules of each benchmark."""
