# SPDX-License-Identifier: Apache-2.0
"""Networks, one file per paper, and the protocol that all of them follow.

Importing this package needs no torch; importing a network's own module does (extra ``train``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import Self

__all__ = ["LanguageNet", "SiameseNet"]


@runtime_checkable
class SiameseNet(Protocol):
    """A tracker's network, split into what runs once and what runs on every frame.

    Attributes:
        state_names: names of the tensors that ``encode_template`` returns, in order.
        output_names: names of the tensors that ``search`` returns, in order. Either
            ``("box", "score")``, box (B, 4) cx, cy, w, h as fractions of the search crop and
            score (B,) in [0, 1], or ``("score_map", "box_map")``, (B, H, W) in [0, 1] and
            (B, 4, H, W) cx, cy, w, h as fractions of the search crop.
    """

    state_names: tuple[str, ...]
    output_names: tuple[str, ...]

    def encode_template(self, template: Tensor, *extra: Tensor) -> tuple[Tensor, ...]:
        """Compute all that depends on the template alone.

        Args:
            template: (B, 3, T, T) float32, normalised RGB; (B, V, 3, T, T) for models with several
                views of a template.
            extra: in the order of `ModelSpec.template_inputs`: ``template_box`` (B, 4), x, y, w, h
                as fractions of the (first) crop; ``template_mask`` (B, T, T) bool, True on padding.

        Returns:
            The template state, in the order of ``state_names``.
        """
        ...

    def search(self, search: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """Find the target in a search region.

        Args:
            search: (B, 3, S, S) float32, normalised RGB.
            rest: in the order of `ModelSpec.search_inputs`: ``search_mask`` (B, S, S) bool, True
                on padding; then the template state, then that of the dynamic template and that of
                the text for models which have these.

        Returns:
            The outputs, in the order of ``output_names``.
        """
        ...

    def forward(self, template: Tensor, search: Tensor) -> dict[str, Tensor]:
        """Run the training pass; the further arguments are named by `ModelSpec.forward_inputs`.

        Returns:
            What the loss of the family knows.
        """
        ...

    def merge(self) -> Self:
        """Fold the training form into the deploy form, in place. Calling it twice is harmless."""
        ...


@runtime_checkable
class LanguageNet(SiameseNet, Protocol):
    """A network that reads a text, once per target.

    Attributes:
        text_state_names: names of the tensors that ``encode_text`` returns, in order.
    """

    text_state_names: tuple[str, ...]

    def encode_text(self, text_ids: Tensor, text_mask: Tensor) -> tuple[Tensor, ...]:
        """Compute all that depends on the text alone.

        Args:
            text_ids: (B, L) int64 word pieces.
            text_mask: (B, L) bool, True for those that count; all False for no text.

        Returns:
            The text state, in the order of ``text_state_names``.
        """
        ...
