from __future__ import annotations

import math

import numpy as np
import pytest
import reference_raters as reference
import torch
from monai.metrics import CalibrationErrorMetric

from monai_ext.formulas import overlaps
from monai_ext.metrics.calibration import (
    area_under_risk_coverage,
    average_calibration_error,
    brier_score,
    calibration_bins,
    calibration_scores,
    expected_calibration_error,
    maximum_calibration_error,
    rater_entropy,
    rater_variance,
    risk_coverage_curve,
    uncertainty_ncc,
)
from monai_ext.metrics.raters import RaterScore

SCORES = {
    "ece": expected_calibration_error,
    "ace": average_calibration_error,
    "mce": maximum_calibration_error,
    "brier": brier_score,
}


def random_case(batch: int, raters: int, seed: int = 0, size=(5, 6)) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities (B, H, W), and masks that follow them in the mean."""
    generator = torch.Generator().manual_seed(seed)
    probability = torch.rand(batch, *size, generator=generator)
    draws = torch.rand(batch, raters, *size, generator=generator)
    return probability, (draws < probability[:, None]).to(torch.uint8)


def test_calibration_of_a_hand_computed_case():
    probability = torch.tensor([[[0.1, 0.2, 0.6, 0.9]]])
    masks = torch.tensor([[[[0, 1, 1, 1]]]])
    # two bins: {.1, .2} mean .15 v 1/2, {.6, .9} mean .75 v 1
    assert expected_calibration_error(probability, masks, bins=2).item() == pytest.approx((2 * 0.35 + 2 * 0.25) / 4)
    assert average_calibration_error(probability, masks, bins=3).item() == pytest.approx((0.35 + 0.4 + 0.1) / 3)
    assert maximum_calibration_error(probability, masks, bins=2).item() == pytest.approx(0.35)
    assert brier_score(probability, masks).item() == pytest.approx((0.01 + 0.64 + 0.16 + 0.01) / 4)


@pytest.mark.parametrize("raters", [1, 3, 4])
@pytest.mark.parametrize("bins", [1, 5, 15])
def test_all_scores_agree_with_the_slow_reference(raters, bins):
    probability, masks = random_case(3, raters)
    fast = calibration_scores(probability[:, None], masks, bins=bins)
    for b in range(3):
        p, y = probability[b].numpy(), masks[b].numpy()
        against_each = [reference.calibration_errors(p, truth, bins) for truth in y]
        against_share = reference.calibration_errors(p, y.mean(0), bins)
        for name in SCORES:
            assert fast[name][b].item() == pytest.approx(np.mean([errors[name] for errors in against_each]), abs=1e-9)
            assert fast[f"{name}_consensus"][b].item() == pytest.approx(against_share[name], abs=1e-9)


@pytest.mark.parametrize(("kind", "name"), [("expected", "ece"), ("average", "ace"), ("maximum", "mce")])
def test_one_rater_gives_the_number_of_monai(kind, name):
    probability, masks = random_case(4, 1, size=(16, 16))
    metric = CalibrationErrorMetric(num_bins=15, calibration_reduction=kind)
    metric(probability[:, None], masks)
    assert SCORES[name](probability, masks).mean().item() == pytest.approx(metric.aggregate().item(), abs=1e-6)


@pytest.mark.parametrize("name", SCORES)
def test_scores_against_the_consensus_are_never_above_those_against_raters(name):
    probability, masks = random_case(20, 4, seed=3)
    each, share = SCORES[name](probability, masks), SCORES[name](probability, masks, against="consensus")
    assert (share <= each + 1e-12).all() and (share < each).any()
    assert (share >= 0).all() and (each <= 1).all()


def test_brier_scores_differ_by_the_raters_own_variance():
    probability, masks = random_case(5, 4, seed=4)
    gap = brier_score(probability, masks) - brier_score(probability, masks, against="consensus")
    torch.testing.assert_close(gap, rater_variance(masks).mean((1, 2)), rtol=0, atol=1e-12)


def test_the_share_of_raters_is_perfectly_calibrated_against_the_consensus():
    _, masks = random_case(3, 4)
    share = masks.float().mean(1)
    for score in SCORES.values():
        assert score(share, masks, against="consensus").abs().max() < 1e-12


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_bins_are_closed_on_the_left_and_the_last_on_both_sides(dtype):
    probability = torch.tensor([[[0, 0.1, 0.3, 0.7, 0.99, 1.0]]], dtype=dtype)
    table = calibration_bins(probability, torch.ones(1, 1, 1, 6, dtype=torch.bool), bins=10)
    assert table.pixels[0, 0].tolist() == [1, 1, 0, 1, 0, 0, 0, 1, 0, 2]


def test_bins_hold_every_pixel_over_many_blocks(monkeypatch):
    probability, masks = random_case(2, 3, size=(23, 29))
    whole = calibration_bins(probability, masks)
    monkeypatch.setattr(overlaps, "BLOCK_ELEMENTS", 500)
    blocks = calibration_bins(probability, masks)
    assert whole.pixels.sum(-1).flatten().tolist() == [23 * 29] * 2
    assert blocks.pixels.equal(whole.pixels) and blocks.foreground.equal(whole.foreground)
    assert whole.foreground.sum(-1).equal(masks.flatten(2).sum(-1).double())
    torch.testing.assert_close(blocks.probability, whole.probability, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", SCORES)
def test_one_map_per_rater_is_scored_against_its_own_rater(name):
    first, masks = random_case(3, 2, seed=5)
    second, _ = random_case(3, 2, seed=6)
    heads, score = torch.stack([first, second], dim=1), SCORES[name]
    expected = (score(first, masks[:, :1]) + score(second, masks[:, 1:])) / 2
    torch.testing.assert_close(score(heads, masks), expected, rtol=0, atol=1e-12)
    presence = torch.tensor([[True, True], [True, False], [False, True]])
    given = score(heads, masks, presence=presence)
    torch.testing.assert_close(given[1], score(first, masks[:, :1])[1], rtol=0, atol=1e-12)
    torch.testing.assert_close(given[2], score(second, masks[:, 1:])[2], rtol=0, atol=1e-12)


def test_missing_raters_never_count_whatever_their_masks_hold():
    probability, masks = random_case(2, 4)
    presence = torch.tensor([[True, False, True, False], [False] * 4])
    masks[0, 1], masks[0, 3] = 255, 1
    expected = calibration_scores(probability[:1], masks[:1, [0, 2]])
    for name, values in calibration_scores(probability, masks, presence=presence).items():
        assert values[0].item() == pytest.approx(expected[name].item(), abs=1e-12), name
        assert values[1].isnan(), name
    assert rater_variance(masks, presence=presence)[:1].equal(rater_variance(masks[:1, [0, 2]]))


@pytest.mark.parametrize("wrong", [math.nan, -0.01, 1.01, math.inf])
def test_probabilities_that_are_none_make_only_their_own_case_nan(wrong):
    probability, masks = random_case(3, 2)
    probability[1, 0, 0] = wrong
    for name, values in calibration_scores(probability, masks).items():
        assert values.isnan().tolist() == [False, True, False], name
    heads = probability[:, None].repeat(1, 2, 1, 1)
    for score in SCORES.values():
        assert score(heads, masks).isnan().tolist() == [False, True, False]


def test_calibration_becomes_a_metric_by_name():
    probability, masks = random_case(3, 2)
    metric = RaterScore(calibration_scores, bins=5)
    metric(probability[:, None], masks.float())
    assert metric.aggregate()["ece"].item() == pytest.approx(
        expected_calibration_error(probability, masks, bins=5).mean().item()
    )


def test_disagreement_of_a_hand_computed_case():
    masks = torch.tensor([[[[1, 1, 0, 1]], [[1, 0, 0, 1]], [[1, 0, 0, 0]], [[1, 0, 0, 0]]]])
    assert rater_variance(masks).flatten().tolist() == [0, 3 / 16, 0, 1 / 4]
    expected = [0, -0.25 * math.log(0.25) - 0.75 * math.log(0.75), 0, math.log(2)]
    assert rater_entropy(masks).flatten().tolist() == pytest.approx(expected)


def test_correlation_of_uncertainty_agrees_with_numpy():
    uncertainty, masks = random_case(4, 3, seed=8)
    for disagreement in (rater_variance, rater_entropy):
        given = uncertainty_ncc(uncertainty[:, None], masks, disagreement=disagreement)
        for b in range(4):
            truth = disagreement(masks)[b].flatten().numpy()
            slow = np.corrcoef(uncertainty[b].flatten().double().numpy(), truth)[0, 1]
            assert given[b].item() == pytest.approx(slow)


def test_correlation_of_uncertainty_ignores_scale_and_knows_its_sign():
    _, masks = random_case(3, 3)
    truth = rater_variance(masks)
    assert uncertainty_ncc(5 * truth + 2, masks).tolist() == pytest.approx([1, 1, 1])
    assert uncertainty_ncc(-truth, masks).tolist() == pytest.approx([-1, -1, -1])


def test_correlation_is_undefined_for_constant_maps():
    uncertainty, masks = random_case(4, 3)
    uncertainty[0] = 0.1  # constant prediction
    masks[1, 1:] = masks[1, :1]  # all agree
    presence = torch.tensor([[True] * 3, [True] * 3, [True, False, False], [True] * 3])
    assert uncertainty_ncc(uncertainty, masks, presence=presence).isnan().tolist() == [True, True, True, False]
    uncertainty[3, 0, 0] = math.inf
    assert uncertainty_ncc(uncertainty, masks)[3].isnan()


def test_risk_coverage_of_a_hand_computed_case():
    confidence, risk = torch.tensor([0.2, 0.9, 0.5]), torch.tensor([0.6, 0.0, 0.3])
    assert risk_coverage_curve(confidence, risk).tolist() == pytest.approx([0, 0.15, 0.3])
    assert area_under_risk_coverage(confidence, risk).item() == pytest.approx(0.15)
    assert area_under_risk_coverage(-confidence, risk).item() == pytest.approx((0.6 + 0.45 + 0.3) / 3)


@pytest.mark.parametrize("confidence", [[1, 2, 3, 4, 5], [2, 2, 1, 1, 1], [3, 3, 3, 3, 3], [5, 1, 5, 2, 2]])
def test_risk_coverage_is_the_mean_over_the_orders_of_ties(confidence):
    risk = [0.1, 0.7, 0.2, 0.9, 0.4]
    given = area_under_risk_coverage(torch.tensor(confidence), torch.tensor(risk, dtype=torch.float64)).item()
    assert given == pytest.approx(reference.area_under_risk_coverage(confidence, risk))


def test_risk_coverage_is_least_for_the_order_of_risks_and_ends_at_the_mean():
    risk = torch.rand(50, generator=torch.Generator().manual_seed(0))
    best = area_under_risk_coverage(-risk, risk)
    for seed in range(5):
        confidence = torch.rand(50, generator=torch.Generator().manual_seed(seed))
        assert area_under_risk_coverage(confidence, risk) >= best
        assert risk_coverage_curve(confidence, risk)[-1].item() == pytest.approx(risk.mean().item())
    assert area_under_risk_coverage(torch.ones(50), risk).item() == pytest.approx(risk.mean().item())


def test_nan_never_hides_in_risk_coverage():
    confidence, risk = torch.tensor([0.2, 0.9]), torch.tensor([0.6, 0.1])
    assert area_under_risk_coverage(torch.tensor([math.nan, 0.9]), risk).isnan()
    assert area_under_risk_coverage(confidence, torch.tensor([0.6, math.nan])).isnan()


def test_wrong_arguments_are_explained():
    probability, masks = random_case(2, 3)
    with pytest.raises(ValueError, match="against='truth' must be one of"):
        brier_score(probability, masks, against="truth")
    with pytest.raises(ValueError, match=r"needs one map, not one per rater: pass probability.mean\(1\)"):
        expected_calibration_error(masks.float(), masks, against="consensus")
    with pytest.raises(ValueError, match="bins=0 must be 1 at least"):
        expected_calibration_error(probability, masks, bins=0)
    with pytest.raises(ValueError, match="probability is torch.uint8, not floating"):
        brier_score(masks[:, 0], masks)
    with pytest.raises(ValueError, match=r"probability \(2, 2, 5, 6\) must be"):
        maximum_calibration_error(masks[:, :2].float(), masks)
    with pytest.raises(ValueError, match=r"confidence \(2,\) and risk \(3,\) must be \(N,\)"):
        area_under_risk_coverage(torch.ones(2), torch.ones(3))
    with pytest.raises(ValueError, match=r"with N >= 1"):
        area_under_risk_coverage(torch.ones(0), torch.ones(0))


def test_fifteen_bins_are_the_default():
    probability, masks = torch.rand(2, 9, 9, generator=torch.Generator().manual_seed(3)), torch.ones(2, 1, 9, 9).bool()
    assert calibration_bins(probability, masks).pixels.shape[-1] == 15
    given, expected = calibration_scores(probability, masks), calibration_scores(probability, masks, bins=15)
    assert all(torch.equal(values, expected[name]) for name, values in given.items())
    for error in (expected_calibration_error, average_calibration_error, maximum_calibration_error):
        assert torch.equal(error(probability, masks), error(probability, masks, bins=15))
