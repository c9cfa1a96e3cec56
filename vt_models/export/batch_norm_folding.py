# SPDX-License-Identifier: Apache-2.0
"""Fold batch norms into the convolutions before them (needs torch)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


@torch.no_grad()
def fold_batch_norms(module: nn.Module, run: Callable[[], object]) -> int:
    """Fold each batch norm that always directly follows one convolution into it, in place.

    What follows what is observed while `run` runs, so any way to write a network works. A folded
    batch norm stays in the module as an exact identity. A convolution whose output is also used
    by something that is not a module would be folded wrongly; callers compare the results.

    Args:
        module: in evaluation mode.
        run: calls the module's forward passes.

    Returns:
        The number of folded batch norms.
    """
    pairs = _observe(module, run)
    for norm, convolution in pairs:
        _fold(convolution, norm)
    return len(pairs)


def _observe(
    module: nn.Module, run: Callable[[], object]
) -> list[tuple[nn.BatchNorm2d, nn.Conv2d]]:
    """Find the pairs of a batch norm and the one convolution whose outputs it always got."""
    outputs: list[tuple[Tensor, nn.Conv2d]] = []  # keeps the tensors, so identities stay unique
    sources: dict[nn.BatchNorm2d, list[nn.Conv2d | None]] = {}

    def after_convolution(convolution: nn.Conv2d, _: object, output: Tensor) -> None:
        outputs.append((output, convolution))

    def before_norm(norm: nn.BatchNorm2d, arguments: tuple[Tensor]) -> None:
        found = [made_by for tensor, made_by in outputs if tensor is arguments[0]]
        sources.setdefault(norm, []).append(found[0] if found else None)

    hooks = []
    for child in module.modules():
        if isinstance(child, nn.Conv2d):
            hooks.append(child.register_forward_hook(after_convolution))
        elif isinstance(child, nn.BatchNorm2d):
            hooks.append(child.register_forward_pre_hook(before_norm))
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()

    pairs = []
    for norm, made_by in sources.items():
        convolution = made_by[0]
        calls = sum(1 for _, other in outputs if other is convolution)
        users = sum(1 for others in sources.values() if convolution in others)
        if convolution is None or set(made_by) != {convolution} or users != 1:
            continue
        if calls == len(made_by) and norm.running_var is not None:
            pairs.append((norm, convolution))
    return pairs


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Move a batch norm's scale and shift into the convolution before it."""
    mean, variance = norm.running_mean.double(), norm.running_var.double()
    scale = 1.0 / torch.sqrt(variance + norm.eps)
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    shift = -mean * scale
    if norm.bias is not None:
        shift = shift + norm.bias.double()
    if convolution.bias is not None:
        shift = shift + convolution.bias.double() * scale
    weight = convolution.weight
    weight.copy_((weight.double() * scale.view(-1, 1, 1, 1)).to(weight.dtype))
    convolution.bias = nn.Parameter(shift.to(weight.dtype))
    norm.running_mean.zero_()
    norm.running_var.fill_(1.0)
    norm.eps = 0.0
    if norm.weight is not None:
        norm.weight.fill_(1.0)
    if norm.bias is not None:
        norm.bias.zero_()
