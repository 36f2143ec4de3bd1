from __future__ import annotations

import warnings

import numpy as np
import pytest
import reference
import torch
from monai.metrics import ConfusionMatrixMetric, DiceMetric, MeanIoU

from monai_ext.metrics import SEGMENTATION_SCORES, SegmentationScores, confusion_counts, segmentation_scores


def masks(count: int, seed: int = 0, shape=(1, 6, 7)) -> torch.Tensor:
    return (torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed)) > 0.6).float()


def scores_of(prediction: torch.Tensor, truth: torch.Tensor) -> dict[str, float]:
    return {name: v.item() for name, v in segmentation_scores(confusion_counts(prediction, truth)).items()}


def test_hand_computed_case():
    prediction = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]])[None, None]
    truth = torch.tensor([[1, 1, 0, 0], [0, 1, 0, 0]])[None, None]
    # TP 2, FP 2, FN 1, TN 3
    given = scores_of(prediction, truth)
    assert given["dice"] == pytest.approx(4 / 7)
    assert given["jaccard"] == pytest.approx(2 / 5)
    assert given["precision"] == pytest.approx(1 / 2)
    assert given["sensitivity"] == pytest.approx(2 / 3)
    assert given["specificity"] == pytest.approx(3 / 5)
    assert given["threshold_jaccard"] == 0
    assert given["legacy_average_precision"] == pytest.approx(2 / 3 * 1 / 2 + 1 / 2 * 4 / 8)


def test_all_scores_agree_with_the_slow_reference():
    prediction, truth = masks(30, 1), masks(30, 2)
    prediction[3], truth[4] = 1, 1
    fast = segmentation_scores(confusion_counts(prediction, truth))
    for i in range(30):
        slow = reference.segmentation_scores(prediction[i, 0].numpy() > 0, truth[i, 0].numpy() > 0)
        for name in SEGMENTATION_SCORES:
            assert fast[name][i].item() == pytest.approx(slow[name], abs=1e-12), name


def test_legacy_average_precision_is_that_of_scikit_learn_with_swapped_arguments():
    # average_precision_score(y_true=[1,1,1,0,0], y_score=[1,1,0,1,0]) = 2/3 * 2/3 + 1/3 * 3/5
    prediction, truth = torch.tensor([[1, 1, 1, 0, 0]]), torch.tensor([[1, 1, 0, 1, 0]])
    given = scores_of(prediction[None, None], truth[None, None])["legacy_average_precision"]
    assert given == pytest.approx(2 / 3 * 2 / 3 + 1 / 3 * 3 / 5)


@pytest.mark.parametrize(
    ("prediction", "truth", "expected"),
    [
        (0, 0, {"dice": 1, "jaccard": 1, "precision": 1, "sensitivity": 1, "specificity": 1}),
        (1, 0, {"dice": 0, "jaccard": 0, "precision": 0, "sensitivity": 0, "specificity": 0}),
        (0, 1, {"dice": 0, "jaccard": 0, "precision": 0, "sensitivity": 0, "specificity": 0}),
        (1, 1, {"dice": 1, "jaccard": 1, "precision": 1, "sensitivity": 1, "specificity": 1}),
    ],
)
def test_empty_and_full_masks_follow_the_stated_rule(prediction, truth, expected):
    given = scores_of(torch.full((1, 1, 4, 4), prediction), torch.full((1, 1, 4, 4), truth))
    assert {name: given[name] for name in expected} == expected


def test_thresholded_jaccard_keeps_exactly_0_65():
    counts = torch.tensor([[65, 35, 0, 0], [64, 36, 0, 0]])
    assert segmentation_scores(counts)["threshold_jaccard"].tolist() == pytest.approx([0.65, 0.0])


def test_means_equal_monais_metrics():
    prediction, truth = masks(16, 3, (1, 32, 32)), masks(16, 4, (1, 32, 32))
    ours = SegmentationScores(0)
    ours(prediction[:10] - 0.5, truth[:10])
    ours(prediction[10:] - 0.5, truth[10:])
    given = ours.aggregate()
    confusion = ConfusionMatrixMetric(metric_name=["precision", "sensitivity", "specificity"], compute_sample=True)
    peers = {"dice": DiceMetric(), "jaccard": MeanIoU()}
    for name, metric in peers.items():
        metric(prediction, truth)
        assert given[name] == pytest.approx(metric.aggregate().item(), abs=1e-6)
    confusion(prediction, truth)
    for name, value in zip(("precision", "sensitivity", "specificity"), confusion.aggregate(), strict=True):
        assert given[name] == pytest.approx(value.item(), abs=1e-6)


