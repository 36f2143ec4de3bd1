"""Scores of a stochastic network on test tiles: of its mean, its samples and its uncertainty."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Events
from torch import Tensor

from monai_ext.engines.uncertainty import KINDS
from monai_ext.formulas.images import PSNR_CEILING
from monai_ext.handlers.engine import Engine
from monai_ext.handlers.pictures.triplets import TripletRow, as_picture, enlarged_pixels, save_triplets
from monai_ext.handlers.super_resolution.bayesian_pictures import BRIGHTEST, deviation_map
from monai_ext.handlers.super_resolution.scores import places_of
from monai_ext.metrics.conformal import Calibration, read_calibration
from monai_ext.metrics.sample_sets import SampleSetScores
from monai_ext.metrics.super_resolution import SuperResolutionScores
from monai_ext.metrics.uncertainty import UncertaintyScores
from monai_ext.runtime.ranks import is_main_process
from monai_ext.storage.files import write_text

__all__ = ["SampleTable"]

MEAN_SCORES = ("psnr", "ssim", "perceptual", "lr_psnr")
SAMPLE_SCORES = ("psnr", "perceptual", "lr_psnr")

_logger = logging.getLogger(__name__)


class SampleTable:
    """Writes what an `UncertaintyEvaluator` found on test tiles; one process. Files in `folder`, when the epoch ends:

    * `tiles.csv`: a row for each tile: scores of the mean (`mean_psnr` ...), of the first sample (`sample_psnr` ...),
      of the set of samples (`SampleSetScores`; `lr_gap`, the largest difference of a reduced sample, rounded to
      `levels`, to the input), of the total variance (`UncertaintyScores`), and root mean variances of each kind;
    * `summary.json`: means, medians and standard deviations of all of them, and what was drawn;
    * `samples.png`: some tiles as low resolution | mean | two samples | each kind of uncertainty | original.

    With a `calibration`, `calibrated_coverage` and `calibrated_width` tell of its intervals.

    Args:
        folder: where to write.
        scores: keyword arguments of `SuperResolutionScores`.
        method: name of what is scored.
        items: tiles with their id and place; None: every tile is a place of its own.
        family: of the nominal intervals, "laplace" or "gaussian".
        calibration: or the file that `read_calibration` reads.
        shown: number of tiles in the figure, at equal steps through the data set.
        bands: channels shown as red, green and blue.
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
        shown: int = 4,
        bands: Sequence[int] = (0, 1, 2),
    ):
        self.folder, self.method, self.places = Path(folder), method, places_of(items)
        self.calibration = read_calibration(calibration) if isinstance(calibration, (str, Path)) else calibration
        self.shown, self.bands = shown, tuple(bands)
        self.mean, self.sample = SuperResolutionScores(**scores), SuperResolutionScores(**scores)
        self.degradation, self.levels = scores.get("degradation"), scores.get("levels", 255)
        self.sets = SampleSetScores(degradation=self.degradation, levels=self.levels)
        self.total = UncertaintyScores(family=family)
        self._reset_rows()

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self._reset)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def _reset_rows(self) -> None:
        self.ids: list[str] = []
        self.pictures: list[TripletRow] = []
        self._further: list[dict[str, Tensor]] = []

    def _reset(self, engine: Engine) -> None:
        self._reset_rows()
        for metric in (self.mean, self.sample, self.sets, self.total):
            metric.reset()
        every = engine.data_loader.dataset.ids
        steps = np.linspace(0, len(every) - 1, min(self.shown, len(every)))
        self._wanted = {every[step] for step in steps.round().astype(int)}

    @torch.no_grad()
    def _collect(self, engine: Engine) -> None:
        low_res, label, answers = (engine.state.output[key] for key in ("image", "label", "pred"))
        mean, samples = answers["mean"], answers["samples"]
        self.mean(mean, label, low_res=low_res)
        self.sample(samples[:, 0], label, low_res=low_res)
        self.sets(samples, label, low_res=low_res)
        self.total(mean, label, variance=answers["total"])
        self._further.append(self._more(answers, label, low_res))
        names = engine.state.batch["id"]
        self.ids += names
        for i, name in enumerate(names):
            if name in self._wanted:
                self.pictures.append(self._row(name, low_res[i], {k: v[i] for k, v in answers.items()}, label[i]))

    def _more(self, answers: Mapping[str, Tensor], label: Tensor, low_res: Tensor) -> dict[str, Tensor]:
        more = {f"{kind}_sd": answers[kind].clamp(min=0).flatten(1).mean(1).sqrt() for kind in KINDS}
        if self.degradation is not None:
            rounded = (answers["samples"].double() * self.levels).round() / self.levels
            gaps = [(self.degradation.reduce(each) - low_res).abs().flatten(1).amax(1) for each in rounded.unbind(1)]
            more["lr_gap"] = torch.stack(gaps).amax(0)
        if self.calibration is not None:
            lower, upper = self.calibration.apply(answers["mean"], answers["total"])
            inside = (lower <= label) & (label <= upper)
            more["calibrated_coverage"] = inside.float().flatten(1).mean(1)
            more["calibrated_width"] = (upper - lower).flatten(1).mean(1)
        return more

    def _row(self, name: str, low_res: Tensor, answers: Mapping[str, Tensor], label: Tensor) -> TripletRow:
        images = {"mean": answers["mean"], "a sample": answers["samples"][0], "another": answers["samples"][-1]}
        pictures = {title: as_picture(image, self.bands) for title, image in images.items()}
        maps = {kind: deviation_map(answers[kind].clamp(min=0).sqrt()) for kind in KINDS[1:]}
        original = as_picture(label, self.bands)
        low = enlarged_pixels(as_picture(low_res, self.bands), len(original))
        captions = {kind: f"sd, black 0 to white {BRIGHTEST:g}" for kind in maps}
        return TripletRow(name, {"low resolution": low, **pictures, **maps, "original": original}, captions)

    def _columns(self) -> dict[str, np.ndarray]:
        means, samples = self.mean.per_image(), self.sample.per_image()
        columns = {f"mean_{name}": means[name] for name in MEAN_SCORES if name in means}
        columns |= {f"sample_{name}": samples[name] for name in SAMPLE_SCORES if name in samples}
        columns |= self.sets.per_image() | self.total.per_image()
        columns |= {name: torch.cat([row[name] for row in self._further]) for name in self._further[0]}
        return {name: values.double().cpu().numpy() for name, values in columns.items()}

    def _write(self, engine: Engine) -> None:
        if not is_main_process():
            return
        columns = self._columns()
        write_text(self.folder / "tiles.csv", self._tiles(columns))
        draws = {name: getattr(engine.inferer, name, None) for name in ("weight_samples", "latent_samples", "samples")}
        places = {self.places.get(name, name) for name in self.ids}
        scores = {name: _summary(name, values) for name, values in columns.items()}
        numbers = {"tiles": len(self.ids), "places": len(places), "draws": draws}
        document = {"method": self.method, **numbers, "scores": scores}
        write_text(self.folder / "summary.json", json.dumps(document, indent=1) + "\n")
        save_triplets(self.pictures, self.folder / "samples.png")
        shown = {name: scores[name]["mean"] for name in ("mean_psnr", "sample_psnr", "lr_psnr_worst")}
        _logger.info(
            f"{len(self.ids)} tiles: PSNR {shown['mean_psnr']:.2f} dB of the mean, {shown['sample_psnr']:.2f} dB of a "
            f"sample, LR-PSNR at least {shown['lr_psnr_worst']:.1f} dB in the mean; tables and figure in "
            f"'{self.folder}'"
        )

    def _tiles(self, columns: Mapping[str, np.ndarray]) -> str:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["id", "place", "method", *columns])
        for i in sorted(range(len(self.ids)), key=lambda i: self.ids[i]):
            numbers = (f"{values[i]:.6g}" for values in columns.values())
            writer.writerow([self.ids[i], self.places.get(self.ids[i], self.ids[i]), self.method, *numbers])
        return text.getvalue()


def _summary(name: str, values: np.ndarray) -> dict[str, float]:
    values = values.clip(max=PSNR_CEILING) if "psnr" in name else values
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    extremes = {"lowest": float(values.min()), "highest": float(values.max())}
    return {"mean": float(values.mean()), "median": float(np.median(values)), "sd": spread} | extremes
