# SPDX-License-Identifier: Apache-2.0
"""Engines: run exported networks (ONNX Runtime) or torch modules behind one interface."""
