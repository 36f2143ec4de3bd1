"""Kernels and strides of the levels of a U-Net, by axis: an axis of thick slices is convolved and halved later.

The rule is that of nnU-Net (Isensee et al. 2021): an axis is halved, and its kernels are 3 instead of 1, as soon as its
spacing is below twice the smallest one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from monai.networks.layers.factories import Conv, Pool
from monai.networks.nets import BasicUNet
from torch import nn

__all__ = ["LevelPlan", "plan_levels", "shape_basic_unet", "shape_block"]

LEAST_RATIO = 2  # of spacings, from which an axis waits


class LevelPlan(NamedTuple):
    """Kernels of each level, and strides from each level to the next."""

    kernels: list[tuple[int, ...]]
    strides: list[tuple[int, ...]]

    @property
    def multiples(self) -> list[int]:
        """What the sides of the image have to be multiples of."""
        return [math.prod(steps) for steps in zip(*self.strides, strict=True)]

    @property
    def is_isotropic(self) -> bool:
        """Whether all axes are treated alike."""
        return all(len(set(steps)) == 1 for steps in (*self.kernels, *self.strides))


def plan_levels(spatial_dims: int, *, halvings: int = 4, spacing: Sequence[float] | None = None) -> LevelPlan:
    """The plan of a network with one level more than `halvings`.

    >>> plan = plan_levels(3, halvings=3, spacing=(1, 1, 3))
    >>> plan.kernels
    [(3, 3, 1), (3, 3, 3), (3, 3, 3), (3, 3, 3)]
    >>> plan.strides
    [(2, 2, 1), (2, 2, 2), (2, 2, 2)]

    Args:
        spatial_dims: 2 or 3.
        spacing: size of a pixel or voxel along each axis, in any unit; None: cubes.

    Raises:
        ValueError: another number of axes, or spacings that are not positive.
    """
    if spatial_dims not in (2, 3):
        raise ValueError(f"spatial_dims={spatial_dims} must be 2 or 3.")
    sizes = [1.0] * spatial_dims if spacing is None else [float(size) for size in spacing]
    if len(sizes) != spatial_dims or not all(0 < size < math.inf for size in sizes):
        raise ValueError(f"spacing={spacing} must be {spatial_dims} numbers above 0, one for each axis of the image.")
    kernels, strides = [], []
    kernel = [1] * spatial_dims
    for _ in range(halvings + 1):
        near = [size < LEAST_RATIO * min(sizes) for size in sizes]
        kernel = [3 if ready else side for ready, side in zip(near, kernel, strict=True)]
        kernels.append(tuple(kernel))
        strides.append(tuple(2 if ready else 1 for ready in near))
        sizes = [size * step for size, step in zip(sizes, strides[-1], strict=True)]
    return LevelPlan(kernels, strides[:-1])


def shape_block(block: nn.Module, kernel: Sequence[int], stride: Sequence[int]) -> None:
    """Give the convolutions of a block of MONAI this kernel, its pooling and transposed convolution this stride."""
    dims = len(kernel)
    for parent in list(block.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, Conv["conv", dims]) and max(layer.kernel_size) > 1:
                padding = tuple(side // 2 for side in kernel)
                bias = layer.bias is not None
                shaped = Conv["conv", dims](layer.in_channels, layer.out_channels, kernel, padding=padding, bias=bias)
                setattr(parent, name, shaped)
            elif isinstance(layer, Conv["convtrans", dims]):
                setattr(parent, name, Conv["convtrans", dims](layer.in_channels, layer.out_channels, stride, stride))
            elif isinstance(layer, Pool["max", dims]):
                setattr(parent, name, Pool["max", dims](tuple(stride)))


def shape_basic_unet(network: BasicUNet, plan: LevelPlan) -> None:
    """Give the five levels of a `BasicUNet` the kernels and strides of `plan`."""
    if plan.is_isotropic:
        return
    shape_block(network.conv_0, plan.kernels[0], plan.strides[0])
    for level, stride in enumerate(plan.strides, 1):
        shape_block(getattr(network, f"down_{level}"), plan.kernels[level], stride)
        shape_block(getattr(network, f"upcat_{level}"), plan.kernels[level - 1], stride)
