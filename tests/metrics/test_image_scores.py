from __future__ import annotations

import pytest
import torch
from torch import Tensor

from monai_ext.metrics.image_scores import ImageScores


class Errors(ImageScores):
    """Mean error, and that relative to `scale` where it is given."""

    def _scores(self, y_pred: Tensor, y: Tensor, scale: Tensor | None = None, **kwargs) -> dict[str, Tensor]:
        error = (y_pred - y).abs().flatten(1).mean(1)
        return {"error": error} if scale is None else {"error": error, "relative": error / scale}


def test_means_are_over_the_images_of_all_batches():
    metric = Errors()
    metric(torch.full((3, 1, 2, 2), 0.5), torch.zeros(3, 1, 2, 2))
    metric(torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 4, 4))
    assert metric.per_image()["error"].tolist() == [0.5, 0.5, 0.5, 1.0]
    assert metric.per_image()["error"].dtype == torch.float64
    assert metric.aggregate() == {"error": 0.625}
    metric.reset()
    with pytest.raises(ValueError, match="Errors: no image has been scored"):
        metric.aggregate()


def test_lists_hold_images_of_differing_sizes_and_what_belongs_to_them():
    metric = Errors()
    predictions, targets = [torch.ones(1, 2, 2), torch.ones(1, 3, 5)], [torch.zeros(1, 2, 2), torch.zeros(1, 3, 5)]
    metric(predictions, targets, scale=[torch.tensor(2.0), torch.tensor(4.0)])
    assert metric.per_image()["relative"].tolist() == [0.5, 0.25]
    with pytest.raises(ValueError, match="Errors: 2 predictions need as many of y, scale"):
        metric(predictions, targets, scale=[torch.tensor(2.0)])
    with pytest.raises(ValueError, match="2 predictions need as many of y"):
        metric(predictions, targets[:1])


def test_images_with_other_scores_are_refused_until_reset():
    metric, image = Errors(), torch.zeros(1, 1, 2, 2)
    metric(image, image)
    with pytest.raises(ValueError, match="score images of different kinds apart"):
        metric(image, image, scale=torch.ones(1))
    metric.reset()
    metric(image, image, scale=torch.ones(1))
    with pytest.raises(ValueError, match="y is None"):
        metric(image)


def test_targets_of_another_range_are_refused():
    with pytest.raises(ValueError, match="the target reaches from 0 to 255"):
        Errors()(torch.zeros(1, 1, 1, 2), torch.tensor([[[[0.0, 255.0]]]]))


def test_off_the_host_targets_of_another_range_score_nan(monkeypatch):
    monkeypatch.setattr(
        "monai_ext.metrics.image_scores.checked_range", lambda name, images: torch.tensor([True, False])
    )
    metric = Errors()
    metric(torch.ones(2, 1, 2, 2), torch.zeros(2, 1, 2, 2))
    assert metric.per_image()["error"].isnan().tolist() == [True, False]
