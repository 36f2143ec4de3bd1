"""One mask from several: by hand, against plain loops over pixels, and against SimpleITK's STAPLE."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from reference_consensus import slow_staple
from scipy.ndimage import distance_transform_edt

from monai_ext.formulas.consensus import (
    CONSENSUS_METHODS,
    consensus_map,
    log_opinion_pool,
    rater_performance,
    staple,
    staple_labels,
)


def _raters(count: int, seed: int, size: tuple[int, ...] = (20, 24)) -> torch.Tensor:
    """Balls of differing size and place with single wrong pixels, (R, *size) uint8."""
    random = np.random.default_rng(seed)
    places = np.indices(size)
    masks = []
    for _ in range(count):
        centre = np.array(size)[(..., *[None] * len(size))] / 2 + random.normal(0, 1, (len(size), *[1] * len(size)))
        ball = ((places - centre) ** 2).sum(0) < (min(size) / 3 + random.normal()) ** 2
        masks.append(ball ^ (random.random(size) < 0.02))
    return torch.from_numpy(np.array(masks, dtype=np.uint8))


def test_votes_are_those_counted_by_hand_and_missing_raters_have_none():
    masks = torch.tensor([[[[1, 1, 1, 0]], [[1, 1, 0, 0]], [[1, 0, 0, 0]], [[0, 0, 0, 1]]]])
    presence = torch.tensor([[True, True, True, False]])
    expected = {
        "majority": [1, 1, 0, 0],
        "soft_vote": [1, 2 / 3, 1 / 3, 0],
        "union": [1, 1, 1, 0],
        "intersection": [1, 0, 0, 0],
    }
    for method, values in expected.items():
        found = consensus_map(masks, presence=presence, method=method)
        assert found.shape == (1, 1, 4) and found[0, 0].tolist() == pytest.approx(values), method


@pytest.mark.parametrize("method", CONSENSUS_METHODS)
@pytest.mark.parametrize("size", [(9, 7), (6, 7, 5)])
def test_batches_give_what_single_cases_do_and_nobody_gives_an_empty_map(method, size):
    masks = torch.stack([_raters(3, seed, size) for seed in range(3)])
    presence = torch.tensor([[True, True, True], [True, False, True], [False, False, False]])
    together = consensus_map(masks, presence=presence, method=method)
    assert together.dtype == torch.float32 and together.shape == (3, *size) and not together[2].any()
    torch.testing.assert_close(together[0], consensus_map(masks[:1], method=method)[0])
    torch.testing.assert_close(together[1], consensus_map(masks[1:2, [0, 2]], method=method)[0])


@pytest.mark.parametrize("raters", [2, 3, 5])
def test_staple_is_that_of_plain_loops(raters):
    masks = _raters(raters, raters, (7, 8))
    found = staple(masks[None], max_iterations=30)
    probability, sensitivity, specificity = slow_staple(masks.numpy(), found.iterations)
    np.testing.assert_allclose(found.probability[0].numpy(), probability, atol=1e-5)
    np.testing.assert_allclose(found.sensitivity[0].numpy(), sensitivity, atol=1e-6)
    np.testing.assert_allclose(found.specificity[0].numpy(), specificity, atol=1e-6)


@pytest.mark.parametrize(("raters", "size"), [(2, (20, 24)), (5, (20, 24)), (7, (8, 9, 10))])
def test_staple_is_that_of_simpleitk(raters, size):
    itk = pytest.importorskip("SimpleITK")
    masks = _raters(raters, 1, size)
    theirs = itk.STAPLEImageFilter()
    theirs.SetForegroundValue(1)
    probability = itk.GetArrayFromImage(theirs.Execute([itk.GetImageFromArray(mask) for mask in masks.numpy()]))
    ours = staple(masks[None])
    np.testing.assert_allclose(ours.probability[0].numpy(), probability, atol=1e-4)
    np.testing.assert_allclose(ours.sensitivity[0].numpy(), theirs.GetSensitivity(), atol=1e-4)
    np.testing.assert_allclose(ours.specificity[0].numpy(), theirs.GetSpecificity(), atol=1e-4)


def test_staple_of_several_labels_is_that_of_simpleitk():
    itk = pytest.importorskip("SimpleITK")
    random = np.random.default_rng(2)
    whole = _raters(4, 5).numpy() + _raters(4, 6).numpy()
    labels = np.where(random.random(whole.shape) < 0.1, random.integers(0, 3, whole.shape), whole).astype(np.uint8)
    theirs = itk.MultiLabelSTAPLEImageFilter()
    theirs.SetTerminationUpdateThreshold(1e-9)
    expected = itk.GetArrayFromImage(theirs.Execute([itk.GetImageFromArray(each) for each in labels]))
    ours = staple_labels(torch.from_numpy(labels)[None], classes=3)
    assert np.array_equal(ours.labels[0].numpy(), expected)
    confusion = np.array(theirs.GetConfusionMatrix(0)).reshape(-1, 3)[:3].T  # theirs has the rater's label in rows
    np.testing.assert_allclose(ours.confusion[0, 0].numpy(), confusion, atol=1e-6)
    np.testing.assert_allclose(ours.probability.sum(1).numpy(), 1, atol=1e-6)


def test_two_labels_are_the_binary_staple():
    masks = _raters(4, 8)[None]
    labels, binary = staple_labels(masks, classes=2), staple(masks)
    torch.testing.assert_close(labels.probability[:, 1], binary.probability)
    torch.testing.assert_close(labels.confusion[..., 1, 1], binary.sensitivity)


def test_more_raters_than_a_code_of_64_bits_has_places_for():
    masks = _raters(70, 3, (6, 5))[None]
    some = torch.arange(70)[None] < 9
    torch.testing.assert_close(staple(masks, presence=some).probability, staple(masks[:, :9]).probability)


def test_a_careless_rater_has_the_lowest_sensitivity_and_an_empty_case_an_empty_map():
    truth = _raters(1, 0)[0]
    masks = torch.stack([truth, truth, truth, truth * 0, truth])
    found = staple(masks[None])
    assert found.sensitivity[0].argmin() == 3 and (found.probability[0] >= 0.5).equal(truth.bool())
    empty = staple(torch.zeros(1, 3, 4, 4, dtype=torch.uint8))
    assert not empty.probability.any() and empty.sensitivity.isnan().all() and (empty.specificity == 1).all()


def test_the_performance_with_staple_as_the_truth_is_its_own_estimate():
    masks = _raters(4, 4)[None]
    found = staple(masks)
    sensitivity, specificity = rater_performance(masks, found.probability)
    torch.testing.assert_close(sensitivity, found.sensitivity, atol=1e-6, rtol=0)
    torch.testing.assert_close(specificity, found.specificity, atol=1e-6, rtol=0)


def test_the_opinion_pool_is_the_sigmoid_of_mean_signed_distances():
    masks = _raters(3, 7)
    most = math.log(0.999 / 0.001)
    odds = [
        np.where(m, distance_transform_edt(m) - 0.5, 0.5 - distance_transform_edt(~m)).clip(-most, most)
        for m in masks.bool().numpy()
    ]
    expected = 1 / (1 + np.exp(-np.mean(odds, axis=0)))
    np.testing.assert_allclose(log_opinion_pool(masks[None])[0].numpy(), expected, atol=1e-5)
    # two strips of 2 and 6 columns: the pool ends between them
    strips = torch.zeros(1, 2, 9, 12, dtype=torch.uint8)
    strips[0, 0, :, :2] = strips[0, 1, :, :6] = 1
    assert (log_opinion_pool(strips)[0, 4] > 0.5).sum() == 4


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match="method='mean' must be one of"):
        consensus_map(torch.ones(1, 1, 2, 2, dtype=torch.uint8), method="mean")
    with pytest.raises(ValueError, match="labels reach from 0 to 3: 3 classes are 0 to 2"):
        staple_labels(torch.tensor([[[[0, 3]]]]), classes=3)
    with pytest.raises(ValueError, match="surest=1.0 must lie between"):
        log_opinion_pool(torch.ones(1, 1, 2, 2, dtype=torch.uint8), surest=1.0)
