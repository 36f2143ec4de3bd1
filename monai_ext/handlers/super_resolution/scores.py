"""Super-resolution scores during training, and a table of test tiles beside plain interpolation."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Events
from ignite.metrics.metric import reinit__is_reduced
from monai.handlers import from_engine
from torch import Tensor, nn

from monai_ext.engines.precision import autocast
from monai_ext.formulas.images import PSNR_CEILING
from monai_ext.handlers.engine import Engine
from monai_ext.handlers.multi_metric import MultiMetricHandler
from monai_ext.handlers.pictures.triplets import TripletRow, as_picture, enlarged_pixels, save_triplets
from monai_ext.metrics.super_resolution import SUPER_RESOLUTION_SCORES, SuperResolutionScores
from monai_ext.storage.files import atomic_path, write_text
from monai_ext.transforms.interpolation import INTERPOLATIONS, interpolate

__all__ = ["MeanSuperResolutionScores", "SuperResolutionTable", "places_of"]

LOW_IS_GOOD = ("perceptual",)
Values = Mapping[str, Mapping[str, np.ndarray]]  # method -> score -> (N,)

_logger = logging.getLogger(__name__)


class MeanSuperResolutionScores(MultiMetricHandler):
    """Means over images of `SuperResolutionScores`, from whole batches, of prediction, label and low-resolution image.

    The value of the metric is the score `key`, the others stand beside it, see `MultiMetricHandler`.

    Args:
        key: the score that is the metric's value, one of `SUPER_RESOLUTION_SCORES`.
        kwargs: as for `SuperResolutionScores`: scale, degradation, perceptual, levels.

    Raises:
        ValueError: `key` is not a known score.
    """

    def __init__(self, key: str = "psnr", **kwargs: Any):
        if key not in SUPER_RESOLUTION_SCORES:
            raise ValueError(f"key={key!r} is not a score: choose one of {SUPER_RESOLUTION_SCORES}.")
        transform = from_engine(["pred", "label", "image"])
        super().__init__(SuperResolutionScores(**kwargs), key, output_transform=transform)

    @reinit__is_reduced
    def update(self, output: Sequence[Tensor]) -> None:
        prediction, label, low_res = output
        self.metric_fn(prediction, label, low_res=low_res)


class SuperResolutionTable:
    """The network beside nearest, bicubic and Lanczos interpolation on the same tiles; for an evaluator, one process.

    Further networks, such as the same one after another stage of its training, have rows of their own: `others`.

    Files in `folder`, when the epoch ends, each at once or not at all:

    * `tiles.csv`: a row for each tile and method: id, place, method, then the scores;
    * `summary.json`: means, medians and standard deviations of each method, and the network's mean gain over bicubic in
      each score with the share of tiles on which it is better;
    * `triplets.png`: some tiles as low resolution | bicubic | prediction | original.

    Args:
        folder: where to write.
        scores: of `SuperResolutionScores`: its keyword arguments.
        items: tiles with their id and place; None: every tile is a place of its own.
        shown: number of tiles in the figure, at equal steps through the data set.
        bands: channels shown as red, green and blue.
        name: of the network's rows.
        others: name -> further network on the evaluator's device, scored beside it through the same inferer.

    Raises:
        ValueError: two methods have one name.
    """

    def __init__(
        self,
        folder: str | Path,
        scores: Mapping[str, Any],
        *,
        items: Sequence[Mapping[str, Any]] | None = None,
        shown: int = 6,
        bands: Sequence[int] = (0, 1, 2),
        name: str = "network",
        others: Mapping[str, nn.Module] | None = None,
    ):
        self.folder = Path(folder)
        self.places, self.shown, self.bands, self.name = places_of(items), shown, tuple(bands), name
        self.others = others or {}
        methods = (*INTERPOLATIONS, *self.others, name)
        if len(set(methods)) < len(methods):
            raise ValueError(f"methods {', '.join(methods)}: each needs a name of its own.")
        self.metrics = {method: SuperResolutionScores(**scores) for method in methods}
        self.scale = self.metrics[name].scale
        self.ids: list[str] = []
        self.rows: list[TripletRow] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self._reset)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def _reset(self, engine: Engine) -> None:
        self.ids, self.rows = [], []
        for metric in self.metrics.values():
            metric.reset()
        every = engine.data_loader.dataset.ids
        places = np.linspace(0, len(every) - 1, min(self.shown, len(every))).round().astype(int)
        self._wanted = {every[place] for place in places}

    def _collect(self, engine: Engine) -> None:
        low_res, label, prediction = (engine.state.output[key] for key in ("image", "label", "pred"))
        versions = {method: interpolate(low_res, self.scale, method=method) for method in INTERPOLATIONS}
        versions |= {name: self._predict(engine, network, low_res) for name, network in self.others.items()}
        versions[self.name] = prediction
        for method, images in versions.items():
            self.metrics[method](images, label, low_res=low_res)
        names = engine.state.batch["id"]
        self.ids += names
        for i, name in enumerate(names):
            if name in self._wanted:
                shown = {"bicubic": versions["bicubic"][i], "prediction": prediction[i], "original": label[i]}
                self._keep(name, low_res[i], shown)

    @staticmethod
    @torch.no_grad()
    def _predict(engine: Engine, network: nn.Module, low_res: Tensor) -> Tensor:
        with autocast(low_res.device, getattr(engine, "dtype", None)):
            return engine.inferer(low_res, network).float()

    def _keep(self, name: str, low_res: Tensor, images: Mapping[str, Tensor]) -> None:
        pictures = {title: as_picture(image, self.bands) for title, image in images.items()}
        low = enlarged_pixels(as_picture(low_res, self.bands), len(pictures["original"]))
        self.rows.append(TripletRow(name, {"low resolution": low, **pictures}, {}))

    def _write(self, engine: Engine) -> None:
        scores = {method: metric.per_image() for method, metric in self.metrics.items()}
        values = {method: {key: v.cpu().numpy() for key, v in part.items()} for method, part in scores.items()}
        self._write_tiles(values)
        write_text(self.folder / "summary.json", json.dumps(self._summary(values), indent=1) + "\n")
        save_triplets([self._captioned(row, values) for row in self.rows], self.folder / "triplets.png")
        gain = np.mean(values[self.name]["psnr"] - values["bicubic"]["psnr"])
        _logger.info(f"{len(self.ids)} tiles: {gain:+.2f} dB PSNR over bicubic; tables and figure in '{self.folder}'")

    def _write_tiles(self, values: Values) -> None:
        columns = list(values[self.name])
        with (
            atomic_path(self.folder / "tiles.csv") as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.writer(file)
            writer.writerow(["id", "place", "method", *columns])
            for i in sorted(range(len(self.ids)), key=lambda i: self.ids[i]):
                for method, part in values.items():
                    numbers = (f"{part[key][i]:.6f}" for key in columns)
                    writer.writerow([self.ids[i], self.places.get(self.ids[i], self.ids[i]), method, *numbers])

    def _captioned(self, row: TripletRow, values: Values) -> TripletRow:
        i = self.ids.index(row.title)
        captions = {
            title: f"{values[method]['psnr'][i]:.2f} dB, SSIM {values[method]['ssim'][i]:.3f}"
            for title, method in (("bicubic", "bicubic"), ("prediction", self.name))
        }
        return replace(row, captions=captions)

    def _summary(self, values: Values) -> dict[str, Any]:
        # a PSNR counts as at most 100 dB, as in the metric: one tile without error would make means infinite
        capped = {
            method: {key: v.clip(max=PSNR_CEILING) if "psnr" in key else v for key, v in part.items()}
            for method, part in values.items()
        }
        gains = {}
        for key, own in capped[self.name].items():
            difference = own - capped["bicubic"][key]
            better = difference < 0 if key in LOW_IS_GOOD else difference > 0
            gains[key] = {"mean": float(difference.mean()), "better": float(better.mean())}
        return {
            "tiles": len(self.ids),
            "places": len({self.places.get(name, name) for name in self.ids}),
            "scores": {method: {key: _statistics(v) for key, v in part.items()} for method, part in capped.items()},
            "gain_over_bicubic": gains,
        }


def places_of(items: Iterable[Mapping[str, Any]] | None) -> dict[str, str]:
    """Id -> place of the tiles that have one."""
    return {item["id"]: item["place"] for item in items or () if item.get("place")}


def _statistics(values: np.ndarray) -> dict[str, float]:
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return {"mean": float(values.mean()), "median": float(np.median(values)), "sd": spread}
