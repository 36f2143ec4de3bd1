"""Scores of a stochastic network on records with several known targets."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from monai_ext.handlers.engine import Engine
from monai_ext.handlers.super_resolution.bayesian_table import SampleTable
from monai_ext.metrics.sample_sets import SampleSetScores, sample_distance

__all__ = ["ManyHighResTable"]


class ManyHighResTable(SampleTable):
    """`SampleTable` for batches with "targets" (B, K, C, H, W), the first of which is the label.

    The columns of `SampleTable` compare with that one alone. To them come those of `SampleSetScores` with all K, under
    the prefix `set_`: distance of each target to the sample nearest to it (`set_best_psnr`), energy score and distance,
    precision and recall of the set; and `target_distance`, the mean distance of two targets, which the samples' own,
    `set_sample_distance`, should reach.

    Args:
        args, kwargs: as for `SampleTable`.

    Raises (in a run):
        KeyError: batches without "targets".
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.known = SampleSetScores(levels=self.levels)

    def reset(self, engine: Engine) -> None:
        super().reset(engine)
        self.known.reset()
        self._distances: list[torch.Tensor] = []

    @torch.no_grad()
    def collect(self, engine: Engine) -> None:
        super().collect(engine)
        targets = engine.state.batch["targets"].to(engine.state.output["label"].device)
        self.known(engine.state.output["pred"]["samples"], targets)
        self._distances.append(torch.cat([sample_distance(record) for record in targets.split(1)]))

    def _columns(self) -> dict[str, np.ndarray]:
        more = {f"set_{name}": values for name, values in self.known.per_image().items()}
        more["target_distance"] = torch.cat(self._distances)
        return super()._columns() | {name: values.double().cpu().numpy() for name, values in more.items()}
