# SPDX-License-Identifier: Apache-2.0
"""Files of weights: our own `.safetensors`, and what `torch.save` writes.

Nothing here unpickles: `.safetensors` holds tensors only, and `container` reads a published
checkpoint without running anything that is written in it. `tensors` needs the library safetensors.
Which network the tensors are of is no business of this room (`vt_models.nets.importer`).
"""
