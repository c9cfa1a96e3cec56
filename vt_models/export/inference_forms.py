# SPDX-License-Identifier: Apache-2.0
"""Parts of networks in the form that ONNX Runtime computes fastest (needs torch).

The numbers are the same but for rounding: the exporter compares the graphs with the network as it
was. What each form saves is a share of the search graph's time: one thread of a Zen 4 EPYC with
AVX-512, ONNX Runtime 1.31. All together are 5.8 % of asymtrack_lite0 with a crop of 256 pixels and
7.3 % of asymtrack_nano with 192.

ONNX Runtime keeps maps of convolutions in blocks of 16 channels. An operation that does not know
these blocks costs a pass over the map before it and one behind it, so most forms here are about
staying in blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vt_models.nets.asymtrack_lite import CELLS, CellSimilarity, SeparableBlock
from vt_models.nets.mobilenet import SqueezeExcite


def use_inference_forms(net: nn.Module) -> int:
    """Replace the parts of a network that have a faster form, in place.

    Args:
        net: merged, in evaluation mode; its parts share their weights with their new forms.

    Returns:
        The number of parts that were replaced.
    """
    count = 0
    for name, part in list(net.named_children()):
        form = _FORMS.get(type(part))
        if form is None:
            count += use_inference_forms(part)
        else:
            setattr(net, name, form(part))
            count += 1
    return count


class PairedSimilarity(nn.Module):
    """`CellSimilarity` that searches both maxima at once, in two steps.

    A maximum over the 64 cells of 32 x 32 positions takes ONNX Runtime 0.18 ms as one ReduceMax,
    the length of each position's vector as long as ReduceL2: their steps of 4096 bytes fall into
    the same places of the cache, which has room for eight (of 24 x 24 positions it is 0.02 ms). So
    it is the maximum of eight maxima of eight, and lengths are a product with a row of ones: 4 %
    less for asymtrack_lite0 with a crop of 256 pixels.
    """

    def __init__(self, given: CellSimilarity) -> None:  # noqa: ARG002 - it has no weights
        super().__init__()

    def forward(self, search: Tensor, cells: Tensor, inside: Tensor) -> Tensor:
        """Compare, see `CellSimilarity`; of one crop: (1, C, H, W) -> (1, 66, H, W)."""
        features = search.flatten(2)
        squares = torch.ones(1, 1, features.shape[1]) @ (features * features)
        similarity = (cells @ features) * (1.0 / squares.sqrt().clamp(min=1e-4))
        excluded = torch.cat([2.0 * (inside < 0.5), 2.0 * (inside >= 0.5)], 0)
        largest = (similarity - excluded).unflatten(1, (CELLS, CELLS)).amax(2).amax(1)
        largest = largest.clamp(min=-1.0)[None]
        return torch.cat([similarity, largest], 1).unflatten(2, search.shape[2:])


class BlockedSeparable(nn.Module):
    """`SeparableBlock` that adds and rectifies inside its last convolution.

    ONNX Runtime fuses these if both maps lie in blocks. A pool of one pixel leaves the map as it is
    and brings it into blocks: 2 to 3 % less for asymtrack_nano, 1 % for asymtrack_lite0.
    """

    def __init__(self, given: SeparableBlock) -> None:
        super().__init__()
        self.depthwise, self.pointwise = given.depthwise, given.pointwise

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same."""
        x = F.max_pool2d(x, 1)
        return F.relu(x + self.pointwise(self.depthwise(x)))


class BlockedSqueezeExcite(nn.Module):
    """`SqueezeExcite` of convolutions, whose weights are spread over the map before the product.

    So nothing leaves the blocks: 2 to 4 % less for asymtrack_nano.
    """

    def __init__(self, given: SqueezeExcite) -> None:
        super().__init__()
        self.squeeze, self.excite = (
            _as_convolution(layer) for layer in given.fc if isinstance(layer, nn.Linear)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same."""
        squeezed = F.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1)))
        weights = F.hardsigmoid(self.excite(squeezed))
        height, width = x.shape[2:]
        return x * F.interpolate(weights, scale_factor=(float(height), float(width)))


def _as_convolution(linear: nn.Linear) -> nn.Conv2d:
    """Make a 1x1 convolution of the same weights."""
    convolution = nn.Conv2d(linear.in_features, linear.out_features, 1)
    convolution.weight = nn.Parameter(linear.weight[:, :, None, None], requires_grad=False)
    convolution.bias = linear.bias
    return convolution


_FORMS: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    CellSimilarity: PairedSimilarity,
    SeparableBlock: BlockedSeparable,
    SqueezeExcite: BlockedSqueezeExcite,
}