def test_lists_of_differing_sizes_are_accepted():
    metric = SegmentationScores(threshold=0.5)
    metric([torch.ones(1, 4, 4), torch.zeros(1, 2, 3)], [torch.ones(1, 4, 4), torch.ones(1, 2, 3)])
    assert metric.per_image()["dice"].flatten().tolist() == [1, 0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_a_prediction_with_nan_has_no_score_and_enters_no_mean(dtype):
    truth = torch.zeros(4, 1, 4, 4)
    truth[:2, :, :2] = 1
    prediction = (truth - 0.5).to(dtype)
    prediction[1, 0, 3, 3] = torch.nan  # on background: right as a mask
    prediction[2] = torch.nan  # an empty truth, which nothing above the threshold would fit
    prediction[3, 0, 0, 0] = -torch.inf  # is a number
    metric = SegmentationScores(0)
    metric(prediction, truth)
    for values in metric.per_image().values():
        assert values.flatten().isnan().tolist() == [False, True, True, False]
    with pytest.warns(UserWarning, match="2 of 4 predictions hold NaN, or their masks several labels"):
        means = metric.aggregate()
    assert means["dice"] == means["specificity"] == 1.0
    metric.reset()
    metric([p for p in prediction[1:3]], [t for t in truth[1:3]])
    with pytest.warns(UserWarning, match="2 of 2"):
        assert all(np.isnan(value) for value in metric.aggregate().values())


def test_an_empty_validation_set_is_an_error():
    with pytest.raises(ValueError, match="no image has been scored"):
        SegmentationScores(0).aggregate()


def test_differing_shapes_are_an_error():
    with pytest.raises(ValueError, match=r"\(1, 1, 4, 4\) and target \(1, 1, 4, 5\)"):
        confusion_counts(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 4, 5))


def test_counts_sum_to_the_number_of_pixels():
    counts = confusion_counts(masks(5, 5), masks(5, 6))
    np.testing.assert_array_equal(counts.sum(-1), 42)


def test_probabilities_scored_as_logits_are_reported():
    truth = masks(3, 7)
    probability = 0.1 + 0.8 * truth.float()
    metric = SegmentationScores(0)
    metric(probability[:2], truth[:2])
    metric(probability[2:], truth[2:])
    with pytest.warns(UserWarning, match=r"between 0\.1 and 0\.9, as probabilities do, .*threshold=0\.5"):
        metric.aggregate()
    right = SegmentationScores(threshold=0.5)
    right(probability, truth)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert right.aggregate()["dice"] == 1.0


@pytest.mark.parametrize(("largest", "warned"), [(1.0, True), (1.5, False)])
def test_values_up_to_one_are_probabilities(largest, warned):
    metric = SegmentationScores(0)
    metric(torch.tensor([[[[0.2, largest]]]]), torch.ones(1, 1, 1, 2))
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        metric.aggregate()
    assert bool(given) == warned


def test_logits_masks_and_a_single_negative_value_are_no_probabilities():
    truth = masks(3, 7)
    for prediction in (truth.float() - 0.5, truth.float(), truth, 2 * truth.float() + 0.1):
        metric = SegmentationScores(0)
        metric(0.1 + 0.8 * truth.float(), truth)
        metric(prediction, truth)
        with warnings.catch_warnings():
            if prediction.is_floating_point():
                warnings.simplefilter("error")
            metric.aggregate()


def test_quotients_of_single_pixels():
    scores = segmentation_scores(torch.tensor([1, 0, 1, 2]))
    assert (scores["precision"].item(), scores["sensitivity"].item(), scores["jaccard"].item()) == (1.0, 0.5, 0.5)
    assert segmentation_scores(torch.tensor([1, 1, 0, 1]))["specificity"].item() == 0.5
    assert segmentation_scores(torch.tensor([1, 1, 0, 0]))["specificity"].item() == 0.0


def test_masks_of_several_labels_are_refused():
    with pytest.raises(ValueError, match="masks hold several values besides 0, up to 3"):
        SegmentationScores(0)(torch.ones(1, 1, 2, 2), torch.tensor([[[[0, 1], [2, 3]]]]))


@pytest.mark.parametrize("shape", [(3, 8, 9), (3, 8, 9, 1)])
def test_batches_without_channels_or_with_channels_last_are_refused(shape):
    with pytest.raises(ValueError, match="batch and channels before the pixels|channel last"):
        SegmentationScores(0)(torch.zeros(shape), torch.zeros(shape))


def test_lists_of_plain_images_are_refused():
    with pytest.raises(ValueError, match="batch and channels before the pixels"):
        SegmentationScores(0)(list(torch.zeros(3, 8, 9)), list(torch.zeros(3, 8, 9)))


def test_values_at_the_threshold_are_background():
    metric = SegmentationScores(threshold=0.5)
    metric(torch.tensor([[[[0.5, 0.6]]]]), torch.tensor([[[[0.5, 1.0]]]]))
    assert metric.aggregate()["dice"] == 1.0
    metric.reset()
    metric(torch.tensor([[[[0.5, 0.6]]]]), torch.tensor([[[[1.0, 0.5]]]]))
    assert metric.aggregate()["dice"] == 0.0


def test_logits_scored_as_probabilities_and_grey_values_are_refused():
    truth = masks(3, 7)
    with pytest.raises(ValueError, match="the prediction reaches from -4 to 4, and the threshold 0.5 is for probabil"):
        SegmentationScores(0.5)(8 * truth.float() - 4, truth)
    with pytest.raises(ValueError, match="predictions hold several values besides 0, up to 200"):
        SegmentationScores(0.5)((100 * truth + 100).byte(), truth)
    with pytest.raises(TypeError, match="threshold"):
        SegmentationScores()
