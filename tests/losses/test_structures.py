from __future__ import annotations

import pytest
import torch
from monai.losses import DiceCELoss, TverskyLoss

from monai_ext.losses import ConsensusLoss, ELBOLoss, OrderedLoss, PerChannelLoss, PerRaterLoss, PerStructureLoss


@pytest.fixture
def case() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    masks = (torch.rand(2, 3, 2, 6, 5, generator=draw) > 0.5).to(torch.uint8)
    presence = torch.tensor([[[1, 1], [1, 0], [0, 1]], [[1, 1], [0, 0], [1, 1]]])
    return torch.randn(masks.shape, generator=draw), masks, presence


@pytest.mark.parametrize("kind", [PerRaterLoss, ConsensusLoss, OrderedLoss])
def test_it_is_the_mean_of_the_structures_where_all_raters_are_present(kind, case):
    logits, masks, _ = case
    loss = kind(TverskyLoss(sigmoid=True, soft_label=True, reduction="none"))
    expected = torch.stack([loss(logits[:, :, k], masks[:, :, k]) for k in range(2)]).mean()
    torch.testing.assert_close(PerStructureLoss(loss, structures=2)(logits, masks), expected)


def test_a_rater_may_be_missing_from_one_structure_alone(case):
    logits, masks, presence = case
    logits.requires_grad_()
    loss = PerStructureLoss(PerRaterLoss(torch.nn.BCEWithLogitsLoss(reduction="none")), structures=2)
    value = loss(logits, {"masks": masks, "presence": presence})
    single = torch.nn.functional.binary_cross_entropy_with_logits(logits, masks.float(), reduction="none").mean((3, 4))
    torch.testing.assert_close(value, single[presence > 0].mean())
    value.backward()
    assert torch.equal(logits.grad.abs().sum((3, 4)) > 0, presence > 0)


def test_the_axis_must_be_there(case):
    loss = PerStructureLoss(PerRaterLoss(torch.nn.BCEWithLogitsLoss(reduction="none")), structures=3)
    with pytest.raises(ValueError, match="K = 3"):
        loss(*case[:2])


def test_the_evidence_lower_bound_sums_over_the_pixels_of_all_structures():
    gaussian = torch.zeros(2, 2, 3)
    logits = torch.zeros(2, 2, 4, 4)
    terms = ELBOLoss().terms({"logits": logits, "prior": gaussian, "posterior": gaussian}, torch.ones_like(logits))
    assert terms.reconstruction.tolist() == pytest.approx([2 * 16 * 0.693147] * 2, rel=1e-5)


def test_a_loss_of_one_mask_is_that_of_each_channel():
    draw = torch.Generator().manual_seed(0)
    logits, masks = torch.randn(2, 3, 5, 4, generator=draw), (torch.rand(2, 3, 5, 4, generator=draw) > 0.5).float()
    loss = DiceCELoss(sigmoid=True)
    each = torch.stack([loss(logits[:, [k]], masks[:, [k]]) for k in range(3)]).mean()
    torch.testing.assert_close(PerChannelLoss(loss)(logits, masks), each)
    assert not torch.isclose(loss(logits, masks), each)  # MONAI takes the channels for classes
    torch.testing.assert_close(PerChannelLoss(loss)(logits[:, :1], masks[:, :1]), loss(logits[:, :1], masks[:, :1]))
    with pytest.raises(ValueError, match="differ in shape"):
        PerChannelLoss(loss)(logits, masks[:, :1])
