from __future__ import annotations

import math
from functools import partial

import pytest
import reference_raters as reference
import torch

from monai_ext.metrics.distances import (
    GeneralizedEnergyDistance,
    HungarianIoU,
    RaterAgreement,
    SetScores,
    dice_match,
    dice_max,
    energy_terms,
    generalized_energy_distance,
    hungarian_iou,
    pairwise_dice,
    pairwise_iou,
    rater_agreement,
    sample_diversity,
    set_scores,
)
from monai_ext.metrics.raters import RaterScore

ACROSS = (generalized_energy_distance, hungarian_iou, dice_match, dice_max)


def random_masks(batch: int, count: int, seed: int = 0, size=(5, 6)) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    common = torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(99))
    return (common + 0.6 * torch.rand(batch, count, *size, generator=generator) > 0.8).to(torch.uint8)


def sets(count: int, raters: int, batch: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Random sets, with an empty mask on either side of the first case."""
    samples, masks = random_masks(batch, count, seed=1), random_masks(batch, raters, seed=2)
    samples[0, 0], masks[0, -1] = 0, 0
    return samples, masks


def test_energy_distance_of_a_hand_computed_case():
    samples = torch.tensor([[[[1, 1, 0, 0]], [[0, 0, 0, 0]]]])
    masks = torch.tensor([[[[1, 1, 0, 0]], [[1, 0, 0, 0]]]])
    # d across: 0, 1/2, 1, 1 -> 5/8 · within samples: one pair at 1 · within raters: one pair at 1/2
    terms = energy_terms(samples, masks)
    assert (terms.across.item(), terms.within_samples.item(), terms.within_raters.item()) == (5 / 8, 1 / 2, 1 / 4)
    assert generalized_energy_distance(samples, masks).item() == pytest.approx(5 / 4 - 1 / 2 - 1 / 4)
    assert generalized_energy_distance(samples, masks, estimator="U").item() == pytest.approx(5 / 4 - 1 - 1 / 2)
    assert (terms.samples, terms.raters.tolist()) == (2, [2])


def test_matched_and_best_scores_of_a_hand_computed_case():
    samples = torch.tensor([[[[1, 1, 0, 0]], [[1, 1, 1, 0]], [[0, 0, 0, 1]]]])
    masks = torch.tensor([[[[1, 1, 0, 0]], [[1, 0, 0, 0]]]])
    # IoU rows: (1, 1/2), (2/3, 1/3), (0, 0); Dice rows: (1, 2/3), (4/5, 1/2), (0, 0)
    assert pairwise_iou(samples, masks)[0].flatten().tolist() == pytest.approx([1, 1 / 2, 2 / 3, 1 / 3, 0, 0])
    assert pairwise_dice(samples, masks)[0].flatten().tolist() == pytest.approx([1, 2 / 3, 4 / 5, 1 / 2, 0, 0])
    # Six places, samples twice, raters three times: sample 0 goes to the first rater twice (1 + 1),
    # sample 1 to each once (2/3 + 1/3), sample 2 to the second twice (0).
    assert hungarian_iou(samples, masks).item() == pytest.approx(3 / 6)
    assert dice_match(samples, masks).item() == pytest.approx(max(1 + 1 / 2, 4 / 5 + 2 / 3) / 2)
    assert dice_max(samples, masks).item() == pytest.approx((1 + 2 / 3) / 2)
    assert dice_max(samples, masks, each="sample").item() == pytest.approx((1 + 4 / 5 + 0) / 3)
    assert rater_agreement(masks).item() == pytest.approx(2 / 3)


@pytest.mark.parametrize(("count", "raters"), [(4, 2), (2, 3), (3, 3), (1, 2), (3, 1), (2, 4)])
def test_all_scores_agree_with_the_slow_reference(count, raters):
    samples, masks = sets(count, raters)
    fast = {score.__name__: score(samples, masks) for score in ACROSS}
    for b in range(len(masks)):
        s, y = samples[b].numpy(), masks[b].numpy()
        assert fast["generalized_energy_distance"][b].item() == pytest.approx(reference.energy_distance(s, y))
        assert fast["hungarian_iou"][b].item() == pytest.approx(reference.hungarian_iou(s, y))
        assert fast["dice_max"][b].item() == pytest.approx(reference.dice_max(s, y))
        assert dice_max(samples, masks, each="sample")[b].item() == pytest.approx(reference.dice_max(y, s))
        assert sample_diversity(samples)[b].item() == pytest.approx(reference.mean_distance(s, s))
        if count >= raters:
            assert fast["dice_match"][b].item() == pytest.approx(reference.dice_match(s, y))
        if raters > 1:
            assert rater_agreement(masks)[b].item() == pytest.approx(reference.agreement(y))
        if min(count, raters) > 1:
            slow = reference.energy_distance(s, y, estimator="U")
            assert generalized_energy_distance(samples, masks, estimator="U")[b].item() == pytest.approx(slow)
            slow = reference.mean_distance_without_self(s)
            assert sample_diversity(samples, estimator="U")[b].item() == pytest.approx(slow)


@pytest.mark.parametrize("masks", [random_masks(2, 3), torch.zeros(2, 3, 4, 4, dtype=torch.uint8)])
def test_identical_sets_have_zero_energy_distance_and_perfect_matches(masks):
    assert generalized_energy_distance(masks, masks).abs().max() < 1e-12
    assert generalized_energy_distance(masks[:, [2, 0, 1]], masks).abs().max() < 1e-12
    for score in (hungarian_iou, dice_match, dice_max):
        assert score(masks[:, [2, 0, 1]], masks).tolist() == pytest.approx([1, 1])


def test_energy_distance_is_symmetric_bounded_and_its_u_statistic_below():
    for seed in range(20):
        a, b = random_masks(4, 5, seed=seed), random_masks(4, 3, seed=seed + 100)
        v, u = generalized_energy_distance(a, b), generalized_energy_distance(a, b, estimator="U")
        torch.testing.assert_close(v, generalized_energy_distance(b, a), rtol=0, atol=1e-12)
        torch.testing.assert_close(hungarian_iou(a, b), hungarian_iou(b, a), rtol=0, atol=1e-12)
        assert (v >= 0).all() and (v <= 2).all() and (u < v).all()


def test_disjoint_sets_without_diversity_have_the_largest_distance():
    a, b = torch.zeros(1, 4, 2, 2, dtype=torch.bool), torch.zeros(1, 3, 2, 2, dtype=torch.bool)
    a[..., 0, 0], b[..., 1, 1] = True, True
    assert generalized_energy_distance(a, b).item() == 2
    assert hungarian_iou(a, b).item() == dice_match(a, b).item() == dice_max(a, b).item() == 0


def test_empty_against_empty_is_agreement_and_empty_against_something_is_not():
    empty, full = torch.zeros(1, 2, 3, 3, dtype=torch.bool), torch.ones(1, 2, 3, 3, dtype=torch.bool)
    assert pairwise_iou(empty, empty).tolist() == pairwise_dice(empty, empty).tolist() == [[[1, 1], [1, 1]]]
    assert pairwise_iou(empty, full).tolist() == pairwise_dice(full, empty).tolist() == [[[0, 0], [0, 0]]]
    assert rater_agreement(empty).item() == 1 and sample_diversity(empty).item() == 0


@pytest.mark.parametrize("score", ACROSS)
def test_scores_do_not_depend_on_the_order_of_either_set(score):
    samples, masks = sets(4, 3)
    given = score(samples[:, [3, 1, 0, 2]], masks[:, [1, 2, 0]])
    torch.testing.assert_close(given, score(samples, masks), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "score",
    [
        *ACROSS,
        partial(dice_max, each="sample"),
        lambda s, y, presence=None: sample_diversity(y, presence=presence),
    ],
)
def test_missing_raters_never_count_whatever_their_masks_hold(score):
    samples, masks = sets(4, 4, batch=2)
    presence = torch.tensor([[True, False, True, False], [True] * 4])
    masks[0, 1], masks[0, 3] = 255, 1
    given = score(samples, masks, presence=presence)
    expected = torch.cat([score(samples[:1], masks[:1, [0, 2]]), score(samples[1:], masks[1:])])
    torch.testing.assert_close(given, expected, rtol=0, atol=1e-12)


def test_agreement_and_u_statistic_are_undefined_for_a_single_rater_present():
    samples, masks = sets(3, 3, batch=2)
    presence = torch.tensor([[False, True, False], [True, True, False]])
    assert rater_agreement(masks, presence=presence).isnan().tolist() == [True, False]
    given = generalized_energy_distance(samples, masks, presence=presence, estimator="U")
    assert given.isnan().tolist() == [True, False]


def test_a_case_without_raters_has_no_score():
    samples, masks = sets(3, 3, batch=2)
    presence = torch.tensor([[False] * 3, [True] * 3])
    for name, values in set_scores(samples, masks, presence=presence).items():
        assert values.isnan().tolist() == [name != "sample_diversity", False], name
    assert dice_max(samples, masks, presence=presence, each="sample").isnan().tolist() == [True, False]


def test_dice_match_is_undefined_where_a_rater_would_have_no_sample():
    samples, masks = sets(2, 3)
    presence = torch.tensor([[True] * 3, [True, True, False], [True, False, False]])
    assert dice_match(samples, masks, presence=presence).isnan().tolist() == [True, False, False]


def test_set_scores_are_those_of_the_single_functions():
    samples, masks = sets(4, 3)
    presence = torch.tensor([[True] * 3, [True, False, True], [True] * 3])
    together = set_scores(samples, masks, presence=presence, estimator="U")
    apart = {
        score.__name__: score(samples, masks, presence=presence) for score in (hungarian_iou, dice_match, dice_max)
    }
    apart["generalized_energy_distance"] = generalized_energy_distance(samples, masks, presence=presence, estimator="U")
    apart["sample_diversity"] = sample_diversity(samples, estimator="U")
    apart["rater_diversity"] = sample_diversity(masks, presence=presence, estimator="U")
    apart["rater_agreement"] = rater_agreement(masks, presence=presence)
    assert set(together) == set(apart)
    for name, values in apart.items():
        torch.testing.assert_close(together[name], values, rtol=0, atol=1e-12)


def test_volumes_are_compared_like_images():
    samples, masks = random_masks(2, 3, seed=1, size=(4, 30)), random_masks(2, 2, size=(4, 30))
    deep = [masks.reshape(2, -1, 4, 5, 6) for masks in (samples, masks)]
    assert generalized_energy_distance(*deep).equal(generalized_energy_distance(samples, masks))


def test_the_bias_of_the_v_statistic_is_the_diversity_over_the_number_of_draws():
    """Two equally likely masks on both sides: E d is 1/2, U has mean 0, V is too large by 1/2M + 1/2K."""
    generator, samples = torch.Generator().manual_seed(0), 4
    kinds = torch.zeros(2, 2, 2, dtype=torch.bool)
    kinds[0, 0, 0], kinds[1, 1, 1] = True, True
    drawn = torch.randint(2, (4000, 2 * samples), generator=generator)
    s, y = kinds[drawn[:, :samples]], kinds[drawn[:, samples:]]
    v, u = generalized_energy_distance(s, y).mean(), generalized_energy_distance(s, y, estimator="U").mean()
    assert u.item() == pytest.approx(0, abs=0.02)
    assert v.item() == pytest.approx(2 * 0.5 / samples, abs=0.02)


def test_wrong_arguments_are_explained():
    samples, masks = sets(3, 2)
    with pytest.raises(ValueError, match="samples are torch.float32: binarise them first .*samples > 0.5"):
        generalized_energy_distance(samples.float(), masks)
    with pytest.raises(
        ValueError, match=r"samples \(3, 3, 5, 5\) and masks \(3, 2, 5, 6\) differ in batch or in pixels"
    ):
        hungarian_iou(samples[..., :5], masks)
    with pytest.raises(ValueError, match="U-statistic needs two samples, got 1: take more, or estimator='V'"):
        generalized_energy_distance(samples[:, :1], masks, estimator="U")
    with pytest.raises(ValueError, match="U-statistic needs two raters, got 1"):
        generalized_energy_distance(samples, masks[:, :1], estimator="U")
    for few, enough in ((samples[:, :1], masks), (samples, masks[:, :1])):
        with pytest.raises(ValueError, match="U-statistic needs two"):
            set_scores(few, enough, estimator="U")
    with pytest.raises(ValueError, match="U-statistic needs two masks, got 1"):
        sample_diversity(masks[:, :1], estimator="U")
    with pytest.raises(ValueError, match="estimator='W' must be 'V'"):
        sample_diversity(masks, estimator="W")
    with pytest.raises(ValueError, match="estimator='W' must be 'V'"):
        GeneralizedEnergyDistance(estimator="W")
    with pytest.raises(ValueError, match="each='pixel' must be one of rater, sample"):
        dice_max(samples, masks, each="pixel")


def test_metrics_are_means_over_cases_and_tell_the_number_of_samples():
    samples, masks = sets(4, 3)
    presence = torch.tensor([[True] * 3, [True, False, True], [True] * 3])
    for metric, function in (
        (GeneralizedEnergyDistance(), generalized_energy_distance),
        (HungarianIoU(), hungarian_iou),
    ):
        metric(samples[:2].float() * 0.8, masks[:2], presence=presence[:2])  # floating: foreground above one half
        metric(list(samples[2:]), list(masks[2:]), presence=presence[2:])
        expected = function(samples, masks, presence=presence).mean().item()
        assert metric.aggregate().item() == pytest.approx(expected)
        assert metric.samples == 4 and str(metric).endswith("(M=4)")
        with pytest.raises(ValueError, match="2 samples after cases with 4"):
            metric(samples[:, :2], masks)
        metric.reset()
        metric(samples[:, :2], masks)
        assert metric.samples == 2


def test_set_scores_metric_names_every_mean():
    samples, masks = sets(4, 3)
    metric = SetScores(estimator="U")
    metric(samples.float() * 0.8, masks)  # floating: foreground above one half
    expected = {name: values.mean().item() for name, values in set_scores(samples, masks, estimator="U").items()}
    assert {name: value.item() for name, value in metric.aggregate().items()} == pytest.approx(expected)


def test_agreement_metric_reads_no_prediction():
    masks = random_masks(3, 3)
    metric = RaterAgreement()
    metric(torch.full((3, 1, 5, 6), math.nan), masks)
    assert metric.aggregate().item() == pytest.approx(rater_agreement(masks).mean().item())


def test_any_function_of_the_module_becomes_a_metric():
    samples, masks = sets(4, 3)
    metric = RaterScore(dice_max, threshold=0.5, each="sample")
    metric(samples.float(), masks.float())
    assert metric.aggregate().item() == pytest.approx(dice_max(samples, masks, each="sample").mean().item())
    assert str(metric) == "dice_max"


def test_labels_are_refused_instead_of_compared_as_foreground():
    labels = torch.tensor([[[[0, 1, 2, 3]], [[0, 3, 1, 2]]]])
    with pytest.raises(ValueError, match="masks hold several values besides 0, up to 3"):
        generalized_energy_distance(labels > 0, labels)
    with pytest.raises(ValueError, match="samples hold several values besides 0, up to 3"):
        generalized_energy_distance(labels, labels > 0)
    assert (
        generalized_energy_distance(labels == 1, labels == 1).item()
        == 0
        < (generalized_energy_distance((labels == 1)[:, :1], (labels == 1)[:, 1:]).item())
    )
