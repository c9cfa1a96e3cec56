# SPDX-License-Identifier: Apache-2.0
"""Building blocks that several networks share, most of them AsymTrack's.

Zhu et al., "Two-stream Beats One-stream: Asymmetric Siamese Network for Efficient Visual Tracking"
(AAAI 2025); equation numbers below are the paper's. Parameter names and shapes are those of the
published checkpoints. The authors keep their maps channels-last and project them with
``nn.Linear``; here every map is (B, C, H, W), which the depthwise and 3x3 convolutions want anyway,
and a linear projection is a 1x1 convolution over the same (out, in) matrix.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vt_models.nets.recording import record


class MapLinear(nn.Linear):
    """``nn.Linear`` over the channels of a map: (B, C_in, H, W) -> (B, C_out, H, W).

    The weight keeps the (C_out, C_in) shape of ``nn.Linear``.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, H, W) -> (B, C_out, H, W)."""
        return F.conv2d(x, self.weight[:, :, None, None], self.bias)


class MapNorm(nn.LayerNorm):
    """Layer norm over the channels of each position of a map: (B, C, H, W) -> (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) -> the same shape."""
        x = x.permute(0, 2, 3, 1)
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class Projection(nn.Sequential):
    """1x1 convolution and batch norm."""

    def __init__(self, channels: int, out_channels: int) -> None:
        conv = nn.Conv2d(channels, out_channels, 1, bias=False)
        super().__init__(conv, nn.BatchNorm2d(out_channels))


class ObjectPerceptionEnhancement(nn.Module):
    """Object perception enhancement (OPE), eq. 8: ``x + ibe_scale * ReLU(LN(conv3x3(x)))``.

    ``branches`` parallel 3x3 convolutions hold the semantic descriptors W_i; each has a local
    descriptor ``-sigmoid(theta) * sum_3x3(W_i)``, a 1x1 convolution that reuses W_i. As all of them
    are linear they add up to one 3x3 convolution, in training too (adding weights costs nothing
    beside adding maps, and the results differ by 2e-7). ``merge`` keeps only the sum.

    ``theta`` starts at 0 (half of the plain convolution's response to a constant map is removed);
    ``ibe_scale`` starts at 0, so a fresh module is the identity.

    Args:
        channels: C of the (B, C, H, W) map; the output has the same shape.
        branches: M in the paper; 3 in the published networks.
    """

    def __init__(self, channels: int, branches: int = 3) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(1))
        self.ibe_scale = nn.Parameter(torch.zeros(channels))
        self.rbr_conv = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(branches)
        )
        self.rbr_reparam: nn.Conv2d | None = None
        self.ln = MapNorm(channels)

    def kernel(self) -> Tensor:
        """Return the (C, C, 3, 3) kernel that all branches together amount to."""
        if self.rbr_reparam is not None:
            return self.rbr_reparam.weight
        # Added one after the other: the gradient of torch.stack(...).sum(0) is one block of memory
        # for all branches, which clipping would scale once for each of them.
        semantic = sum(conv.weight for conv in self.rbr_conv)
        local = -torch.sigmoid(self.theta) * semantic.sum((2, 3), keepdim=True)
        return semantic + F.pad(local, (1, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) -> the same shape."""
        enhanced = F.relu(self.ln(F.conv2d(x, self.kernel(), padding=1)))
        return x + self.ibe_scale[:, None, None] * enhanced

    @torch.no_grad()
    def merge(self) -> None:
        """Replace the branches by ``rbr_reparam``, the convolution they add up to, in place."""
        if self.rbr_reparam is not None:
            return
        kernel = self.kernel().clone()
        merged = nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1, bias=False)
        merged.weight = nn.Parameter(kernel, requires_grad=self.theta.requires_grad)
        self.rbr_reparam = merged
        del self.rbr_conv, self.theta


class DynamicConv1d(nn.Module):
    """Separable dynamic convolution of the search prototypes, eq. 5 and 6.

    The prototypes (B, N, C) are N signals of length C. A depthwise convolution of width 3 along C
    and a pointwise one over N follow each other; both kernels are a linear function of the
    template's prototype. The paper writes it the other way round (kernels from the search
    prototypes, convolved over the template's); the published code and weights do what is done here.

    Args:
        channels: C, the length of a prototype.
        count: N, the number of prototypes.
    """

    WIDTH = 3

    def __init__(self, channels: int, count: int) -> None:
        super().__init__()
        self.weight_linear = nn.Linear(channels, count + self.WIDTH)
        self.norm = nn.LayerNorm(channels)

    def kernels(self, prototype: Tensor) -> Tensor:
        """Template prototype (B, N, C) -> kernels (B, N, 3 + N): depthwise taps, then pointwise."""
        return self.weight_linear(prototype)

    def forward(self, prototype: Tensor, kernels: Tensor) -> Tensor:
        """Convolve the search prototype (B, N, C) with ``kernels``; returns (B, N, C)."""
        taps, pointwise = kernels[..., : self.WIDTH], kernels[..., self.WIDTH :]
        padded = F.pad(prototype, (1, 1))
        length = prototype.shape[-1]
        depthwise = taps[..., 0:1] * padded[..., :length]
        depthwise = depthwise + taps[..., 1:2] * prototype
        depthwise = depthwise + taps[..., 2:3] * padded[..., 2:]
        return self.norm(pointwise @ F.relu(depthwise))


