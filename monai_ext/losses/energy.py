"""Energy score of sets of images, patch by patch: distance to the target less half the distance of the samples."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from monai_ext.formulas.energy import error_and_spread

__all__ = ["patch_distance", "patch_energy"]

TINY = 1e-12  # under the square root, where its slope would be infinite


def patch_distance(first: Tensor, second: Tensor, *, patch: int = 8) -> Tensor:
    """Root mean square difference of two images in each patch, mean over the patches: (B,), float32.

    >>> import torch
    >>> patch_distance(torch.zeros(1, 1, 2, 4), torch.tensor([[[[3.0, 3, 0, 0], [3, 3, 0, 0]]]]), patch=2)  # 3 and 0
    tensor([1.5000])

    Args:
        first, second: (B, C, H, W), H and W multiples of `patch`.

    Raises:
        ValueError: shapes differ, or a side is no multiple of the patch.
    """
    if first.shape != second.shape or first.ndim != 4:
        raise ValueError(f"images {tuple(first.shape)} and {tuple(second.shape)} must be (B, C, H, W) and alike.")
    height, width = first.shape[-2:]
    if patch < 1 or height % patch or width % patch:
        raise ValueError(f"image of {height} x {width} pixels does not divide into patches of {patch}: choose another.")
    squares = (first.float() - second.float()).square().mean(1)  # (B, H, W)
    cells = squares.unflatten(2, (-1, patch)).unflatten(1, (-1, patch)).mean((2, 4))
    return (cells + TINY).sqrt().flatten(1).mean(1)


def patch_energy(samples: Tensor, target: Tensor, *, patch: int = 8) -> tuple[Tensor, Tensor]:
    """Mean distance of the samples to the target, and between different samples, (B,) each, float32.

    With d = `patch_distance`, the energy score error - distance / 2 is smallest, in the mean over targets, for samples
    of the targets' own distribution, patch by patch (Gneiting and Raftery 2007, eq. 22): samples that are all alike
    score as badly as samples far off. Unbiased for any number of samples from two on.

    Args:
        samples: (B, n, C, H, W), n >= 2.
        target: (B, C, H, W).

    Raises:
        ValueError: fewer than two samples, or as `patch_distance`.
    """
    if samples.ndim != 5 or samples.shape[1] < 2:
        raise ValueError(f"samples {tuple(samples.shape)} must be (B, n, C, H, W) with n >= 2.")
    return error_and_spread(samples.unbind(1), target, partial(patch_distance, patch=patch))
