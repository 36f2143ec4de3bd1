"""Test-time augmentation: predictions averaged over flips and sizes of the input."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from monai.inferers import Inferer
from torch import Tensor

__all__ = ["TTAInferer", "largest_size"]

PIXELS_AT_ONCE = 1 << 17  # in a forward pass of several mirrored views: more gain nothing on a CPU


class TTAInferer(Inferer):
    """Mean logits, float32, over flips and sizes of the image, each prediction mapped back to the image.

    Every size is combined with every flip: five sizes with three flips are 20 views. Views of small batches pass
    through the network together, unless it is called with further arguments. Flips work for outputs of any size, those
    of a super-resolution network too; with several sizes the network's output must have the height and width of its
    input.

    Args:
        flips: sets of dimensions of the batch to mirror, e.g. `[[3], [2], [2, 3]]` for (B, C, H, W) images: left-right,
            up-down and both. Empty: the image as it is.
        scales: sizes of the input, as factors of `spatial_size`; it is resized bilinearly and antialiased, and the
            logits are resized bilinearly to the batch's own size.
        spatial_size: height and width at scale 1, usually those of training. None: the batch's own. A batch that comes
            at the largest size of all loses no detail.

    Raises:
        ValueError: no list of scales, or one that is not positive.
    """

    def __init__(
        self,
        flips: Sequence[Sequence[int]] = ((3,), (2,), (2, 3)),
        *,
        scales: Sequence[float] = (1.0,),
        spatial_size: Sequence[int] | None = None,
    ):
        self.flips = [tuple(dims) for dims in flips]
        self.scales = _factors(scales)
        self.spatial_size = spatial_size

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        if self.scales == [1.0] and self.spatial_size is None:
            return self._mirrored(inputs, network, args, kwargs)
        own = inputs.shape[-2:]
        unit = own if self.spatial_size is None else self.spatial_size
        total = torch.zeros(())
        for scale in self.scales:
            size = [max(1, round(scale * side)) for side in unit]
            total = total + _resized(self._mirrored(_resized(inputs, size), network, args, kwargs), own)
        return total / len(self.scales)

    def _mirrored(self, inputs: Tensor, network: Callable[..., Tensor], args: Sequence, kwargs: dict) -> Tensor:
        views: list[tuple[int, ...]] = [(), *self.flips]
        further = bool(args or kwargs)  # which may be of one item each
        at_once = 1 if further else max(1, PIXELS_AT_ONCE // max(1, len(inputs) * math.prod(inputs.shape[2:])))
        total = torch.zeros(())
        for start in range(0, len(views), at_once):
            some = views[start : start + at_once]
            images = torch.cat([torch.flip(inputs, dims) for dims in some]) if len(some) > 1 or some[0] else inputs
            outputs = network(images, *args, **kwargs).float()  # bfloat16 would round the sum, a CPU cannot resize it
            total = sum((torch.flip(each, d) for each, d in zip(outputs.chunk(len(some)), some, strict=True)), total)
        return total / len(views)


def largest_size(spatial_size: Sequence[int], scales: Sequence[float]) -> list[int]:
    """Height and width of the largest of the sizes at which `TTAInferer` predicts.

    Raises:
        ValueError: no list of scales, or one that is not positive.

    >>> largest_size([96, 128], [0.75, 1, 1.25])
    [120, 160]
    """
    return [max(1, round(max(_factors(scales)) * side)) for side in spatial_size]


def _factors(scales: Sequence[float]) -> list[float]:
    try:
        factors = [float(scale) for scale in scales]
    except (TypeError, ValueError):
        factors = []
    if isinstance(scales, str) or not factors or not all(0 < factor < math.inf for factor in factors):
        raise ValueError(
            f"scales={scales!r} must list at least one factor, all of them above 0, such as [0.75, 1, 1.25]; [1] is "
            "the size as it is."
        )
    return factors


def _resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return F.interpolate(maps, tuple(size), mode="bilinear", align_corners=False, antialias=True)
