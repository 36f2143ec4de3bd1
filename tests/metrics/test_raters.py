from __future__ import annotations

import math

import numpy as np
import pytest
import reference_raters as reference
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.handlers import IgniteMetricHandler

from monai_ext.metrics.raters import (
    DicePerRater,
    QubiqScore,
    RaterScore,
    consensus_mask,
    dice_at_levels,
    dice_per_rater,
    dice_soft,
    leave_one_out_dice,
    qubiq_score,
    rater_votes,
)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_masks(batch: int, raters: int, seed: int = 0, size=(5, 6)) -> torch.Tensor:
    """Masks that overlap: one common field, thresholded by each rater after its own noise."""
    common = torch.rand(batch, 1, *size, generator=generator(seed))
    own = torch.rand(batch, raters, *size, generator=generator(seed + 1000))
    return (common + 0.5 * own > 0.8).to(torch.uint8)


def random_map(batch: int, seed: int = 7, size=(5, 6)) -> torch.Tensor:
    return torch.rand(batch, *size, generator=generator(seed))


def test_qubiq_score_of_a_hand_computed_case():
    masks = torch.tensor([[[[1, 1, 0, 0]], [[1, 0, 0, 0]]]])  # shares 1, 1/2, 0, 0
    probability = torch.tensor([[[0.95, 0.25, 0.15, 0.0]]])
    # i = 1: {0,1,2} v {0,1} 4/5 · i = 2: {0,1} v {0,1} 1 · i = 3..5: {0} v {0,1} 2/3 · i = 6..9: {0} v {0} 1
    assert dice_at_levels(probability, masks)[0].tolist() == pytest.approx([0.8, 1, *[2 / 3] * 3, *[1] * 4])
    assert qubiq_score(probability, masks).item() == pytest.approx((0.8 + 1 + 2 + 4) / 9)


def test_dice_soft_of_a_hand_computed_case():
    masks = torch.tensor([[[[1, 1, 0, 0]], [[1, 0, 0, 0]]]])
    probability = torch.tensor([[[0.95, 0.5, 0.15, 0.0]]])
    # > .1: {0,1,2} v {0,1} 4/5 · > .3: {0,1} v {0,1} 1 · > .5, .7, .9: {0} v {0} 1
    assert dice_soft(probability, masks).item() == pytest.approx(4.8 / 5)


