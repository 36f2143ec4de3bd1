"""Giving folded BatchNorm layers their statistics back, so that a network stored for inference can be trained on.

Checkpoints for deployment often carry BatchNorm folded into the convolution before it: mean 0, variance 1, gain 1. In
evaluation they compute what they always did; in training mode the batch statistics replace the folded ones and wipe out
the learned scale of every channel.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["folded_batch_norms", "unfold_batch_norm"]


def folded_batch_norms(module: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """BatchNorm layers of `module` whose gain is one, whose statistics are (0, 1), and whose shift is not all zero.

    A freshly initialised layer has a zero shift, so it is not taken for a folded one.
    """
    return [
        layer
        for layer in module.modules()
        if isinstance(layer, nn.modules.batchnorm._BatchNorm)
        and layer.affine
        and layer.running_mean is not None
        and bool((layer.running_mean == 0).all() and (layer.running_var == 1).all())
        and bool((layer.weight == 1).all() and (layer.bias != 0).any())
    ]


@torch.no_grad()
def unfold_batch_norm(module: nn.Module, images: Tensor) -> int:
    """Estimate the statistics of folded BatchNorm layers from `images` (B, C, H, W) and return how many there were.

    Each layer's mean and variance become those of its input on `images`; gain and shift are set so that the output of
    the module in evaluation mode stays what it was. In training mode the module then starts from (nearly) the same
    function instead of from one whose channels are rescaled at random. Modes of the layers are left as they were.
    """
    layers = folded_batch_norms(module)
    if not layers:
        return 0
    moments: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def record(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].float()
        dims = [0, *range(2, x.ndim)]
        moments[layer] = (x.mean(dims), x.var(dims))

    modes = {child: child.training for child in module.modules()}
    hooks = [layer.register_forward_pre_hook(record) for layer in layers]
    try:
        module.eval()
        module(images)
    finally:
        for hook in hooks:
            hook.remove()
        for child, training in modes.items():
            child.training = training

    for layer, (mean, variance) in moments.items():
        gain = layer.weight / (layer.running_var + layer.eps).sqrt()  # what evaluation multiplies by
        layer.bias.add_(gain * mean)
        layer.weight.copy_(gain * (variance + layer.eps).sqrt())
        layer.running_mean.copy_(mean)
        layer.running_var.copy_(variance)
    return len(moments)
