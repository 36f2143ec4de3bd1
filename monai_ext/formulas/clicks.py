"""Clicks as a prompt: points inside of masks, and their maps as channels of an image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["CLICK_SIGMA", "central_click", "click_maps", "consensus_and_union", "random_click"]

CLICK_SIGMA = 3.0  # pixels of the map


def click_maps(points: Tensor, size: Sequence[int], *, sigma: float = CLICK_SIGMA) -> Tensor:
    """Gaussians of height 1 about points (B, N, dims), the largest of each pixel: (B, *size), float32.

    Points are in pixels, the centre of the first one being (0, 0). Those with NaN are left out; without any the map
    is 0. Points outside of the map leave what reaches into it.

    >>> click_maps(torch.tensor([[[0.0, 1.0]]]), (1, 3), sigma=1.0)
    tensor([[[0.6065, 1.0000, 0.6065]]])
    """
    maps = torch.zeros(len(points), *size, device=points.device)
    for point in points.float().unbind(1):
        distance = torch.zeros_like(maps)
        for axis, side in enumerate(size):
            places = torch.arange(side, device=points.device)
            shape = [1] * len(size)
            shape[axis] = side
            distance = distance + (places - point[:, axis, None]).square().view(-1, *shape)
        maps = maps.maximum((-distance / (2 * sigma**2)).exp().nan_to_num(0.0))
    return maps


def random_click(masks: Tensor, uniform: Tensor) -> Tensor:
    """A pixel of each mask (B, *S), each with the same chance: (B, dims), float32; NaN where a mask is empty.

    Args:
        masks: bool.
        uniform: (B,) in [0, 1), which pixel of each. Nothing waits for the device.
    """
    count = masks.flatten(1).cumsum(1)
    wanted = (uniform * count[:, -1]).floor().clamp(max=count[:, -1] - 1).to(count.dtype) + 1
    return _points(torch.searchsorted(count, wanted[:, None].contiguous())[:, 0], masks)


def central_click(masks: Tensor) -> Tensor:
    """The pixel of each mask (B, *S) that is nearest to its centre of mass, as `random_click` gives it."""
    grid = torch.meshgrid(*(torch.arange(side, device=masks.device).float() for side in masks.shape[1:]), indexing="ij")
    inside = masks.flatten(1).float()
    places = torch.stack([axis.flatten() for axis in grid], dim=1)  # (pixels, dims)
    centres = inside @ places / inside.sum(1, keepdim=True).clamp(min=1)
    distance = (places - centres[:, None]).square().sum(2).masked_fill(inside == 0, torch.inf)
    return _points(distance.argmin(1), masks)


def consensus_and_union(masks: Tensor, presence: Tensor) -> tuple[Tensor, Tensor]:
    """What at least half of the raters present marked, and what any of them did, (B, *S) each.

    Where there is no consensus, it is the union. For K structures both are the union over these.

    Args:
        masks: bool (B, R, *S), or (B, R K, *S); or (B, K, *S), those of one rater.
        presence: (B, R), or (B, R, K).
    """
    present = presence.flatten(1).to(masks.device) != 0
    structures = presence.shape[2] if presence.ndim == 3 else 1
    if masks.shape[1] != present.shape[1]:  # one rater was drawn
        present = torch.ones(masks.shape[:2], dtype=torch.bool, device=masks.device)
    shape = (..., *[None] * (masks.ndim - 2))
    marked = (masks & present[shape]).unflatten(1, (-1, structures)).sum(1)
    voters = present.unflatten(1, (-1, structures)).sum(1)
    consensus = ((2 * marked >= voters[shape]) & (marked > 0)).any(1)
    union = (marked > 0).any(1)
    nobody = ~consensus.flatten(1).any(1)
    return torch.where(nobody[(..., *[None] * (union.ndim - 1))], union, consensus), union


def _points(flat: Tensor, masks: Tensor) -> Tensor:
    parts = []
    for side in reversed(masks.shape[1:]):
        parts.append((flat % side).float())
        flat = flat // side
    empty = ~masks.flatten(1).any(1)
    return torch.stack(parts[::-1], dim=1).masked_fill(empty[:, None], torch.nan)