@pytest.mark.parametrize("raters", [1, 2, 3, 5, 10])
@pytest.mark.parametrize("strict", [False, True])
def test_qubiq_and_soft_dice_agree_with_the_slow_reference(raters, strict):
    masks, probability = random_masks(4, raters), random_map(4)
    probability[0] = masks[0].float().mean(0)  # shares at the levels themselves
    probability[1] = 0
    masks[1] = 0
    fast, soft = qubiq_score(probability, masks, strict=strict), dice_soft(probability[:, None], masks)
    for b in range(4):
        slow = reference.qubiq(probability[b].numpy(), masks[b].numpy(), strict=strict)
        assert fast[b].item() == pytest.approx(slow, abs=1e-12)
        slow = reference.qubiq(probability[b].numpy(), masks[b].numpy(), tenths=(1, 3, 5, 7, 9), strict=True)
        assert soft[b].item() == pytest.approx(slow, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("strict", [False, True])
def test_the_raters_own_share_is_a_perfect_prediction_in_any_precision(dtype, strict):
    for raters in range(1, 11):
        pixels = torch.arange(raters + 1)
        masks = (pixels > torch.arange(raters)[:, None])[None, :, None]  # pixel j has j votes
        share = (pixels.double() / raters).to(dtype)[None, None]
        assert qubiq_score(share, masks, strict=strict).item() == 1, raters


def test_samples_vote_in_integers_like_the_raters():
    masks = random_masks(3, 10)
    assert (qubiq_score(masks, masks) == 1).all()
    assert (qubiq_score(masks.bool(), masks, strict=True) == 1).all()
    samples = random_masks(3, 4, seed=5)
    shares = samples.double().mean(1)  # quarters are exact
    torch.testing.assert_close(qubiq_score(samples, masks), qubiq_score(shares, masks), rtol=0, atol=0)


def test_empty_predictions_of_empty_masks_score_one_and_anything_else_zero():
    empty, full = torch.zeros(1, 2, 3, 3, dtype=torch.bool), torch.ones(1, 2, 3, 3, dtype=torch.bool)
    for score in (qubiq_score, dice_soft):
        assert score(torch.zeros(1, 3, 3), empty).item() == 1
        assert score(torch.ones(1, 3, 3), empty).item() == 0
        assert score(torch.zeros(1, 3, 3), full).item() == 0
    assert dice_per_rater(empty, empty).tolist() == [[1, 1]]
    assert leave_one_out_dice(empty).tolist() == [[1, 1]]


def test_missing_raters_never_count_whatever_their_masks_hold():
    masks, probability = random_masks(2, 5), random_map(2)
    presence = torch.tensor([[True, False, True, True, False], [True] * 5])
    masks[0, 1], masks[0, 4] = 255, 1
    present = masks[:1, [0, 2, 3]]
    for score in (qubiq_score, dice_soft):
        given = score(probability, masks, presence=presence)
        torch.testing.assert_close(given[:1], score(probability[:1], present), rtol=0, atol=0)
        torch.testing.assert_close(given[1:], score(probability[1:], masks[1:]), rtol=0, atol=0)
    votes, voters = rater_votes(masks, presence=presence)
    assert voters.tolist() == [3, 5] and votes[0].equal(present[0].sum(0).int())
    assert consensus_mask(masks, presence=presence)[:1].equal(consensus_mask(present))
    given = leave_one_out_dice(masks, presence=presence)
    torch.testing.assert_close(given[:1, [0, 2, 3]], leave_one_out_dice(present), rtol=0, atol=0)
    assert given[0, [1, 4]].isnan().all()
    given = dice_per_rater(consensus_mask(masks)[:, None], masks, presence=presence)
    assert given.isnan().tolist() == (~presence).tolist()


def test_a_case_without_raters_has_no_score():
    masks, presence = random_masks(2, 3), torch.tensor([[False] * 3, [True] * 3])
    given = qubiq_score(random_map(2), masks, presence=presence)
    assert given.isnan().tolist() == [True, False]
    assert not consensus_mask(masks, presence=presence)[0].any()


@pytest.mark.parametrize("wrong", [math.nan, -0.01, 1.01, 5.0, math.inf])
def test_probabilities_that_are_none_make_only_their_own_case_nan(wrong):
    masks, probability = random_masks(3, 2), random_map(3)
    probability[1, 2, 3] = wrong
    assert qubiq_score(probability, masks).isnan().tolist() == [False, True, False]


def test_qubiq_score_does_not_depend_on_the_order_of_raters():
    masks, probability = random_masks(3, 4), random_map(3)
    assert qubiq_score(probability, masks[:, [2, 0, 3, 1]]).equal(qubiq_score(probability, masks))


def test_dice_per_rater_of_a_hand_computed_case():
    masks = torch.tensor([[[[1, 1, 0, 0]], [[1, 0, 0, 0]]]])
    prediction = torch.tensor([[[[1, 0, 0, 0]], [[1, 1, 1, 0]]]])
    assert dice_per_rater(prediction, masks)[0].tolist() == pytest.approx([2 / 3, 1 / 2])
    assert dice_per_rater(prediction[:, :1], masks)[0].tolist() == pytest.approx([2 / 3, 1])


def test_dice_per_rater_and_leave_one_out_agree_with_the_slow_reference():
    masks, prediction = random_masks(3, 4), random_masks(3, 4, seed=3)
    fast, ceiling = dice_per_rater(prediction, masks), leave_one_out_dice(masks)
    for b in range(3):
        slow = [reference.dice(p, m) for p, m in zip(prediction[b].numpy(), masks[b].numpy(), strict=True)]
        assert fast[b].tolist() == pytest.approx(slow)
        assert ceiling[b].tolist() == pytest.approx(reference.leave_one_out(masks[b].numpy()))


def test_a_single_rater_has_nobody_to_be_compared_with():
    assert leave_one_out_dice(random_masks(2, 1)).isnan().all()


def test_volumes_are_scored_like_images():
    masks, probability = random_masks(2, 3, size=(4, 30)), random_map(2, size=(4, 30))
    deep, deep_map = masks.reshape(2, 3, 4, 5, 6), probability.reshape(2, 4, 5, 6)
    assert qubiq_score(deep_map, deep).equal(qubiq_score(probability, masks))
    assert leave_one_out_dice(deep).equal(leave_one_out_dice(masks))


def test_wrong_arguments_are_explained():
    masks = random_masks(2, 3)
    with pytest.raises(ValueError, match=r"masks are torch.float32: binarise them first"):
        qubiq_score(random_map(2), masks.float())
    with pytest.raises(
        ValueError, match=r"probability \(2, 3, 5, 6\) must be \(2, 5, 6\) or \(2, 1, 5, 6\): take the mean"
    ):
        qubiq_score(masks.float(), masks)
    with pytest.raises(ValueError, match=r"presence \(3,\) must be \(B, R\) = \(2, 3\)"):
        rater_votes(masks, presence=torch.ones(3))
    with pytest.raises(ValueError, match=r"prediction \(2, 3, 5, 5\) and masks \(2, 3, 5, 6\) differ"):
        qubiq_score(masks[..., :5], masks)
    with pytest.raises(ValueError, match="prediction has 2 masks for 3 raters"):
        dice_per_rater(masks[:, :2], masks)
    with pytest.raises(ValueError, match=r"\(2, 0, 5, 6\) must be \(B, N, H, W\) with N >= 1"):
        rater_votes(masks[:, :0])
    for tenths in ((), (0, 1), (10,), (0.5,)):
        with pytest.raises(ValueError, match="must be integers from 1 to 9"):
            dice_at_levels(random_map(2), masks, tenths=tenths)


def test_metric_is_the_mean_over_cases_of_all_batches():
    masks, probability = random_masks(5, 3), random_map(5)[:, None]
    metric = QubiqScore()
    metric(probability[:2], masks[:2])
    metric(probability[2:], masks[2:].float())
    expected = qubiq_score(probability, masks)
    assert metric.per_case().equal(expected)
    assert metric.aggregate().item() == pytest.approx(expected.mean().item())
    metric.reset()
    with pytest.raises(ValueError, match="QubiqScore: no case has been scored"):
        metric.aggregate()


def test_metric_takes_lists_of_cases_of_differing_sizes_with_presence():
    metric = QubiqScore(strict=True)
    first, second = random_masks(1, 3)[0], random_masks(1, 3, size=(7, 4))[0]
    maps = [random_map(1), random_map(1, size=(7, 4))]
    presence = torch.tensor([[True, True, True], [True, False, True]])
    metric(maps, [first, second], presence=presence)
    expected = [
        qubiq_score(maps[0][None], first[None], strict=True),
        qubiq_score(maps[1][None], second[None, [0, 2]], strict=True),
    ]
    assert metric.per_case().tolist() == torch.cat(expected).tolist()


def test_metric_works_through_the_ignite_handler_with_presence_in_the_label():
    masks, heads = random_masks(2, 3), random_masks(2, 3, seed=9).float()
    presence = torch.tensor([[True, False, True], [True, True, True]])
    output = [
        {"pred": MetaTensor(heads[b]), "label": {"masks": MetaTensor(masks[b]), "presence": presence[b]}}
        for b in (0, 1)
    ]
    handler = IgniteMetricHandler(
        DicePerRater(), output_transform=lambda cases: ([c["pred"] for c in cases], [c["label"] for c in cases])
    )
    engine = Engine(lambda engine, batch: batch)
    handler.attach(engine, "dice")
    engine.run([output], max_epochs=1)
    expected = dice_per_rater(heads > 0.5, masks, presence=presence).nanmean(1).mean()
    assert engine.state.metrics["dice"] == pytest.approx(expected.item())


def test_batches_take_masks_and_presence_as_one_mapping():
    masks, presence = random_masks(2, 3), torch.tensor([[True, False, True], [True, True, True]])
    metric = QubiqScore()
    metric(random_map(2), {"masks": masks, "presence": presence})
    assert metric.per_case().equal(qubiq_score(random_map(2), masks, presence=presence))


def test_dice_per_rater_keeps_raters_apart_on_request():
    masks, heads = random_masks(4, 2), torch.rand(4, 2, 5, 6, generator=generator(1))
    presence = torch.tensor([[True, True], [True, False], [True, True], [False, True]])
    scores = dice_per_rater(heads > 0.5, masks, presence=presence)
    apart = DicePerRater(reduction="mean_batch")
    apart(heads, masks, presence=presence)
    assert apart.aggregate().tolist() == pytest.approx(
        [scores[[0, 1, 2], 0].mean().item(), scores[[0, 2, 3], 1].mean().item()]
    )
    together = DicePerRater()
    together(heads, masks, presence=presence)
    by_hand = np.mean([scores[0].mean(), scores[1, 0], scores[2].mean(), scores[3, 1]])
    assert together.aggregate().item() == pytest.approx(by_hand)


def test_cases_without_a_value_are_counted_aloud_and_left_out():
    masks, probability = random_masks(3, 2), random_map(3)[:, None]
    probability[1, 0, 0, 0] = math.nan
    metric = QubiqScore()
    metric(probability, masks)
    with pytest.warns(UserWarning, match="QubiqScore: 1 of 3 cases have no value"):
        mean = metric.aggregate()
    assert mean.item() == pytest.approx(qubiq_score(probability, masks)[[0, 2]].mean().item())


def test_nan_in_heads_never_passes_for_background():
    heads = torch.zeros(2, 2, 5, 6)
    heads[0, 1, 0, 0] = math.nan
    metric = DicePerRater()
    assert metric(heads, random_masks(2, 2)).isnan().tolist() == [[True, True], [False, False]]


def test_functions_that_name_their_scores_are_averaged_by_name():
    def both(prediction, masks, *, presence=None):
        return {"qubiq": qubiq_score(prediction, masks), "soft": dice_soft(prediction, masks)}

    metric = RaterScore(both)
    metric(list(random_map(2)[:, None]), list(random_masks(2, 3)))
    metric(random_map(2, seed=8), random_masks(2, 3, seed=8))
    assert set(metric.aggregate()) == {"qubiq", "soft"} and len(metric.per_case()["soft"]) == 4
    assert metric.aggregate()["qubiq"].item() == pytest.approx(metric.per_case()["qubiq"].mean().item())


def test_wrong_use_of_the_metric_is_explained():
    with pytest.raises(ValueError, match="y is None"):
        QubiqScore()(random_map(2))
    with pytest.raises(ValueError, match="2 predictions need as many cases in y and in presence"):
        QubiqScore()(list(random_map(2)), list(random_masks(3, 2)))
    with pytest.raises(ValueError, match="reduction='sum' must be 'mean' or 'mean_batch'"):
        DicePerRater(reduction="sum")
    metric = DicePerRater()
    metric(random_map(2)[:, None], random_masks(2, 3))
    with pytest.raises(ValueError, match="a case of 2 raters after cases of 3: .* mark who is missing in presence"):
        metric(random_map(2)[:, None], random_masks(2, 2))
    metric.reset()
    metric(random_map(2)[:, None], random_masks(2, 2))
    assert len(metric) == 2


def test_a_float64_that_was_float32_reaches_the_level_it_was_stored_for() -> None:
    votes = torch.arange(11).view(1, 1, 11)
    masks = torch.stack([votes > k for k in range(10)], dim=1)
    exact = votes.double() / 10
    for prediction in (exact, exact.float(), exact.float().double()):
        assert dice_at_levels(prediction, masks).unique().tolist() == [1.0]
        assert dice_at_levels(prediction, masks, strict=True).unique().tolist() == [1.0]


def test_grey_values_and_labels_are_no_masks():
    masks = random_masks(2, 3)
    grey = (random_map(2)[:, None] * 255).to(torch.uint8)
    with pytest.raises(ValueError, match="predictions hold several values besides 0, up to 25.: .* by 255"):
        qubiq_score(grey, masks)
    labels = masks * torch.arange(1, 4, dtype=torch.uint8)[:, None, None]  # one value in each mask: no labels
    assert torch.equal(qubiq_score(random_map(2), labels), qubiq_score(random_map(2), masks))
    labels[0, 0, 0, :2] = torch.tensor([2, 3])
    for score in (qubiq_score, dice_soft):
        with pytest.raises(ValueError, match="masks hold several values besides 0, up to 3: score each"):
            score(random_map(2), labels)
    for metric in (QubiqScore(), DicePerRater()):
        with pytest.raises(ValueError, match="y hold several values besides 0, up to 3"):
            metric(random_map(2)[:, None].expand(-1, 3, -1, -1), labels.float())


def test_a_missing_raters_labels_do_not_matter_to_the_metric():
    masks = random_masks(2, 3).float()
    presence = torch.tensor([[True, True, False]] * 2)
    masks[:, 2] = torch.arange(30.0).view(5, 6)
    metric = QubiqScore()
    metric(random_map(2)[:, None], masks, presence=presence)
    assert metric.aggregate().item() == pytest.approx(qubiq_score(random_map(2), masks[:, :2].bool()).mean().item())


@pytest.mark.parametrize("shape", [(2, 5, 6), (2, 5, 6, 1)])
def test_masks_without_an_axis_of_raters_or_with_it_last_are_refused(shape):
    with pytest.raises(ValueError, match="batch and channels before the pixels|channel last"):
        qubiq_score(random_map(2), torch.zeros(shape, dtype=torch.uint8))
    with pytest.raises(ValueError, match="batch and channels before the pixels|channel last|must be"):
        DicePerRater()(torch.zeros(shape), torch.zeros(shape))


def test_lists_of_plain_masks_are_refused():
    with pytest.raises(ValueError, match="batch and channels before the pixels"):
        DicePerRater()(list(torch.zeros(3, 5, 6)), list(torch.zeros(3, 5, 6)))


def test_a_tie_of_the_others_is_their_majority_unless_strict():
    masks = torch.tensor([[[[1, 1, 0]], [[1, 0, 0]], [[0, 1, 0]]]])
    # majorities of the others: 110, 110, 110; strict ones: 000, 010, 100
    assert leave_one_out_dice(masks)[0].tolist() == pytest.approx([1, 2 / 3, 2 / 3])
    assert leave_one_out_dice(masks, strict=True)[0].tolist() == [0, 0, 0]


def test_floating_masks_are_foreground_above_one_half():
    metric = DicePerRater()
    metric(torch.tensor([[[[0.5, 0.6, 0.4]]]]), torch.tensor([[[[0.5, 0.6, 0.4]]]]))
    assert metric.aggregate().item() == 1
    metric.reset()
    metric(torch.tensor([[[[0.5, 0.4]]]]), torch.tensor([[[[0.5, 0.6]]]]))
    assert metric.aggregate().item() == 0
