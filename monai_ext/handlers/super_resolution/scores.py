"""Super-resolution scores during training, and tables of test tiles: plain interpolation beside the network."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.metrics.metric import reinit__is_reduced
from torch import Tensor, nn

from monai_ext.engines.precision import autocast
from monai_ext.formulas.bootstrap import bootstrap_interval
from monai_ext.formulas.images import PSNR_CEILING
from monai_ext.handlers.engine import Engine
from monai_ext.handlers.epochs import EpochHandler
from monai_ext.handlers.multi_metric import MultiMetricHandler
from monai_ext.handlers.pictures.drawing import Picture, as_picture, upscaled_pixels
from monai_ext.handlers.pictures.triplets import TripletRow, save_triplets
from monai_ext.metrics.super_resolution import SUPER_RESOLUTION_SCORES, SuperResolutionScores
from monai_ext.storage.files import write_table
from monai_ext.storage.records import write_record
from monai_ext.transforms.interpolation import INTERPOLATIONS, interpolate

__all__ = ["MeanSuperResolutionScores", "SuperResolutionTable", "TileTable", "gain_by_place", "places_of"]

LOW_IS_GOOD = ("perceptual",)
Columns = Mapping[str, np.ndarray]  # score -> (N,)

_logger = logging.getLogger(__name__)


class MeanSuperResolutionScores(MultiMetricHandler):
    """Means over images of `SuperResolutionScores`, from whole batches, of prediction, label and low-resolution image.

    Where batches have "known" (B, 1, H, W), the pixels that are not known do not count; where they have "levels", those
    of their files, these stand for the metric's.

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
        super().__init__(SuperResolutionScores(**kwargs), key, output_transform=_compared)

    @reinit__is_reduced
    def update(self, output: Sequence[Any]) -> None:
        prediction, label, low_res, known, levels = output
        self.metric_fn(prediction, label, low_res=low_res, known=known, levels=levels)


def _compared(output: Mapping[str, Tensor]) -> tuple[Tensor | None, ...]:
    return output["pred"], output["label"], output["image"], output.get("known"), output.get("levels")


class TileTable(EpochHandler):
    """Base of tables of test tiles; one process. A subclass calls `collect_tiles` and `write`.

    Args:
        folder: where to write.
        items: tiles with their id and place; None: every tile is a place of its own.
        shown: number of tiles in the figure, at equal steps through the data set.
        bands: channels shown as red, green and blue.
    """

    only_finite = True

    def __init__(
        self, folder: str | Path, *, items: Iterable[Mapping[str, Any]] | None, shown: int, bands: Sequence[int]
    ):
        self.folder, self.places, self.shown, self.bands = Path(folder), places_of(items), shown, tuple(bands)
        self.ids: list[str] = []
        self.rows: list[TripletRow] = []

    def reset(self, engine: Engine) -> None:
        self.ids, self.rows = [], []
        every = engine.data_loader.dataset.ids
        places = np.linspace(0, len(every) - 1, min(self.shown, len(every))).round().astype(int)
        self._wanted = {every[place] for place in places}

    def collect_tiles(self, engine: Engine, images: Mapping[str, Tensor], maps: Mapping[str, Tensor] | None = None):
        """Keep the batch's ids and, of the tiles to be shown, low resolution | images | maps | original.

        Args:
            images: title -> (B, C, H, W).
            maps: title -> (B, C, H, W), see `map_picture`.
        """
        names, low_res, label = engine.state.batch["id"], engine.state.output["image"], engine.state.output["label"]
        self.ids += names
        for i in (i for i, name in enumerate(names) if name in self._wanted):
            original = as_picture(label[i], self.bands)
            pictures = {"low resolution": upscaled_pixels(as_picture(low_res[i], self.bands), len(original))}
            pictures |= {title: as_picture(values[i], self.bands) for title, values in images.items()}
            pictures |= {title: self.map_picture(values[i]) for title, values in (maps or {}).items()}
            self.rows.append(TripletRow(names[i], {**pictures, "original": original}, {}))

    def map_picture(self, values: Tensor) -> Picture:
        """A map (C, H, W) as colours."""
        raise NotImplementedError

    def write(self, methods: Mapping[str, Columns], document: Mapping[str, Any], *, digits: str) -> None:
        """`tiles.csv`, with a row of `methods` for each tile and method, and `summary.json`."""
        rows = []
        for i in sorted(range(len(self.ids)), key=lambda i: self.ids[i]):
            name = self.ids[i]
            for method, part in methods.items():
                row = {"id": name, "place": self.places.get(name, name), "method": method}
                rows.append(row | {key: float(values[i]) for key, values in part.items()})
        write_table(self.folder / "tiles.csv", rows, digits=digits)
        places = {self.places.get(name, name) for name in self.ids}
        write_record(self.folder / "summary.json", {"tiles": len(self.ids), "places": len(places), **document})

    @staticmethod
    def statistics(columns: Columns) -> dict[str, dict[str, float]]:
        """Mean, median, standard deviation and extremes by score; a PSNR counts as at most 100 dB, as in the metric."""
        found = {}
        for name, values in _capped(columns).items():
            found[name] = {
                "mean": float(values.mean()),
                "median": float(np.median(values)),
                "sd": float(values.std(ddof=1)) if len(values) > 1 else 0.0,
                "lowest": float(values.min()),
                "highest": float(values.max()),
            }
        return found


