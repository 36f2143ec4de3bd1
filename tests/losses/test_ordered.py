from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from monai_ext.losses import OrderedLoss, masks_by_size


def example() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits of 4 heads, masks of 5 raters, and who is there: all, two, nobody."""
    source = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 6, 7, generator=source)
    masks = (torch.rand(3, 5, 6, 7, generator=source) > torch.rand(3, 5, 1, 1, generator=source)).to(torch.uint8)
    presence = torch.tensor([[1, 1, 1, 1, 1], [0, 1, 0, 1, 0], [0, 0, 0, 0, 0]])
    return logits, masks, presence


def slow_loss(logits: torch.Tensor, masks: torch.Tensor, presence: torch.Tensor) -> torch.Tensor:
    values = []
    for heads, case, present in zip(logits, masks, presence, strict=True):
        ordered = sorted(
            (mask for mask, there in zip(case, present, strict=True) if there), key=lambda mask: mask.sum()
        )
        for h, head in enumerate(heads):
            if ordered:
                target = ordered[int((h + 0.5) / len(heads) * len(ordered))]
                values.append(F.binary_cross_entropy_with_logits(head, target.float()))
    return torch.stack(values).mean()


def test_the_loss_agrees_with_a_slow_reference():
    logits, masks, presence = example()
    loss = OrderedLoss(nn.BCEWithLogitsLoss(reduction="none"))
    torch.testing.assert_close(loss(logits, {"masks": masks, "presence": presence}), slow_loss(logits, masks, presence))
    torch.testing.assert_close(loss(logits, masks), slow_loss(logits, masks, torch.ones(3, 5)))


def test_the_order_of_the_raters_does_not_matter_and_missing_masks_change_nothing():
    logits, masks, presence = example()
    loss, order = OrderedLoss(nn.BCEWithLogitsLoss(reduction="none")), [3, 0, 4, 1, 2]
    first = loss(logits, {"masks": masks, "presence": presence})
    assert torch.equal(first, loss(logits, {"masks": masks[:, order], "presence": presence[:, order]}))
    filled = masks.where(presence[:, :, None, None] > 0, 1)
    assert torch.equal(first, loss(logits, {"masks": filled, "presence": presence}))


def test_more_heads_tha_raters_share_them_evenly():
    masks = torch.tensor([[[[1, 1, 1]], [[1, 0, 0]]]])
    assert masks_by_size(masks, 4).sum((2, 3)).tolist() == [[1, 1, 3, 3]]
    assert masks_by_size(masks, 1).sum((2, 3)).tolist() == [[3]]  # place 1/2 of two: the second
