"""Scores of binary segmentations, per image, from one count of true and false positives and negatives.

Every convention is fixed here. With TP, FP, FN, TN counted over the pixels of one channel of one image:

    dice = 2 TP / (2 TP + FP + FN)        jaccard = TP / (TP + FP + FN)
    precision = TP / (TP + FP)            sensitivity = TP / (TP + FN)        specificity = TN / (TN + FP)
    threshold_jaccard = jaccard if jaccard >= 0.65 else 0                     (ISIC 2018 challenge, task 1)
    legacy_average_precision = R P + (1 - P) q         (R sensitivity, P precision, q predicted fraction of the image)

A quotient 0/0 is 1 where the prediction is right in every pixel and 0 elsewhere; so an empty prediction of an empty
target scores 1 (the ISIC rule). Means are over images, each image counting once; an image whose prediction holds NaN
has no scores (all are NaN) and enters no mean.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from monai.metrics import CumulativeIterationMetric
from torch import Tensor

from monai_ext.formulas.checks import check_same_shape, check_spatial, has_labels, not_probabilities

__all__ = ["SEGMENTATION_SCORES", "SegmentationScores", "confusion_counts", "segmentation_scores"]

SEGMENTATION_SCORES = (
    "dice",
    "jaccard",
    "precision",
    "sensitivity",
    "specificity",
    "threshold_jaccard",
    "legacy_average_precision",
)
ISIC_JACCARD_THRESHOLD = 0.65
UNDEFINED = -1  # in place of all four counts


def confusion_counts(prediction: Tensor, target: Tensor) -> Tensor:
    """Pixels counted as TP, FP, FN, TN: int32 (B, C, 4).

    Args:
        prediction: binary masks (B, C, *spatial); any dtype, non-zero is foreground.
        target: binary masks of the same shape.

    Raises:
        ValueError: the shapes differ.
    """
    check_same_shape(prediction=prediction, target=target)
    check_spatial("prediction", prediction)
    predicted, true = _zero_one(prediction), _zero_one(target)
    both, predicted_sum, target_sum = (mask.sum(-1, dtype=torch.int32) for mask in (predicted & true, predicted, true))
    neither = predicted.shape[-1] - predicted_sum - target_sum + both
    return torch.stack([both, predicted_sum - both, target_sum - both, neither], dim=-1)


def thresholded_counts(prediction: Tensor, target: Tensor, *, threshold: float) -> Tensor:
    """`confusion_counts` of {prediction > threshold} and {target > 0.5}.

    A channel with NaN in its prediction, and on other devices than the CPU, where these are errors, one with several
    labels in its mask or prediction (`has_labels`) or with values that the threshold does not fit (`not_probabilities`)
    has counts of -1, from which `segmentation_scores` makes NaN. Nothing waits for the device.
    """
    prediction, target = prediction.as_subclass(Tensor), target.as_subclass(Tensor)  # MONAI's costs more per call
    counts = confusion_counts(prediction > threshold, target > 0.5)
    broken = has_labels("masks", target)
    if prediction.is_floating_point():
        broken = broken | prediction.flatten(2).amax(-1).isnan()  # keeps NaN, in a tenth of the time of isnan().any()
        if 0 < threshold < 1:
            broken = broken | not_probabilities("the prediction", prediction, threshold=threshold)
    else:
        broken = broken | has_labels("predictions", prediction)
    return counts.masked_fill(broken[..., None], UNDEFINED)


def _zero_one(mask: Tensor) -> Tensor:
    """(B, C, *spatial) -> (B, C, N) of bytes 0 and 1, which add up several times faster than booleans do."""
    return (mask if mask.dtype == torch.bool else mask != 0).flatten(2).view(torch.uint8)


def segmentation_scores(counts: Tensor) -> dict[str, Tensor]:
    """The scores of `SEGMENTATION_SCORES` by name, each (...) in float64, from counts TP, FP, FN, TN (..., 4).

    NaN where the counts are those of a prediction with NaN, see `thresholded_counts`.

    >>> scores = segmentation_scores(torch.tensor([3, 1, 2, 10]))
    >>> round(scores["dice"].item(), 4), scores["precision"].item(), scores["sensitivity"].item()
    (0.6667, 0.75, 0.6)
    """
    tp, fp, fn, tn = counts.double().unbind(-1)
    perfect = ((fp + fn) == 0).double()

    def quotient(numerator: Tensor, denominator: Tensor) -> Tensor:
        return torch.where(denominator > 0, numerator / denominator.clamp(min=1), perfect)

    jaccard = quotient(tp, tp + fp + fn)
    precision, sensitivity = quotient(tp, tp + fp), quotient(tp, tp + fn)
    predicted_fraction = quotient(tp + fp, tp + fp + fn + tn)
    scores = {
        "dice": quotient(2 * tp, 2 * tp + fp + fn),
        "jaccard": jaccard,
        "precision": precision,
        "sensitivity": sensitivity,
        "specificity": quotient(tn, tn + fp),
        "threshold_jaccard": torch.where(jaccard >= ISIC_JACCARD_THRESHOLD, jaccard, torch.zeros_like(jaccard)),
        "legacy_average_precision": sensitivity * precision + (1 - precision) * predicted_fraction,
    }
    return {name: score.masked_fill(tp < 0, torch.nan) for name, score in scores.items()}


class SegmentationScores(CumulativeIterationMetric):
    """All of `SEGMENTATION_SCORES` as a MONAI metric; counts stay on the device until they are read.

    Called with masks (B, C, *spatial) or with a list of (C, *spatial) of differing sizes. `aggregate` returns the mean
    over images (and channels) by name, `per_image` the tensors behind it. Images whose prediction holds NaN enter no
    mean, and a warning counts them; if all do, the means are NaN. Another warning is given where the threshold 0, of
    logits, met what can only be probabilities: values that are all above 0 and at most 1.

    Args:
        threshold: applied to the prediction as `prediction > threshold`: 0 for logits, 0.5 for probabilities.
    """

    def __init__(self, threshold: float):
        super().__init__()
        self.threshold = threshold

    def reset(self) -> None:
        super().reset()
        self._range: Tensor | None = None  # smallest and largest prediction, on the device

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: Any) -> Tensor:
        if y is None:
            raise ValueError("SegmentationScores compares a prediction with a target: y is None.")
        counts = thresholded_counts(y_pred, y, threshold=self.threshold)
        if self.threshold == 0 and y_pred.is_floating_point():
            low, high = y_pred.as_subclass(Tensor).detach().aminmax()
            found = torch.stack([-low, high])
            self._range = found if self._range is None else self._range.maximum(found)
        return counts

    def per_image(self) -> dict[str, Tensor]:
        """Scores by name, each (N, C), of the N images seen since `reset`, over all ranks.

        Raises:
            ValueError: no image has been seen.
        """
        counts = self.get_buffer()
        if not isinstance(counts, Tensor) or counts.numel() == 0:
            raise ValueError("no image has been scored: the validation set is empty.")
        return segmentation_scores(counts)

    def aggregate(self) -> dict[str, float]:
        names, values = zip(*self.per_image().items(), strict=True)
        broken = values[0].isnan()
        *means, count = torch.stack([*(value.nanmean() for value in values), broken.sum().double()]).tolist()
        if count:
            warnings.warn(
                f"{count:.0f} of {broken.numel()} predictions hold NaN, or their masks several labels: they have no "
                "score and do not enter the mean.",
                stacklevel=2,
            )
        low, high = (0.0, 0.0) if self._range is None else self._range.tolist()
        if low < 0 and 0.5 < high <= 1 and high + low > 0.25:  # untrained logits too lie in (0, 1), in a narrow band
            warnings.warn(
                f"all predictions lie between {-low:g} and {high:g}, as probabilities do, and the threshold is 0, that "
                "of logits: use SegmentationScores(threshold=0.5).",
                stacklevel=2,
            )
        return dict(zip(names, means, strict=True))
