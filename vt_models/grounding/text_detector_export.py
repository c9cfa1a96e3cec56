# SPDX-License-Identifier: Apache-2.0
"""The project's own text detector to an exported one (needs torch)."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vt_models.errors import InputError
from vt_models.export.batch_norm_folding import fold_batch_norms
from vt_models.export.exporter import check_target
from vt_models.export.weight_storage import Storage, round_weights
from vt_models.grounding.export import DetectorGraph, with_graph, write_detector
from vt_models.grounding.export_directory import MANIFEST, TOKENIZER, DetectorExport, TextFormat
from vt_models.nets.efficientnet import INPUT_MEAN, INPUT_STD
from vt_models.nets.text_detector import NAME, STRIDES, TextDetector
from vt_models.text import vocabulary

TEXT_LENGTH = 32
MOST = 100
"""Boxes that the graph gives: the best ones of thousands of places."""


class TextDetectorGraph(DetectorGraph):
    """Bytes and word pieces to the best boxes."""

    inputs = ("image", "text_ids", "text_mask")

    def __init__(self, net: TextDetector) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor, text_ids: Tensor, text_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (1, N) and boxes (1, N, 4), the best first."""
        images = (image.permute(0, 3, 1, 2).float() - INPUT_MEAN) / INPUT_STD
        found = self.net(images, self.net.encode_text(text_ids, text_mask))
        most = min(MOST, int(found.logits.shape[1]))
        scores, order = found.logits[..., 0].sigmoid().topk(most, dim=1)
        return scores, found.boxes.gather(1, order[..., None].expand(-1, -1, 4))


def export_text_detector(
    net: TextDetector,
    directory: str | Path,
    *,
    canvas: tuple[int, int],
    threshold: float,
    names: tuple[str, ...] = (),
    storage: Storage = "int8",
    facts: dict[str, Any] | None = None,
) -> Path:
    """Export the detector; either a checked directory appears at `directory`, or nothing changes.

    Args:
        net: the network; not changed.
        directory: to create. A previous export there is replaced; its other files are kept.
        canvas: (height, width) of the images in pixels, multiples of 32.
        threshold: the score from which on a box is worth believing.
        names: that the network was trained on; what is called by none of them is refused. Empty:
            any text is searched for.
        storage: of the weights, see `vt_models.export.weight_storage`.
        facts: more entries of `grounding.json`.

    Returns:
        The directory.

    Raises:
        InputError: a canvas that the network cannot take.
        ExportError: `directory` holds something else, or the graph does not reproduce the network.
    """
    coarsest = STRIDES[-1]
    if min(canvas) < 2 * coarsest or canvas[0] % coarsest or canvas[1] % coarsest:
        raise InputError(
            f"an image of {canvas[1]}x{canvas[0]}: both sides must be multiples of {coarsest}, at "
            f"least {2 * coarsest}"
        )
    directory = Path(directory)
    check_target(directory, MANIFEST, NAME)
    deployed = copy.deepcopy(net).cpu().float().eval().requires_grad_(requires_grad=False)
    image, words = torch.zeros(1, 3, *canvas), torch.zeros(1, deployed.read.in_features)
    fold_batch_norms(deployed, lambda: deployed(image, words))
    stored = round_weights(deployed, storage)
    module = TextDetectorGraph(deployed).eval()
    described = DetectorExport(
        architecture=NAME,
        canvas=canvas,
        padding=(0, 0, 0),
        text=TextFormat(length=TEXT_LENGTH, lower_case=True, ending="", separators="", pad_id=0),
        default_threshold=threshold,
        names_only=True,
        names=names,
        files={TOKENIZER: vocabulary()},
    )
    described = with_graph(described, module, stored)
    return write_detector(described, module, directory, {"storage": storage, **(facts or {})})
