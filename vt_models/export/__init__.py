# SPDX-License-Identifier: Apache-2.0
"""From torch weights to a directory of ONNX graphs. Needs the `train` extra."""
