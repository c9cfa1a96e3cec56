# SPDX-License-Identifier: Apache-2.0
"""Runs exported networks (ONNX Runtime) or torch modules behind one interface."""
