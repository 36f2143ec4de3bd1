"""Scores of a stochastic network on test tiles: of its mean, its samples and its uncertainty."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from monai_ext.engines.uncertainty import KINDS
from monai_ext.formulas.images import rounded
from monai_ext.handlers.engine import Engine
from monai_ext.handlers.pictures.drawing import Picture
from monai_ext.handlers.pictures.triplets import save_triplets
from monai_ext.handlers.super_resolution.bayesian_pictures import BRIGHTEST, deviation_map
from monai_ext.handlers.super_resolution.scores import TileTable
from monai_ext.handlers.training.weight_digests import calibration_of_weights
from monai_ext.metrics.conformal import Calibration
from monai_ext.metrics.sample_sets import SampleSetScores
from monai_ext.metrics.super_resolution import SuperResolutionScores
from monai_ext.metrics.uncertainty import UncertaintyScores
from monai_ext.runtime.ranks import is_main_process

__all__ = ["SampleTable"]

MEAN_SCORES = ("psnr", "ssim", "perceptual", "lr_psnr")
SAMPLE_SCORES = ("psnr", "perceptual", "lr_psnr")

_logger = logging.getLogger(__name__)


class SampleTable(TileTable):
    """Writes what an `UncertaintyEvaluator` found on test tiles; one process. Files in `folder`, when the epoch ends:

    * `tiles.csv`: a row for each tile: scores of the mean (`mean_psnr` ...), of the first sample (`sample_psnr` ...),
      of the set of samples (`SampleSetScores`; `lr_gap`, the largest difference of a reduced sample, rounded to
      `levels`, to the input), of the total variance (`UncertaintyScores`), and root mean variances of each kind;
    * `summary.json`: means, medians and standard deviations of all of them, and what was drawn;
    * `samples.png`: some tiles as low resolution | mean | two samples | each kind of uncertainty | original.

    With a `calibration`, `calibrated_coverage` and `calibrated_width` describe its intervals.

    Args:
        folder, items, shown, bands: see `TileTable`.
        scores: keyword arguments of `SuperResolutionScores`.
        method: name of what is scored.
        family: of the nominal intervals, "laplace" or "gaussian".
        calibration: or its file, which must have been made with the weights `checkpoints`.
        checkpoints: the weights that are scored.
    """

    def __init__(
        self,
        folder: str | Path,
        scores: Mapping[str, Any],
        *,
        method: str = "bayesian",
        items: Sequence[Mapping[str, Any]] | None = None,
        family: str = "laplace",
        calibration: Calibration | str | Path | None = None,
        checkpoints: Sequence[str | Path] = (),
        shown: int = 4,
        bands: Sequence[int] = (0, 1, 2),
    ):
        super().__init__(folder, items=items, shown=shown, bands=bands)
        self.method = method
        if isinstance(calibration, (str, Path)):
            calibration = calibration_of_weights(calibration, checkpoints)
        self.calibration = calibration
        self.mean, self.sample = SuperResolutionScores(**scores), SuperResolutionScores(**scores)
        self.degradation, self.levels = scores.get("degradation"), scores.get("levels", 255)
        self.sets = SampleSetScores(degradation=self.degradation, levels=self.levels)
        self.total = UncertaintyScores(family=family)

    def reset(self, engine: Engine) -> None:
        super().reset(engine)
        self._further: list[dict[str, Tensor]] = []
        for metric in (self.mean, self.sample, self.sets, self.total):
            metric.reset()

    @torch.no_grad()
    def collect(self, engine: Engine) -> None:
        low_res, label, predicted = (engine.state.output[key] for key in ("image", "label", "pred"))
        mean, samples = predicted["mean"], predicted["samples"]
        given = {"low_res": low_res, "levels": engine.state.output.get("levels")}
        self.mean(mean, label, **given)
        self.sample(samples[:, 0], label, **given)
        self.sets(samples, label, **given)
        self.total(mean, label, variance=predicted["total"])
        self._further.append(self._more(predicted, label, **given))
        images = {"mean": mean, "a sample": samples[:, 0], "another": samples[:, -1]}
        self.collect_tiles(engine, images, {kind: predicted[kind] for kind in KINDS[1:]})

    def _more(
        self, predicted: Mapping[str, Tensor], label: Tensor, low_res: Tensor, levels: Tensor | None
    ) -> dict[str, Tensor]:
        more = {f"{kind}_sd": predicted[kind].clamp(min=0).flatten(1).mean(1).sqrt() for kind in KINDS}
        if self.degradation is not None:
            files = rounded(predicted["samples"], self.levels, own=levels)
            gaps = [(self.degradation.reduce(each) - low_res).abs().flatten(1).amax(1) for each in files.unbind(1)]
            more["lr_gap"] = torch.stack(gaps).amax(0)
        if self.calibration is not None:
            lower, upper = self.calibration.apply(predicted["mean"], predicted["total"])
            inside = (lower <= label) & (label <= upper)
            more["calibrated_coverage"] = inside.float().flatten(1).mean(1)
            more["calibrated_width"] = (upper - lower).flatten(1).mean(1)
        return more

    def map_picture(self, values: Tensor) -> Picture:
        return deviation_map(values.clamp(min=0).sqrt())

    def _columns(self) -> dict[str, np.ndarray]:
        means, samples = self.mean.per_image(), self.sample.per_image()
        columns = {f"mean_{name}": means[name] for name in MEAN_SCORES if name in means}
        columns |= {f"sample_{name}": samples[name] for name in SAMPLE_SCORES if name in samples}
        columns |= self.sets.per_image() | self.total.per_image()
        columns |= {name: torch.cat([row[name] for row in self._further]) for name in self._further[0]}
        return {name: values.double().cpu().numpy() for name, values in columns.items()}

    def finish(self, engine: Engine) -> None:
        if not is_main_process():
            return
        columns = self._columns()
        draws = {name: getattr(engine.inferer, name, None) for name in ("weight_samples", "latent_samples", "samples")}
        scores = self.statistics(columns)
        self.write({self.method: columns}, {"method": self.method, "draws": draws, "scores": scores}, digits=".6g")
        captions = {kind: f"sd, black 0 to white {BRIGHTEST:g}" for kind in KINDS[1:]}
        save_triplets([replace(row, captions=captions) for row in self.rows], self.folder / "samples.png")
        shown = {"mean_psnr": "PSNR of the mean", "sample_psnr": "PSNR of a sample", "lr_psnr_worst": "lowest LR-PSNR"}
        means = [f"{title} {scores[key]['mean']:.2f} dB" for key, title in shown.items() if key in scores]
        _logger.info(f"{len(self.ids)} tiles: {', '.join(means)}; tables and figure in '{self.folder}'")
