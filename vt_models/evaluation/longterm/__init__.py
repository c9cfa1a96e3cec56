# SPDX-License-Identifier: Apache-2.0
"""Loss and return of a target: composed clips, metrics and their report."""