class SuperResolutionTable(TileTable):
    """The network beside nearest, bicubic and Lanczos interpolation on the same tiles; for an evaluator, one process.

    Further networks, such as the same one after another stage of its training, have rows of their own: `others`.

    Files in `folder`, when the epoch ends, each at once or not at all:

    * `tiles.csv`: a row for each tile and method: id, place, method, then the scores;
    * `summary.json`: means, medians and standard deviations of each method; the network's gain over bicubic in each
      score, as the mean of tiles and as that of places, with 95 % intervals, the share of tiles on which it is better,
      and its mean by place;
    * `triplets.png`: some tiles as low resolution | bicubic | prediction | original.

    Args:
        folder, items, shown, bands: see `TileTable`.
        scores: of `SuperResolutionScores`: its keyword arguments.
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
        super().__init__(folder, items=items, shown=shown, bands=bands)
        self.name, self.others = name, others or {}
        methods = (*INTERPOLATIONS, *self.others, name)
        if len(set(methods)) < len(methods):
            raise ValueError(f"methods {', '.join(methods)}: each needs a name of its own.")
        self.metrics = {method: SuperResolutionScores(**scores) for method in methods}
        self.scale = self.metrics[name].scale

    def reset(self, engine: Engine) -> None:
        super().reset(engine)
        for metric in self.metrics.values():
            metric.reset()

    def collect(self, engine: Engine) -> None:
        low_res, label, prediction = (engine.state.output[key] for key in ("image", "label", "pred"))
        versions = {method: interpolate(low_res, self.scale, method=method) for method in INTERPOLATIONS}
        versions |= {name: self._predict(engine, network, low_res) for name, network in self.others.items()}
        versions[self.name] = prediction
        given = {key: engine.state.output.get(key) for key in ("known", "levels")}
        for method, images in versions.items():
            self.metrics[method](images, label, low_res=low_res, **given)
        self.collect_tiles(engine, {"bicubic": versions["bicubic"], "prediction": prediction})

    @staticmethod
    @torch.no_grad()
    def _predict(engine: Engine, network: nn.Module, low_res: Tensor) -> Tensor:
        with autocast(low_res.device, getattr(engine, "dtype", None)):
            return engine.inferer(low_res, network).float()

    def finish(self, engine: Engine) -> None:
        scores = {method: metric.per_image() for method, metric in self.metrics.items()}
        values = {method: {key: v.cpu().numpy() for key, v in part.items()} for method, part in scores.items()}
        document = {method: self.statistics(part) for method, part in values.items()}
        gains = self._gains(values)
        self.write(values, {"scores": document, "gain_over_bicubic": gains}, digits=".6f")
        save_triplets([self._captioned(row, values) for row in self.rows], self.folder / "triplets.png")
        found = gains["psnr"]
        _logger.info(
            f"{found['mean']:+.2f} dB PSNR over bicubic as the mean of {len(self.ids)} tiles, "
            f"{found['mean_of_places']:+.2f} dB as that of {len(found['places'])} places; tables and figure in "
            f"'{self.folder}'"
        )

    def _captioned(self, row: TripletRow, values: Mapping[str, Columns]) -> TripletRow:
        i = self.ids.index(row.title)
        captions = {
            title: f"{values[method]['psnr'][i]:.2f} dB, SSIM {values[method]['ssim'][i]:.3f}"
            for title, method in (("bicubic", "bicubic"), ("prediction", self.name))
        }
        return replace(row, captions=captions)

    def _gains(self, values: Mapping[str, Columns]) -> dict[str, dict[str, Any]]:
        bicubic, gains = _capped(values["bicubic"]), {}
        places = [self.places.get(name, name) for name in self.ids]
        for key, own in _capped(values[self.name]).items():
            difference = own - bicubic[key]
            better = difference < 0 if key in LOW_IS_GOOD else difference > 0
            gains[key] = {"better": float(better.mean()), **gain_by_place(difference, places)}
        return gains


def gain_by_place(differences: np.ndarray, places: Sequence[str]) -> dict[str, Any]:
    """Means of tiles and of places, their 95 % intervals by a bootstrap that draws whole places, and the places' means.

    >>> found = gain_by_place(np.array([1.0, 2.0, 6.0]), ["a", "a", "b"])
    >>> found["mean"], found["mean_of_places"], found["interval_of_places"]
    (3.0, 3.75, [1.5, 6.0])

    Args:
        differences: of each tile, (N,).
        places: of each tile.

    Returns:
        "mean", "interval", "mean_of_places", "interval_of_places", and "places": name -> "tiles" and "mean".
    """
    names = np.asarray(places)
    members = {place: differences[names == place] for place in sorted(set(places))}
    means = np.array([part.mean() for part in members.values()])
    of_tiles, of_places = bootstrap_interval(differences, groups=places), bootstrap_interval(means)
    return {
        "mean": float(differences.mean()),
        "interval": [float(end[0]) for end in of_tiles],
        "mean_of_places": float(means.mean()),
        "interval_of_places": [float(end[0]) for end in of_places],
        "places": {name: {"tiles": len(part), "mean": float(part.mean())} for name, part in members.items()},
    }


def places_of(items: Iterable[Mapping[str, Any]] | None) -> dict[str, str]:
    """Id -> place of the tiles that have one."""
    return {item["id"]: item["place"] for item in items or () if item.get("place")}


def _capped(columns: Columns) -> dict[str, np.ndarray]:
    # one tile without error would make means infinite
    return {name: values.clip(max=PSNR_CEILING) if "psnr" in name else values for name, values in columns.items()}
