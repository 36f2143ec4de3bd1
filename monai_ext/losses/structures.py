"""Losses of several structures: that of each by itself, averaged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from monai_ext.formulas.checks import check_same_shape
from monai_ext.formulas.structures import presence_of_structures, structures_as_cases

__all__ = ["PerChannelLoss", "PerStructureLoss"]


class PerChannelLoss(nn.Module):
    """A loss of one mask, of each of K masks (B, K, *spatial) that may overlap: each counts as an image of its own.

    Several losses of MONAI take more than one channel for classes that exclude each other (`DiceCELoss` has the softmax
    in its cross-entropy). With one channel this is `loss` itself.

    Args:
        loss: called with logits and target (N, 1, *spatial).
    """

    def __init__(self, loss: nn.Module):
        super().__init__()
        self.loss = loss

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        check_same_shape(logits=logits, target=target)
        return self.loss(logits.flatten(0, 1)[:, None], target.flatten(0, 1)[:, None])


class PerStructureLoss(nn.Module):
    """A loss against raters of K structures: each structure of a case counts as a case of its own.

    The mean is that of `loss` over all (case, structure, rater) that exist. `ELBOLoss` needs none: it sums over all
    pixels of a sample, and those of its structures are pixels too.

    Args:
        loss: such as `PerRaterLoss`, `ConsensusLoss` or `OrderedLoss`.
        structures: number K.

    Called as loss(logits, target), logits (B, heads, K, *spatial); `target` are masks (B, R, K, *spatial), or
    {"masks": masks, "presence": (B, R) or (B, R, K)}.

    Raises:
        ValueError: logits or masks have no axis of so many structures, or as `loss`.
    """

    def __init__(self, loss: nn.Module, *, structures: int):
        super().__init__()
        self.loss = loss
        self.structures = structures

    def forward(self, logits: Tensor, target: Tensor | Mapping[str, Tensor]) -> Tensor:
        masks, presence = (target["masks"], target["presence"]) if isinstance(target, Mapping) else (target, None)
        cases: Any = structures_as_cases("masks", masks, self.structures)
        if presence is not None:
            known = presence_of_structures(presence, masks).transpose(1, 2).flatten(0, 1)
            cases = {"masks": cases, "presence": known}
        return self.loss(structures_as_cases("logits", logits, self.structures), cases)
