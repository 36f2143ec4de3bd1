"""Scores of predictions for several raters: curves during training, a table of cases, a summary in JSON.

All come from `prediction_scores` of what `monai_ext.engines.RaterInferer` returns, so that curves and tables never
differ in a definition.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from ignite.engine import Events
from torch import Tensor

from monai_ext.handlers.engine import Engine
from monai_ext.handlers.finite import refuse_non_finite_predictions
from monai_ext.handlers.multi_metric import MultiMetricHandler
from monai_ext.handlers.training.run_settings import RunSettings
from monai_ext.metrics import (
    BOUNDARY_SCORES,
    RaterScore,
    boundary_scores,
    calibration_scores,
    centreline_dice,
    consensus_mask,
    dice_per_rater,
    dice_soft,
    joint_structures,
    leave_one_out_dice,
    pairwise_boundary_scores,
    pairwise_dice,
    qubiq_score,
    set_scores,
    uncertainty_ncc,
)
from monai_ext.runtime.settings import as_bool
from monai_ext.storage.files import write_table
from monai_ext.storage.records import write_record

__all__ = ["MeanRaterScores", "RaterReport", "prediction_scores", "own_head_gain", "rater_column"]

CONVENTIONS = {
    "mean": "over cases that have a value; sd with n - 1",
    "empty masks": "Dice and IoU of two empty masks are 1",
    "missing raters": "enter no vote, no mean and no count",
    "qubiq_score": "levels 0.1 ... 0.9, p >= level, raters counted in integers (10 c >= i K)",
    "dice": "hard Dice at p > 0.5 with each rater present, then their mean; of the rater's own head where the "
    "method has heads, else of its one map",
    "dice_consensus": "p >= 0.5 and the majority vote (half suffices)",
    "sets": "samples at p > 0.5, d = 1 - IoU of the foreground, V-statistic (self pairs in)",
    "calibration": "15 equal bins over all pixels; plain names against each rater, _consensus against c / K",
    "own_head_gain": "Dice of each rater with the own head less the mean Dice with the other heads, mean over raters",
    "boundaries": "hd95: the larger of both directed 95th percentiles; assd: mean over both boundaries; surface_dice: "
    "share within the tolerance; two empty masks 0, 0 and 1, one empty mask the diagonal of the image, and 0; plain "
    "names as dice, rater_ names between raters",
    "cldice": "harmonic mean of the shares of each skeleton in the other mask, two empty masks 1, one empty mask 0; of "
    "masks as dice, rater_cldice between raters",
    "uncertainty_ncc": "p (1 - p) with c/K (1 - c/K), Pearson over pixels",
}
OF_STRUCTURES = {
    "structures": "each scored by itself under its name; plain names are the mean over the structures of a case that "
    "have a value, then over cases",
    "joint": "samples as sets of (structure, pixel) pairs, with the raters present in all structures",
}
OF_RATERS = (
    "rater_agreement",
    "rater_diversity",
    "leave_one_out_dice",
    "rater_cldice",
    *(f"rater_{name}" for name in BOUNDARY_SCORES),
)
JOINT = ("generalized_energy_distance", "sample_diversity", "rater_diversity", "hungarian_iou")
CURVES_OF_A_STRUCTURE = ("qubiq_score", "dice", "generalized_energy_distance", "hungarian_iou")


def rater_column(number: int) -> str:
    """Name of a rater's Dice in tables and curves.

    >>> rater_column(3)
    'dice_rater03'
    """
    return f"dice_rater{number:02d}"


def prediction_scores(
    predictions: Tensor,
    masks: Tensor,
    *,
    presence: Tensor | None = None,
    heads: int = 0,
    tolerance: float | None = None,
    spacing: Sequence[float] | None = None,
    centrelines: bool = False,
) -> dict:
    """Every score of every case: (B,) each, (B, R) for one Dice per rater, (B, heads, R) for heads_by_raters.

    Args:
        predictions: (B, 1 + heads + n, H, W), the probability map, the maps of the heads, n samples as probabilities.
        masks, presence: of the raters, (B, R, H, W) and (B, R).
        heads: 0, or R for a method that predicts each rater.
        tolerance: of the surface Dice; None leaves out the scores of boundaries, which take the CPU's time.
        spacing: see `boundary_scores`.
        centrelines: add the scores of `centreline_dice`, for thin structures.

    A case whose predictions hold NaN is NaN in everything that depends on them; a case without raters in everything but
    `sample_diversity`.
    """
    probability, own, samples = predictions.split([1, heads, predictions.shape[1] - 1 - heads], dim=1)
    predicted = own if heads else probability
    consensus = consensus_mask(masks, presence=presence)[:, None]
    missing = torch.zeros_like(masks.flatten(2)[..., 0], dtype=torch.bool) if presence is None else presence == 0
    nobody = missing.all(1).to(masks.device)
    scores: dict[str, Tensor] = {
        "qubiq_score": qubiq_score(probability, masks, presence=presence),
        "dice_per_rater": dice_per_rater(predicted > 0.5, masks, presence=presence),
        "dice_consensus": dice_per_rater(probability >= 0.5, consensus)[:, 0].masked_fill(nobody, torch.nan),
        "dice_soft": dice_soft(probability, masks, presence=presence),
        "leave_one_out_dice": leave_one_out_dice(masks, presence=presence).nanmean(1),
        "uncertainty_ncc": uncertainty_ncc(probability * (1 - probability), masks, presence=presence),
    }
    scores |= set_scores(samples > 0.5, masks, presence=presence)
    scores |= calibration_scores(probability, masks, presence=presence)
    if tolerance is not None:
        scores |= _boundaries(predicted > 0.5, masks, missing.to(masks.device), tolerance, spacing)
    if centrelines:
        scores |= _centrelines(predicted > 0.5, masks, missing.to(masks.device))
    if heads:
        table = pairwise_dice(own > 0.5, masks)
        scores["heads_by_raters"] = table.masked_fill(missing[:, None], torch.nan)
        scores["own_head_gain"] = own_head_gain(scores["heads_by_raters"])
    broken = predictions.flatten(1).isnan().any(1)
    return {
        name: values if name in OF_RATERS else values.masked_fill(broken[(..., *[None] * (values.ndim - 1))], torch.nan)
        for name, values in scores.items()
    }


def _boundaries(
    predicted: Tensor, masks: Tensor, missing: Tensor, tolerance: float, spacing: Sequence[float] | None
) -> dict[str, Tensor]:
    """Means over the raters present of `BOUNDARY_SCORES` with each, and over their pairs as "rater_hd95", (B,) each."""
    with_each = boundary_scores(predicted.expand_as(masks), masks, spacing=spacing, tolerance=tolerance)
    pairs = pairwise_boundary_scores(masks, spacing=spacing, tolerance=tolerance)
    scores = {name: values.masked_fill(missing, torch.nan).nanmean(1) for name, values in with_each.items()}
    return scores | {f"rater_{name}": _mean_of_pairs(values, missing) for name, values in pairs.items()}


def _centrelines(predicted: Tensor, masks: Tensor, missing: Tensor) -> dict[str, Tensor]:
    """Means of `centreline_dice` over the raters present, and over their pairs as "rater_cldice", (B,) each."""
    table = centreline_dice(predicted, masks)
    with_each = table.diagonal(dim1=1, dim2=2) if predicted.shape[1] > 1 else table[:, 0]
    return {
        "cldice": with_each.masked_fill(missing, torch.nan).nanmean(1),
        "rater_cldice": _mean_of_pairs(centreline_dice(masks, masks), missing),
    }


def _mean_of_pairs(table: Tensor, missing: Tensor) -> Tensor:
    """Mean of (B, R, R) over the pairs of different raters who are both present, (B,); NaN where there is none."""
    itself = torch.eye(table.shape[1], dtype=torch.bool, device=table.device)
    excluded = missing[:, None] | missing[:, :, None] | itself
    return table.masked_fill(excluded, torch.nan).flatten(1).nanmean(1)


def joint_set_scores(samples: Tensor, masks: Tensor, *, presence: Tensor | None = None) -> dict[str, Tensor]:
    """Scores of sets whose samples have several structures, each sample as a whole, see `joint_structures`: (B,) each.

    Args:
        samples: probabilities (B, n, K, *spatial); NaN in them makes all scores of a case NaN.
        masks, presence: (B, R, K, *spatial), and (B, R), True for raters present in all structures.
    """
    scores = joint_structures(set_scores, samples > 0.5, masks, structures=masks.shape[2], presence=presence)
    broken = samples.flatten(1).isnan().any(1)
    return {f"joint_{name}": scores[name].masked_fill(broken, torch.nan) for name in JOINT}


def own_head_gain(table: Tensor) -> Tensor:
    """Dice of each rater with the rater's own head less that with the other heads, mean over raters: (B,).

    Above 0 where heads are nearer to their own rater than other raters' heads are.

    >>> own_head_gain(torch.tensor([[[0.9, 0.7], [0.8, 0.8]]]))  # (0.9 - 0.8 + 0.8 - 0.7) / 2
    tensor([0.1000])

    Args:
        table: (B, R, R), Dice of head k (row) with rater r (column), NaN in the columns of missing raters; NaN also
            where R is 1.
    """
    own = table.diagonal(dim1=1, dim2=2)
    others = (table.sum(1) - own) / (table.shape[1] - 1)
    return (own - others).nanmean(1)


class MeanRaterScores(MultiMetricHandler):
    """Means over cases of all `prediction_scores` that are one number, as an Ignite metric of a `RaterEvaluator`.

    The value of the metric is the score `key`, the others stand beside it, see `MultiMetricHandler`. There is one
    `dice_raterNN` for each rater, a curve each in TensorBoard, unless they are anonymous, and `dice`, their mean
    over each case and then over cases. Means are over the cases that have a value. Works over several ranks.

    Several structures are scored each by itself, under the names `qubiq_score_disc` and so on, and plain names are the
    mean over the structures of each case; `joint_` scores are those of whole samples, see `joint_set_scores`.

    Args:
        raters: numbers of the raters, one for each column of the masks; None where they are anonymous.
        key: the score that is the metric's value.
        tolerance, spacing, centrelines: see `prediction_scores`.
        structures: names of the structures, where masks have an axis of them.
    """

    def __init__(
        self,
        raters: Sequence[int] | None = None,
        *,
        key: str = "qubiq_score",
        tolerance: float | None = None,
        spacing: Sequence[float] | None = None,
        centrelines: bool | str = False,
        structures: Sequence[str] | None = None,
    ):
        self.structures = list(structures or ())
        count = len(self.structures) or None
        self.score = RaterScore(
            prediction_scores,
            structures=count,
            tolerance=tolerance,
            spacing=spacing,
            centrelines=as_bool(centrelines, "centrelines"),
        )
        self.joint = RaterScore(joint_set_scores)
        super().__init__(self.score, key, output_transform=lambda output: (output["pred"], output["label"]))
        self.raters = None if raters is None else [int(number) for number in raters]
        self.samples: int | None = None

    def reset(self) -> None:
        super().reset()
        self.joint.reset()

    def update(self, output: tuple[Mapping[str, Tensor], Mapping[str, Tensor]]) -> None:
        predictions, label = output
        if self.raters is not None and len(self.raters) != label["masks"].shape[1]:
            raise ValueError(f"masks of {label['masks'].shape[1]} raters, but raters={self.raters}: name each one.")
        self.samples = predictions["samples"].shape[1]
        parts = [predictions[name] for name in ("probability", "heads", "samples") if name in predictions]
        self.score.options["heads"] = predictions["heads"].shape[1] if "heads" in predictions else 0
        self.score(torch.cat(parts, dim=1), label)
        if self.structures:
            whole = {"masks": label["masks"] != 0, "presence": label["presence"].all(2)}
            self.joint(predictions["samples"], whole)

    def per_case(self) -> dict[str, Tensor]:
        """Scores of each case since the start of the validation, (N, ...) on the CPU, `dice` among them."""
        scores = {name: values.cpu() for name, values in cast("dict[str, Tensor]", self.score.per_case()).items()}
        scores = {"qubiq_score": scores.pop("qubiq_score"), "dice": scores["dice_per_rater"].nanmean(-1)} | scores
        if not self.structures:
            return scores
        found = {name: values.nanmean(1) for name, values in scores.items()}
        for place, structure in enumerate(self.structures):
            found |= {f"{name}_{structure}": values[:, place] for name, values in scores.items()}
        joint = cast("dict[str, Tensor]", self.joint.per_case())
        return found | {name: values.cpu() for name, values in joint.items()}

    def columns(self) -> dict[str, Tensor]:
        """Those of `per_case` that are one number a case, (N,), and the Dice of each known rater."""
        scores = self.per_case()
        found = {name: values for name, values in scores.items() if values.ndim == 1}
        for suffix in ["", *(f"_{structure}" for structure in self.structures)]:
            for number, values in zip(self.raters or (), scores[f"dice_per_rater{suffix}"].unbind(1), strict=False):
                found[f"{rater_column(number)}{suffix}"] = values
        return found

    def means(self) -> dict[str, float]:
        means = {name: values.nanmean().item() for name, values in self.columns().items() if self._is_curve(name)}
        if self.key not in means:
            raise ValueError(f"key={self.key!r} is no score of this run: choose one of {', '.join(means)}.")
        return means

    def _is_curve(self, name: str) -> bool:
        """Of a single structure a few curves are enough."""
        structure = next((each for each in self.structures if name.endswith(f"_{each}")), None)
        return structure is None or name.removesuffix(f"_{structure}") in CURVES_OF_A_STRUCTURE


class RaterReport:
    """Writes the scores of each case to `cases.csv` and their means, with every convention, to `summary.json`.

    The same columns and keys for every method, so that they can stand in one table. For evaluators in one process. The
    summary holds `scores` (mean, sd and number of cases), `dice_per_rater`, `rater_ceiling` (mean Dice between raters,
    of each with the majority of the others, and distances between their boundaries where measured) and
    `heads_by_raters`, the mean Dice of head k (row) with rater r (column), in which the diagonal should lead.

    Args:
        folder: of both files; each appears complete or not at all.
        scores: the evaluator's `MeanRaterScores`.
        settings: what distinguishes this run, kept in the summary with the numbers at the top of the
            config.
    """

    def __init__(self, folder: str | Path, scores: MeanRaterScores, *, settings: Mapping[str, Any] | None = None):
        self.folder = Path(folder)
        self.scores = scores
        self.settings = RunSettings(settings)
        self.ids: list[str] = []

    def attach(self, engine: Engine) -> None:
        refuse_non_finite_predictions(engine)
        engine.add_event_handler(Events.EPOCH_STARTED, lambda: self.ids.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: self.ids.extend(e.state.batch["id"]))
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _write(self, engine: Engine) -> None:
        scores = self.scores.per_case()
        table = scores["heads_by_raters"].nanmean(0).tolist() if "heads_by_raters" in scores else None
        columns = {name: values.tolist() for name, values in self.scores.columns().items()}
        rows = [dict(zip(["id", *columns], row, strict=True)) for row in zip(self.ids, *columns.values(), strict=True)]
        write_table(self.folder / "cases.csv", sorted(rows, key=lambda row: row["id"]), digits=".6f")
        summary = {
            "settings": self.settings.read(),
            "cases": len(self.ids),
            "samples": self.scores.samples,
            "raters": self.scores.raters,
            "parameters": sum(p.numel() for p in engine.network.parameters()),
            "scores": {name: _spread(values) for name, values in columns.items()},
            "rater_ceiling": {
                name: _spread(columns[name]) for name in OF_RATERS if name in columns and name != "rater_diversity"
            },
            "heads_by_raters": table and [[_known(v) for v in row] for row in table],
            "conventions": CONVENTIONS,
        }
        if self.scores.structures:
            summary |= {"structures": self.scores.structures, "conventions": CONVENTIONS | OF_STRUCTURES}
        write_record(self.folder / "summary.json", summary)


def _spread(values: Sequence[float]) -> dict[str, float | int | None]:
    known = torch.tensor([value for value in values if not math.isnan(value)], dtype=torch.float64)
    mean = known.mean().item() if len(known) else math.nan
    deviation = known.std().item() if len(known) > 1 else math.nan
    return {"mean": _known(mean), "sd": _known(deviation), "cases": len(known)}


def _known(value: float) -> float | None:
    """JSON has no NaN."""
    return None if math.isnan(value) else round(value, 6)