class PrototypeCrossAttention(nn.Module):
    """Multi-head cross attention of the search prototypes to the template's, table 5 (a).

    The paper names it as what takes the place of the dynamic convolution, and no more: here heads
    of 32 dimensions, a projection and the convolution's layer norm, without a residual sum, which
    the convolution does not have either.

    Args:
        channels: C, the length of a prototype.
        count: N, the number of prototypes.
    """

    HEAD_DIM = 32

    def __init__(self, channels: int, count: int) -> None:  # noqa: ARG002 - as DynamicConv1d
        super().__init__()
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(channels, 2 * channels)
        self.proj = nn.Linear(channels, channels)
        self.norm = nn.LayerNorm(channels)

    def kernels(self, prototype: Tensor) -> Tensor:
        """Template prototype (B, N, C) -> its keys, then its values (B, N, 2 C)."""
        return self.key_value(prototype)

    def forward(self, prototype: Tensor, kernels: Tensor) -> Tensor:
        """Let the search prototype (B, N, C) attend to ``kernels``; returns (B, N, C)."""
        query, key, value = (
            part.unflatten(2, (-1, self.HEAD_DIM)).transpose(1, 2)
            for part in (self.query(prototype), *kernels.chunk(2, dim=-1))
        )
        weights = torch.softmax(query @ key.transpose(2, 3) * self.HEAD_DIM**-0.5, dim=-1)
        return self.norm(self.proj((weights @ value).transpose(1, 2).flatten(2)))


class EfficientTemplateModulation(nn.Module):
    """Efficient template modulation (ETM), eq. 4 to 7: the template's cues enter the search map.

    The template runs once: ``kernels(prototype(z))``, or ``encode_template(z)`` for both, gives the
    (B, N, 3 + N) tensor (the mixer's `kernels`) which is all that ``forward`` needs of the template
    on every frame.

    Args:
        channels: C of the (B, C, H, W) maps.
        count: N, the number of prototypes; C // 32 in the published networks.
        detach_prototype: cut the gradient at the template's prototype while training, as
            published. ``pre_kernels`` then never learns (it stays a random projection) and no
            gradient reaches the template's features through this module. False lets both learn.
        attention: weigh the mixed prototypes by the gate of eq. 7; False takes them as they are.
        mixer: what brings the template's prototypes into the search region's.
    """

    UNUSED_PUBLISHED = ("post_kernels", "downsample.proj", "downsample.norm")

    def __init__(
        self,
        channels: int,
        count: int,
        detach_prototype: bool = True,
        *,
        attention: bool = True,
        mixer: type[DynamicConv1d] | type[PrototypeCrossAttention] = DynamicConv1d,
    ) -> None:
        super().__init__()
        self.detach_prototype = detach_prototype
        self.pre_kernels = MapLinear(channels, count)
        self.pre_kernels_x = MapLinear(channels, count)
        self.conv_att = mixer(channels, count)
        self.proj_Cto1 = nn.Linear(channels, 1) if attention else None
        self.ln = MapNorm(channels)

    def prototype(self, z: Tensor) -> Tensor:
        """Template map (B, C, H, W) -> prototype P_z (B, N, C), eq. 4: a plain sum."""
        prototype = _contract(self.pre_kernels(z), z)
        return prototype.detach() if self.detach_prototype else prototype

    def kernels(self, prototype: Tensor) -> Tensor:
        """Template prototype (B, N, C) -> dynamic kernels (B, N, 3 + N)."""
        return self.conv_att.kernels(prototype)

    def encode_template(self, z: Tensor) -> Tensor:
        """Template map (B, C, H, W) -> dynamic kernels (B, N, 3 + N), to be computed once."""
        return self.kernels(self.prototype(z))

    def forward(self, x: Tensor, kernels: Tensor) -> Tensor:
        """Modulate the search map.

        Args:
            x: search map (B, C, H, W).
            kernels: (B, N, 3 + N) from ``encode_template``.

        Returns:
            (B, C, H, W): ``x + ReLU(LN(V * gate))``, V the mixed prototypes spread over the map.
        """
        weights = self.pre_kernels_x(x)
        record("prototypes", lambda: weights)
        mixed = self.conv_att(_contract(weights, x), kernels)
        if self.proj_Cto1 is not None:
            mixed = mixed * torch.sigmoid(self.proj_Cto1(mixed).transpose(1, 2) @ mixed)
        cues = mixed.transpose(1, 2) @ weights.flatten(2)
        return x + F.relu(self.ln(cues.unflatten(2, x.shape[2:])))


def _contract(weights: Tensor, features: Tensor) -> Tensor:
    """Features (B, C, H, W) summed over positions, weighted by (B, N, H, W) -> (B, N, C)."""
    return weights.flatten(2) @ features.flatten(2).transpose(1, 2)
