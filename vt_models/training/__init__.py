# SPDX-License-Identifier: Apache-2.0
"""Training: recipes, pairs, augmentation, losses, the loop. Needs the `train` extra."""
