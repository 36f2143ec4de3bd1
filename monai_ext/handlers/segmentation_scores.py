"""Segmentation scores as an Ignite metric, and as a table of cases."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.handlers import from_engine

from monai_ext.handlers.engine import Engine
from monai_ext.handlers.epochs import EpochHandler
from monai_ext.handlers.multi_metric import MultiMetricHandler
from monai_ext.metrics import (
    BOUNDARY_SCORES,
    SEGMENTATION_SCORES,
    SegmentationScores,
    boundary_scores,
    segmentation_scores,
)
from monai_ext.metrics.segmentation import thresholded_counts
from monai_ext.storage.files import write_table

__all__ = ["CaseTable", "MeanSegmentationScores"]


class MeanSegmentationScores(MultiMetricHandler):
    """Mean over images of every score of `SEGMENTATION_SCORES`, from one count per batch on the device.

    The value of the metric is the score `key`, the others stand beside it, see `MultiMetricHandler`.

    Args:
        key: the score that is the metric's value.
        threshold: see `SegmentationScores`.
        output_transform: the engine's output -> (prediction, label).
        structures: names of the channels, where masks have several: each score is also given for each of them, such as
            `dice_disc`, and plain names are the mean over the structures.

    Raises:
        ValueError: `key` is not a known score.
    """

    def __init__(
        self,
        key: str = "dice",
        *,
        threshold: float,
        output_transform: Callable | None = None,
        structures: Sequence[str] | None = None,
    ):
        if key not in SEGMENTATION_SCORES:
            raise ValueError(f"key={key!r} is not a segmentation score: choose one of {SEGMENTATION_SCORES}.")
        transform = output_transform or from_engine(["pred", "label"])
        self.scores = SegmentationScores(threshold)
        super().__init__(self.scores, key, output_transform=transform)
        self.structures = list(structures or ())

    def means(self) -> dict[str, float]:
        means = super().means()
        if self.structures:
            for name, values in self.scores.per_image().items():
                means |= _of_structures(name, values.nanmean(0).tolist(), self.structures)
        return means


class CaseTable(EpochHandler):
    """Writes one row of scores per image to a CSV file when the engine's epoch ends, at once or not at all.

    For evaluators that decollate: each item's prediction must have its label's size, so that scores refer to the
    pixels of the original mask. Columns: `columns`, then `SEGMENTATION_SCORES` and `BOUNDARY_SCORES`, distances in
    pixels unless a spacing is given. A prediction with NaN ends the evaluation, see `refuse_non_finite_predictions`.

    Args:
        path: the CSV file.
        columns: keys of the batch items to write first, the identity of the case before all.
        groups: identity -> group, written as the column `group`; cases of one group (near duplicates, one patient) are
            not independent, and statistics must take them together.
        threshold: foreground is `prediction > threshold`: 0.5 for probabilities.
        tolerance: of the surface Dice; None leaves out the scores of boundaries.
        spacing: see `boundary_scores`.
        structures: see `MeanSegmentationScores`.
    """

    only_finite = True

    def __init__(
        self,
        path: str | Path,
        *,
        columns: Sequence[str] = ("id",),
        groups: Mapping[str, str] | None = None,
        threshold: float = 0.5,
        tolerance: float | None = 2.0,
        spacing: Sequence[float] | None = None,
        structures: Sequence[str] | None = None,
    ):
        self.structures = list(structures or ())
        self.tolerance, self.spacing = tolerance, spacing
        self.path, self.columns, self.groups, self.threshold = Path(path), tuple(columns), groups, threshold
        self.rows: list[dict[str, Any]] = []

    def reset(self, engine: Engine) -> None:
        self.rows.clear()

    def collect(self, engine: Engine) -> None:
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            prediction, label = output["pred"][None], output["label"][None]
            counts = thresholded_counts(prediction, label.to(prediction.device), threshold=self.threshold)
            scores = segmentation_scores(counts)
            if self.tolerance is not None:
                masks = prediction > self.threshold, label.to(prediction.device) > 0.5
                scores |= boundary_scores(*masks, spacing=self.spacing, tolerance=self.tolerance)
            row = {name: item[name] for name in self.columns}
            if self.groups is not None:
                row["group"] = self.groups[row[self.columns[0]]]
            row |= {name: value.mean().item() for name, value in scores.items()}
            for name, value in scores.items() if self.structures else ():
                row |= _of_structures(name, value[0].tolist(), self.structures)
            self.rows.append(row)

    def finish(self, engine: Engine) -> None:
        grouped = [] if self.groups is None else ["group"]
        rows = sorted(self.rows, key=lambda row: str(row[self.columns[0]]))
        names = SEGMENTATION_SCORES if self.tolerance is None else (*SEGMENTATION_SCORES, *BOUNDARY_SCORES)
        scores = [f"{score}{end}" for end in ["", *(f"_{name}" for name in self.structures)] for score in names]
        write_table(self.path, rows, [*self.columns, *grouped, *scores], digits=".6f")


def _of_structures(score: str, values: Sequence[float], structures: Sequence[str]) -> dict[str, float]:
    return {f"{score}_{name}": value for name, value in zip(structures, values, strict=True)}
