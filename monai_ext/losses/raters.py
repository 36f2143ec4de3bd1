"""Losses against several raters: one term for each rater present, or one against their consensus.

`target` is the raters' masks (B, R, *spatial), 0 and 1 in any type, all of them present, or
{"masks": masks, "presence": (B, R)} with 0 or False where a rater is missing from a case. A missing rater adds
nothing to loss and gradient, whatever the mask holds. Nothing here waits for the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from monai.losses import TverskyLoss
from torch import Tensor, nn

from monai_ext.formulas.consensus import consensus_map
from monai_ext.formulas.votes import consensus_mask, present_raters, rater_votes
from monai_ext.runtime.settings import chosen

__all__ = [
    "ConsensusLoss",
    "MeanLoss",
    "PerRaterLoss",
    "consensus_label",
    "majority_label",
    "mask_losses",
    "soft_label",
]

Target = Tensor | Mapping[str, Tensor]
PairLoss = Callable[[Tensor, Tensor], Tensor]


def soft_label(masks: Tensor, *, presence: Tensor | None = None) -> Tensor:
    """Share of the raters present who mark a pixel, (B, 1, *spatial), float32; 0 in a case without raters.

    >>> soft_label(torch.tensor([[[[1, 1, 0]], [[1, 0, 0]]]]))
    tensor([[[[1.0000, 0.5000, 0.0000]]]])
    """
    votes, voters = rater_votes(masks != 0, presence=presence)
    return (votes / voters.clamp(min=1)[(..., *[None] * (votes.ndim - 1))])[:, None]


def majority_label(masks: Tensor, *, presence: Tensor | None = None) -> Tensor:
    """1 where at least half of the raters present mark a pixel, else 0: (B, 1, *spatial), float32."""
    return consensus_mask(masks != 0, presence=presence)[:, None].float()


def consensus_label(masks: Tensor, *, presence: Tensor | None = None, method: str) -> Tensor:
    """The map of a method of `monai_ext.formulas.consensus`, (B, 1, *spatial), float32; STAPLE waits for the device."""
    return consensus_map(masks != 0, presence=presence, method=method)[:, None]


class PerRaterLoss(nn.Module):
    """Loss of each head against its own rater, averaged over the raters present in the batch.

    Weighted mean over all (case, rater) pairs that exist; 0, with zero gradients, if there is none.

    Args:
        losses: one loss or several that are added, each called with logits and masks (pairs, 1, *spatial) and built
            with `reduction="none"`, so that it returns at least one value for each pair, for instance
            `monai.losses.TverskyLoss(sigmoid=True, reduction="none")`. Further values of a pair (pixels) are averaged.
        weights: of the raters, R numbers >= 0, not all 0; None for equal ones.

    Called as loss(logits, target), logits (B, R, *spatial), `target` as in the module.

    Raises:
        ValueError: no loss, bad weights, shapes that do not fit, or a loss that mixes pairs.
    """

    weights: Tensor | None

    def __init__(self, losses: PairLoss | Sequence[PairLoss], *, weights: Sequence[float] | None = None):
        super().__init__()
        self.losses = _as_list(losses)
        if weights is not None and (not all(math.isfinite(w) and w >= 0 for w in weights) or not any(weights)):
            raise ValueError(f"weights={list(weights)} must be finite, at least 0, and not all 0.")
        self.register_buffer("weights", None if weights is None else torch.tensor(weights, dtype=torch.float32))

    def terms(self, logits: Tensor, target: Target) -> tuple[Tensor, Tensor]:
        """Loss of every pair (B, R), 0 where the rater is missing, and who is present, (B, R), bool."""
        masks, present = _masks_and_presence(target)
        if logits.shape != masks.shape:
            raise ValueError(
                f"logits {tuple(logits.shape)} and masks {tuple(masks.shape)} must be (B, R, H, W[, D]) alike."
            )
        if self.weights is not None and len(self.weights) != masks.shape[1]:
            raise ValueError(f"{len(self.weights)} weights for {masks.shape[1]} raters: give one for each.")
        return _loss_per_pair(self.losses, logits, masks.to(logits.dtype), present), present

    def forward(self, logits: Tensor, target: Target) -> Tensor:
        values, present = self.terms(logits, target)
        if self.weights is None:
            return _mean_where(values, present)
        self.weights = self.weights.to(values.device)  # once: afterwards it is there
        return _mean_where(values, present * self.weights)

    @torch.no_grad()
    def per_rater(self, logits: Tensor, target: Target) -> Tensor:
        """Mean loss of each rater over the cases in which the rater is present, (R,), NaN where there is none."""
        values, present = self.terms(logits, target)
        return values.sum(0) / present.sum(0)


class ConsensusLoss(nn.Module):
    """Loss of a network against the consensus of the raters, over the cases that have any.

    With several heads each one learns the same consensus and the mean is taken.

    Args:
        losses: as for `PerRaterLoss`. Dice-like losses against `soft_label` need their soft form, for instance
            `monai.losses.DiceLoss(sigmoid=True, soft_label=True, reduction="none")`.
        consensus: consensus(masks, presence=...) -> (B, 1, *spatial): `soft_label`, `majority_label`, or a partial
            `consensus_label`.

    Called as loss(logits, target), logits (B, heads, *spatial), `target` as in the module.

    Raises:
        ValueError: no loss, shapes that do not fit, or a loss that mixes pairs.
    """

    def __init__(self, losses: PairLoss | Sequence[PairLoss], *, consensus: Callable[..., Tensor] = soft_label):
        super().__init__()
        self.losses = _as_list(losses)
        self.consensus = consensus

    def forward(self, logits: Tensor, target: Target) -> Tensor:
        masks, present = _masks_and_presence(target)
        if logits.shape[0] != masks.shape[0] or logits.shape[2:] != masks.shape[2:]:
            raise ValueError(f"logits {tuple(logits.shape)} and masks {tuple(masks.shape)} differ in batch or pixels.")
        label = self.consensus(masks, presence=present).to(logits.dtype).expand_as(logits)
        known = present.any(dim=1, keepdim=True).expand(logits.shape[:2])
        return _mean_where(_loss_per_pair(self.losses, logits, label, known), known)


class MeanLoss(nn.Module):
    """Mean of a loss over the outputs of the members of a deep ensemble, each of which learns alone.

    Args:
        loss: of one member, called with its output and the target.
    """

    def __init__(self, loss: Callable[..., Tensor]):
        super().__init__()
        self.loss = loss

    def forward(self, outputs: Sequence, target: Target) -> Tensor:
        return torch.stack([self.loss(output, target) for output in outputs]).mean()


def _loss_per_pair(losses: Sequence[PairLoss], logits: Tensor, labels: Tensor, present: Tensor) -> Tensor:
    """Sum of the losses for each head of each case, (B, heads), 0 where not `present`."""
    rows = logits.flatten(0, 1)[:, None]  # (B * heads, 1, *spatial)
    # Not only the loss is cut off but its cause: zero times an infinite derivative would be NaN.
    targets = labels.masked_fill(~present[(..., *[None] * (labels.ndim - 2))], 0).flatten(0, 1)[:, None]
    total = rows.new_zeros(rows.shape[0])
    for loss in losses:
        value = loss(rows, targets)
        if value.ndim == 0 or value.shape[0] != rows.shape[0]:
            raise ValueError(
                f"{type(loss).__name__} returned shape {tuple(value.shape)} for {rows.shape[0]} pairs of head and "
                "mask: build it with reduction='none' (and batch=False)."
            )
        total = total + value.reshape(rows.shape[0], -1).mean(1)
    return total.view(present.shape).masked_fill(~present, 0)


def _mean_where(values: Tensor, weights: Tensor) -> Tensor:
    weights = weights.to(values.dtype)
    total = weights.sum()
    return (values * weights).sum() / torch.where(total > 0, total, 1.0)


def _masks_and_presence(target: Target) -> tuple[Tensor, Tensor]:
    masks, presence = (target["masks"], target["presence"]) if isinstance(target, Mapping) else (target, None)
    if masks.ndim not in (4, 5):
        raise ValueError(f"masks {tuple(masks.shape)} must be (B, R, H, W) or (B, R, H, W, D).")
    return masks, present_raters(masks != 0, presence)


def _as_list(losses: PairLoss | Sequence[PairLoss]) -> list[PairLoss]:
    found = [losses] if callable(losses) else list(losses)
    if not found:
        raise ValueError("no loss given: pass one, or several to be added.")
    return found


def mask_losses(
    loss_name: str, *, bce_weight: float = 1.0, false_positives: float = 0.5, false_negatives: float = 0.5
) -> list[nn.Module]:
    """Losses of one mask by name, for `PerRaterLoss` and its like: "tversky", "bce", or "tversky_bce", their sum.

    Args:
        bce_weight: of the binary cross-entropy.
        false_positives, false_negatives: alpha and beta of MONAI's `TverskyLoss`; 0.5 and 0.5 make it the Dice loss.

    Raises:
        ValueError: another name.
    """
    tversky = TverskyLoss(sigmoid=True, alpha=false_positives, beta=false_negatives, soft_label=True, reduction="none")
    bce = nn.BCEWithLogitsLoss(torch.tensor(bce_weight), reduction="none")
    return chosen({"tversky": [tversky], "bce": [bce], "tversky_bce": [tversky, bce]}, loss_name=loss_name)
