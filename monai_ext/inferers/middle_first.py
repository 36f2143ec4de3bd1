"""Predict the middle of images, and the whole of those in whose middle nothing is found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_ext.networks.rater_sampler import AS_IT_IS, RaterPrediction, RaterSampler, Symmetry

__all__ = ["predict_middle_first"]

FOUND = 0.5  # share of raters


def predict_middle_first(
    sampler: nn.Module,
    image: Tensor,
    n: int,
    *,
    middle: Sequence[int],
    symmetries: Sequence[Symmetry] = AS_IT_IS,
    generator: torch.Generator | None = None,
) -> RaterPrediction:
    """What `sampler.predict` gives for the middle, with zeros around it, where it finds something there.

    In the other cases, what it gives for the whole image. Something is found where the share of raters reaches one half
    at a pixel of any structure. A network trained on objects in the middle takes more for one in the whole image, which
    is why only cases with an empty middle are predicted there.

    Args:
        sampler: a `RaterSampler`.
        image: (B, C, H, W).
        n, symmetries, generator: see `RaterSampler`.
        middle: height and width; an image that is no larger is predicted as a whole.
    """
    network = cast(RaterSampler, sampler)
    size = image.shape[-2:]
    height, width = (min(own, side) for own, side in zip(middle, size, strict=True))
    if (height, width) == tuple(size):
        return network.predict(image, n, symmetries=symmetries, generator=generator)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    around = (left, size[1] - left - width, top, size[0] - top - height)
    part = network.predict(
        image[..., top : top + height, left : left + width], n, symmetries=symmetries, generator=generator
    )
    share, samples = F.pad(part.share, around), F.pad(part.samples, around)
    heads = None if part.heads is None else F.pad(part.heads, around)
    empty = share.flatten(1).amax(1) < FOUND
    if empty.any():
        whole = network.predict(image[empty], n, symmetries=symmetries, generator=generator)
        share[empty], samples[empty] = whole.share, whole.samples
        if heads is not None and whole.heads is not None:
            heads[empty] = whole.heads
    return RaterPrediction(share, samples, heads)
