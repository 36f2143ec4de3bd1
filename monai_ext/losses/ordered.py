"""Loss for anonymous raters: each head learns the mask at its place in the order of the masks' sizes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from monai_ext.losses.raters import PerRaterLoss, Target

__all__ = ["OrderedLoss", "masks_by_size"]


def masks_by_size(masks: Tensor, heads: int, *, presence: Tensor | None = None) -> Tensor:
    """For each head h of H the mask at the place (h + 1/2) / H of a case's masks in order of area: (B, H, *spatial).

    With as many heads as raters present, head 0 gets the smallest mask and the last head the largest. Equal areas keep
    the order of the raters. A case without raters gets masks that mean nothing.

    >>> masks = torch.tensor([[[[1, 1, 1]], [[0, 0, 1]], [[1, 1, 0]]]])
    >>> masks_by_size(masks, 3)[0, :, 0].tolist()
    [[0, 0, 1], [1, 1, 0], [1, 1, 1]]

    Args:
        masks: (B, R, *spatial).
        heads: number of heads H.
        presence: (B, R), False where a rater is missing.
    """
    areas = (masks != 0).flatten(2).sum(2)
    if presence is None:
        count = torch.full((len(masks), 1), masks.shape[1], device=masks.device)
    else:
        present = presence.to(masks.device) != 0
        areas = areas.masked_fill(~present, torch.iinfo(areas.dtype).max)
        count = present.sum(1, keepdim=True).clamp(min=1)
    order = areas.argsort(dim=1, stable=True)
    places = (2 * torch.arange(heads, device=masks.device) + 1) * count // (2 * heads)
    chosen = order.gather(1, places)
    return masks[torch.arange(len(masks), device=masks.device)[:, None], chosen]


class OrderedLoss(PerRaterLoss):
    """`PerRaterLoss` of logits (B, heads, *spatial) against `masks_by_size`; cases without raters add nothing.

    Args:
        losses, weights: see `PerRaterLoss`; weights are of the heads.
    """

    def terms(self, logits: Tensor, target: Target) -> tuple[Tensor, Tensor]:
        masks, presence = (target["masks"], target["presence"]) if isinstance(target, Mapping) else (target, None)
        heads = logits.shape[1]
        known = torch.ones(len(masks), 1, dtype=torch.bool, device=masks.device)
        if presence is not None:
            known = (presence.to(masks.device) != 0).any(1, keepdim=True)
        ordered = masks_by_size(masks, heads, presence=presence)
        return super().terms(logits, {"masks": ordered, "presence": known.expand(-1, heads)})
