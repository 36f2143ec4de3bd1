"""Base of metrics with several named scores per image."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from monai.metrics import CumulativeIterationMetric
from torch import Tensor

from monai_ext.formulas.checks import checked_range
from monai_ext.formulas.images import as_wide

__all__ = ["ImageScores"]


class ImageScores(CumulativeIterationMetric):
    """Named scores of each image, kept on the device until they are read; a subclass computes them in `_scores`.

    Called as metric(y_pred, y, ...) on batches (B, ...), or on lists of images of differing sizes. Targets must be
    within [0, 1], but for an overshoot: others are an error on the CPU, and score NaN on other devices. All batches
    must have the same scores.
    """

    def reset(self) -> None:
        super().reset()
        self.names: tuple[str, ...] | None = None

    @abstractmethod
    def _scores(self, y_pred: Tensor, y: Tensor, **kwargs: Any) -> dict[str, Tensor]:
        """Scores by name, (B,) each, of a batch; called without gradients and without autocast."""

    def _compute_list(self, y_pred: Any, y: Any = None, **kwargs: Any) -> Tensor:
        given = {name: values for name, values in kwargs.items() if values is not None}
        if y is None or any(len(values) != len(y_pred) for values in (y, *given.values())):
            raise ValueError(
                f"{type(self).__name__}: {len(y_pred)} predictions need as many of {', '.join(['y', *given])}."
            )
        scores = [
            self._compute_tensor(p.detach()[None], t.detach()[None], **{name: v[i][None] for name, v in given.items()})
            for i, (p, t) in enumerate(zip(y_pred, y, strict=True))
        ]
        return torch.cat(scores)

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: Any) -> Tensor:
        if y is None:
            raise ValueError(f"{type(self).__name__} compares with a target: y is None.")
        prediction, target = y_pred.as_subclass(Tensor), y.as_subclass(Tensor).to(y_pred.device)
        broken = checked_range("the target", target)
        with torch.no_grad(), torch.autocast(prediction.device.type, enabled=False):
            scores = self._scores(prediction, target, **kwargs)
        names = tuple(scores)
        if self.names not in (None, names):
            raise ValueError(f"scores {names} after images with {self.names}: score images of different kinds apart.")
        self.names = names
        table = torch.stack([as_wide(score) for score in scores.values()], dim=1)  # (B, scores)
        return table.masked_fill(broken[:, None], torch.nan)

    def per_image(self) -> dict[str, Tensor]:
        """Scores by name, each (N,), of the N images seen since `reset`, over all ranks.

        Raises:
            ValueError: no image has been seen.
        """
        scores = self.get_buffer()
        if not isinstance(scores, Tensor) or scores.numel() == 0 or self.names is None:
            raise ValueError(f"{type(self).__name__}: no image has been scored, the data set is empty.")
        return dict(zip(self.names, scores.unbind(1), strict=True))

    def _for_mean(self, name: str, scores: Tensor) -> Tensor:
        """The scores (N,) as they enter the mean."""
        return scores

    def aggregate(self) -> dict[str, float]:
        """Means over images by name; NaN where an image has none."""
        scores = self.per_image()
        means = torch.stack([self._for_mean(name, values).mean() for name, values in scores.items()]).tolist()
        return dict(zip(scores, means, strict=True))
