from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.losses import DiceLoss, TverskyLoss
from torch import Tensor, nn

from monai_ext.losses import (
    ConsensusLoss,
    MeanLoss,
    PerRaterLoss,
    majority_label,
    soft_label,
)
from monai_ext.metrics.raters import consensus_mask


def raters_case(seed: int = 0, shape=(2, 3, 4, 4)) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=draw), (torch.rand(shape, generator=draw) > 0.5).to(torch.uint8)


LOSSES = {
    "tversky": lambda reduction: TverskyLoss(sigmoid=True, alpha=0.3, beta=0.7, reduction=reduction),
    "dice": lambda reduction: DiceLoss(sigmoid=True, reduction=reduction),
    "bce": lambda reduction: nn.BCEWithLogitsLoss(reduction=reduction),
}


@pytest.mark.parametrize("name", LOSSES)
def test_with_all_raters_present_it_is_monais_mean_over_heads(name):
    logits, masks = raters_case()
    expected = LOSSES[name]("mean")(logits, masks.float())
    torch.testing.assert_close(PerRaterLoss(LOSSES[name]("none"))(logits, masks), expected)


def test_a_missing_rater_is_as_if_never_asked():
    logits, masks = raters_case()
    logits.requires_grad_()
    presence = torch.tensor([[1, 0, 1], [1, 1, 0]])
    loss = LOSSES["tversky"]
    pairs = [(b, r) for b in range(2) for r in range(3) if presence[b, r]]
    single = [loss("mean")(logits[b : b + 1, r : r + 1], masks[b : b + 1, r : r + 1].float()) for b, r in pairs]
    value = PerRaterLoss(loss("none"))(logits, {"masks": masks, "presence": presence})
    torch.testing.assert_close(value, torch.stack(single).mean())
    value.backward()
    assert (logits.grad.abs().sum(dim=(2, 3)) > 0).tolist() == (presence > 0).tolist()


def test_the_mask_of_a_missing_rater_may_hold_anything():
    logits, masks = raters_case()
    presence = torch.tensor([[True, True, True], [True, False, True]])
    loss = PerRaterLoss(LOSSES["bce"]("none"))
    clean = loss(logits, {"masks": masks, "presence": presence})
    logits.requires_grad_()
    wild = masks.float()
    wild[1, 1] = torch.nan
    value = loss(logits, {"masks": wild, "presence": presence})
    torch.testing.assert_close(value, clean)
    value.backward()
    assert logits.grad.isfinite().all()


def test_a_batch_without_raters_has_no_loss_and_no_gradient():
    logits, masks = raters_case()
    logits.requires_grad_()
    target = {"masks": masks, "presence": torch.zeros(2, 3)}
    for loss in (PerRaterLoss(LOSSES["dice"]("none")), ConsensusLoss(LOSSES["dice"]("none"))):
        value = loss(logits, target)
        value.backward()
        assert value.item() == 0 and logits.grad.abs().sum() == 0


def test_weights_of_raters_are_those_of_a_weighted_mean():
    logits, masks = raters_case()
    presence = torch.tensor([[1, 1, 1], [0, 1, 1]])
    loss = PerRaterLoss(LOSSES["dice"]("none"), weights=[1, 2, 0])
    values, _ = loss.terms(logits, {"masks": masks, "presence": presence})
    expected = (values[0, 0] + 2 * values[0, 1] + 2 * values[1, 1]) / 5
    torch.testing.assert_close(loss(logits, {"masks": masks, "presence": presence}), expected)


def test_the_mean_of_each_rater_is_nan_only_where_nobody_was():
    logits, masks = raters_case()
    target = {"masks": masks, "presence": torch.tensor([[1, 0, 0], [1, 1, 0]])}
    loss = PerRaterLoss(LOSSES["dice"]("none"))
    values, _ = loss.terms(logits, target)
    means = loss.per_rater(logits, target)
    torch.testing.assert_close(means[:2], torch.stack([values[:, 0].mean(), values[1, 1]]))
    assert means[2].isnan()


def test_several_losses_are_added():
    logits, masks = raters_case()
    both = PerRaterLoss([LOSSES["dice"]("none"), LOSSES["bce"]("none")])(logits, masks)
    apart = [PerRaterLoss(LOSSES[name]("none"))(logits, masks) for name in ("dice", "bce")]
    torch.testing.assert_close(both, apart[0] + apart[1])


def test_a_loss_that_mixes_pairs_is_refused_with_the_way_out():
    logits, masks = raters_case()
    for loss in (LOSSES["dice"]("mean"), TverskyLoss(sigmoid=True, batch=True, reduction="none")):
        with pytest.raises(ValueError, match="Loss returned shape .* for 6 pairs .* reduction='none'"):
            PerRaterLoss(loss)(logits, masks)


