# SPDX-License-Identifier: Apache-2.0
"""AsymTrack-Nano: the design of AsymTrack-Lite on NanoTrack v3's MobileNetV3 backbone.

See `vt_models.nets.asymtrack_lite` for the design. Input: RGB bytes as they are, 0 to 255. The
backbone was trained on BGR; `load_nanotrack_backbone` swaps the input channels of its first
kernels, so that no operation is spent on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vt_models.nets.asymtrack_lite import AsymTrackLite
from vt_models.nets.mobilenet import STRIDE8_CHANNELS, STRIDE16_CHANNELS, NanoTrackBackbone

if TYPE_CHECKING:
    from pathlib import Path


class AsymTrackNano(AsymTrackLite):
    """On NanoTrack v3's backbone."""

    backbone: NanoTrackBackbone

    def __init__(self, channels16: int = 96, channels8: int = 48) -> None:
        channels = (STRIDE8_CHANNELS, STRIDE16_CHANNELS)
        super().__init__(NanoTrackBackbone(), channels, channels16, channels8)

    def load_nanotrack_backbone(self, file: Path) -> None:
        """Loads the backbone of NanoTrack v3's published weights, for RGB input.

        Raises:
            WeightsError: Another file; see `NanoTrackBackbone.load_nanotrack`.
        """
        self.backbone.load_nanotrack(file, rgb=True)


def asymtrack_nano() -> AsymTrackNano:
    """The small model: 96 channels at stride 16, 48 at stride 8, 8 prototypes."""
    return AsymTrackNano()
