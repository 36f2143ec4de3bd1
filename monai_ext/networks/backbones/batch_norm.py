"""BatchNorm layers merged into convolutions for inference, and the statistics of folded ones restored for training.

Checkpoints for deployment often carry BatchNorm folded into the convolution before it: mean 0, variance 1, gain 1. In
evaluation they compute what they always did; in training mode the batch statistics replace the folded ones and wipe out
the learned scale of every channel.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from monai_ext.networks.sampling import evaluation_mode

__all__ = ["folded_batch_norms", "merge_batch_norms", "unfold_batch_norm"]

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def folded_batch_norms(module: nn.Module) -> list[_BatchNorm]:
    """BatchNorm layers of `module` whose gain is one, whose statistics are (0, 1), and whose shift is not all zero.

    A freshly initialised layer has a zero shift, so it is not taken for a folded one.
    """
    layers = (m for m in module.modules() if isinstance(m, _BatchNorm))
    return [layer for layer in layers if _is_folded(*_tensors(layer))]


def _tensors(layer: _BatchNorm) -> list[Tensor]:
    """Gain, shift, mean and variance, as far as there are any."""
    named = dict(layer.named_parameters()) | dict(layer.named_buffers())
    return [named[name] for name in ("weight", "bias", "running_mean", "running_var") if name in named]


def _is_folded(*tensors: Tensor) -> bool:
    if len(tensors) < 4:
        return False
    gain, shift, mean, variance = tensors
    return bool((mean == 0).all() & (variance == 1).all() & (gain == 1).all() & (shift != 0).any())


def merge_batch_norms(module: nn.Module) -> int:
    """Merge BatchNorm layers into the convolutions right before them, in place; how many there were.

    For inference alone: the module must be in evaluation mode, and computes what it did, up to rounding, in fewer
    passes over its features. Layers follow each other where an `nn.Sequential`, or one within it, holds them in turn.
    """
    merged = 0
    for chain in [part for part in module.modules() if _is_chain(part)]:
        layers = list(_layers(chain))
        for (holder, name, layer), (next_holder, next_name, following) in pairwise(layers):
            if isinstance(layer, CONVOLUTIONS) and isinstance(following, _BatchNorm) and following.track_running_stats:
                setattr(holder, name, fuse_conv_bn_eval(layer, following))
                setattr(next_holder, next_name, nn.Identity())
                merged += 1
    return merged


def _is_chain(module: nn.Module) -> bool:
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def _layers(chain: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """Holder, name and layer of all that a chain computes in turn."""
    for name, layer in chain.named_children():
        if _is_chain(layer):
            yield from _layers(layer)
        else:
            yield chain, name, layer


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
    moments: dict[_BatchNorm, tuple[Tensor, Tensor]] = {}

    def record(layer: _BatchNorm, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].float()
        dims = [0, *range(2, x.ndim)]
        moments[layer] = (x.mean(dims), x.var(dims))

    hooks = [layer.register_forward_pre_hook(record) for layer in layers]
    try:
        with evaluation_mode(module):
            module(images)
    finally:
        for hook in hooks:
            hook.remove()

    for layer, (mean, variance) in moments.items():
        gain, shift, running_mean, running_var = _tensors(layer)
        factor = gain / (running_var + layer.eps).sqrt()  # what evaluation multiplies by
        shift.add_(factor * mean)
        gain.copy_(factor * (variance + layer.eps).sqrt())
        running_mean.copy_(mean)
        running_var.copy_(variance)
    return len(moments)
