"""Metrics that give several scores at once, of which one is the engine's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from monai.handlers import IgniteMetricHandler

__all__ = ["MultiMetricHandler"]


class MultiMetricHandler(IgniteMetricHandler):
    """Several scores of one metric: the score `key` is its value, so that it can be the engine's key metric.

    The others go into `engine.state.metrics` under the metric's name with its end replaced: `val_mean_jaccard` beside
    `val_mean_dice`.

    Args:
        metric_fn: its `aggregate` gives the means by name.
        key: the score that is the metric's value.
        output_transform: the engine's output -> arguments of `metric_fn`.
    """

    def __init__(self, metric_fn: Any, key: str, *, output_transform: Callable):
        super().__init__(metric_fn=metric_fn, output_transform=output_transform, save_details=False)
        self.key = key

    def means(self) -> dict[str, float]:
        """Every score by name.

        Raises:
            ValueError: `key` is none of them.
        """
        return self.metric_fn.aggregate()

    def compute(self) -> float:
        means = self.means()
        if self._engine is not None and self._name is not None:
            prefix = self._name.removesuffix(self.key)
            self._engine.state.metrics |= {f"{prefix}{name}": v for name, v in means.items() if name != self.key}
        return means[self.key]
