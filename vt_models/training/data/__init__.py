# SPDX-License-Identifier: Apache-2.0
"""From annotations to training pairs."""
