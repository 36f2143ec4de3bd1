"""What metrics with several named scores per image have in common."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from monai.metrics import CumulativeIterationMetric
from torch import Tensor

__all__ = ["ImageScores", "as_wide"]


def as_wide(image: Tensor) -> Tensor:
    """A plain tensor of float64, or of float32 where the device has none: sums over images are long."""
    return image.as_subclass(Tensor).to(torch.float32 if image.device.type == "mps" else torch.float64)


class ImageScores(CumulativeIterationMetric):
    """Named scores of each image, kept on the device until they are read; a subclass says which, in `_scores`.

    Called as metric(y_pred, y, ...) on whole batches. The scores of all batches must bear the same names.
    """

    def reset(self) -> None:
        super().reset()
        self.names: tuple[str, ...] | None = None

    @abstractmethod
    def _scores(self, y_pred: Tensor, y: Tensor, **kwargs: Any) -> dict[str, Tensor]:
        """Scores by name, (B,) each, of a batch; called without gradients and without autocast."""

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: Any) -> Tensor:
        if y is None:
            raise ValueError(f"{type(self).__name__} compares with a target: y is None.")
        with torch.no_grad(), torch.autocast(y_pred.device.type, enabled=False):
            scores = self._scores(y_pred.as_subclass(Tensor), y.as_subclass(Tensor).to(y_pred.device), **kwargs)
        names = tuple(scores)
        if self.names not in (None, names):
            raise ValueError(f"scores {names} after images with {self.names}: score images of different kinds apart.")
        self.names = names
        return torch.stack([as_wide(score) for score in scores.values()], dim=1)  # (B, scores)

    def per_image(self) -> dict[str, Tensor]:
        """Scores by name, each (N,), of the N images seen since `reset`, over all ranks.

        Raises:
            ValueError: no image has been seen.
        """
        scores = self.get_buffer()
        if not isinstance(scores, Tensor) or scores.numel() == 0 or self.names is None:
            raise ValueError(f"{type(self).__name__}: no image has been scored, the data set is empty.")
        return dict(zip(self.names, scores.unbind(1), strict=True))

    def aggregate(self) -> dict[str, float]:  # type: ignore[override]
        """Means over images by name; NaN where an image has none."""
        scores = self.per_image()
        means = torch.stack([values.mean() for values in scores.values()]).tolist()
        return dict(zip(scores, means, strict=True))