def test_arguments_that_do_not_fit_are_refused():
    logits, masks = raters_case()
    loss = LOSSES["dice"]("none")
    with pytest.raises(ValueError, match=r"logits \(2, 2, 4, 4\) and masks"):
        PerRaterLoss(loss)(logits[:, :2], masks)
    with pytest.raises(ValueError, match="differ in batch or pixels"):
        ConsensusLoss(loss)(logits[:1], masks)
    with pytest.raises(ValueError, match=r"presence \(2,\) must be \(B, R\) = \(2, 3\)"):
        PerRaterLoss(loss)(logits, {"masks": masks, "presence": torch.ones(2)})
    with pytest.raises(ValueError, match="2 weights for 3 raters"):
        PerRaterLoss(loss, weights=[1, 1])(logits, masks)
    for weights in ([0, 0, 0], [1, -1, 1], [1, float("inf"), 1]):
        with pytest.raises(ValueError, match="not all 0"):
            PerRaterLoss(loss, weights=weights)
    with pytest.raises(ValueError, match=r"masks \(2, 4, 4\) must be"):
        PerRaterLoss(loss)(logits, masks[:, 0])
    with pytest.raises(ValueError, match="no loss given"):
        ConsensusLoss([])


@pytest.mark.parametrize("raters", [1, 2, 3, 4, 10])
def test_labels_agree_with_counting(raters):
    draw = np.random.default_rng(raters)
    masks, presence = draw.integers(0, 2, (3, raters, 2, 3)), draw.integers(0, 2, (3, raters))
    soft, majority = np.zeros((3, 1, 2, 3), np.float32), np.zeros((3, 1, 2, 3), np.float32)
    for b, y, x in np.ndindex(3, 2, 3):
        votes = [masks[b, r, y, x] for r in range(raters) if presence[b, r]]
        if votes:
            soft[b, 0, y, x] = sum(votes) / len(votes)
            majority[b, 0, y, x] = sum(votes) >= len(votes) - sum(votes)
    torch_masks, torch_presence = torch.from_numpy(masks), torch.from_numpy(presence)
    torch.testing.assert_close(soft_label(torch_masks, presence=torch_presence), torch.from_numpy(soft))
    torch.testing.assert_close(majority_label(torch_masks, presence=torch_presence), torch.from_numpy(majority))
    reported = consensus_mask(torch_masks, presence=torch_presence)  # what is trained is what is scored
    assert torch.equal(majority_label(torch_masks, presence=torch_presence)[:, 0] > 0, reported)


def test_consensus_loss_is_the_loss_against_the_label_over_the_cases_that_have_one():
    logits, masks = raters_case()
    presence = torch.tensor([[1, 0, 1], [0, 0, 0]])
    bce = nn.BCEWithLogitsLoss()
    for consensus in (soft_label, majority_label):
        loss = ConsensusLoss(nn.BCEWithLogitsLoss(reduction="none"), consensus=consensus)
        label = consensus(masks[:1, [0, 2]])
        value = loss(logits[:, :1], {"masks": masks, "presence": presence})
        torch.testing.assert_close(value, bce(logits[:1, :1], label))


def test_all_members_of_an_ensemble_learn_the_same_consensus():
    logits, masks = raters_case()
    members = torch.randn(2, 5, 4, 4)
    loss = ConsensusLoss(LOSSES["bce"]("none"), consensus=majority_label)
    torch.testing.assert_close(loss(members, masks), torch.stack([loss(m, masks) for m in members.split(1, 1)]).mean())


def test_soft_label_is_where_the_loss_of_probabilities_is_least():
    _, masks = raters_case()
    share = soft_label(masks)
    loss = ConsensusLoss(nn.BCEWithLogitsLoss(reduction="none"))
    best = loss(share.clamp(1e-6, 1 - 1e-6).logit(), masks)
    for other in (share * 0.8 + 0.1, majority_label(masks) * 0.98 + 0.01):
        assert loss(other.logit(), masks) > best


def test_the_loss_of_an_ensemble_is_the_mean_over_its_members():
    masks = (torch.rand(2, 3, 4, 4) > 0.5).to(torch.uint8)
    outputs = [torch.randn(2, 1, 4, 4) for _ in range(3)]
    loss = ConsensusLoss(torch.nn.BCEWithLogitsLoss(reduction="none"))
    expected = sum(loss(output, masks) for output in outputs) / 3
    torch.testing.assert_close(MeanLoss(loss)(outputs, masks), expected)
