"""Choose the temperature that calibrates the probabilities of a run on cases that were held out, and apply it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import torch
import torch.nn.functional as F
from ignite.engine import Events
from torch import Tensor

from monai_ext.data.folds import assign_folds
from monai_ext.formulas.bootstrap import bootstrap_interval, resampled_means
from monai_ext.formulas.temperature import check_temperature, tempered
from monai_ext.formulas.votes import rater_votes
from monai_ext.handlers.training.weight_digests import weight_digests
from monai_ext.metrics.calibration import calibration_bins, calibration_scores
from monai_ext.metrics.temperature import LogitTable
from monai_ext.runtime.settings import listed_paths
from monai_ext.storage.records import read_record, write_record

__all__ = ["ChosenTemperature", "choose_temperature", "known_temperature"]

SCORES = ("ece", "ece_consensus", "brier", "log_loss")
LEAST = 1e-6  # probability that a log loss counts

_logger = logging.getLogger(__name__)


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A mean over cases with its 95 % interval."""

    mean: float
    low: float
    high: float


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A score of the same cases without and with the temperature, and the difference (below 0 is better)."""

    before: Estimate
    after: Estimate
    difference: Estimate


class ChosenTemperature(msgspec.Struct, frozen=True, kw_only=True):
    """The record of `choose_temperature`."""

    temperature: Annotated[float, msgspec.Meta(gt=0)]
    """of all cases"""
    of_halves: tuple[float, float]
    """of each half alone; the other half is scored with it"""
    cases: int
    groups: int
    scores: dict[str, Change]
    weights: tuple[str, ...]
    """digests of the weights that it was chosen for"""


def choose_temperature(
    evaluator: Any,
    path: str | Path,
    *,
    items: Sequence[Mapping],
    checkpoints: str | Path | Sequence[str | Path],
    groups: Mapping[str, str] | None = None,
    seed: int = 0,
) -> ChosenTemperature:
    """The temperature of the lowest log loss on the cases of an evaluator, and scores before and after.

    The cases are divided into two halves by their groups, and each half is scored with the temperature of the other, so
    that no score is of cases that its temperature was fitted on. The temperature for other data is that of all cases.
    Scores are means over cases: of `calibration_scores`, and of the log loss in nats against each rater. The
    "pooled_ece" has one set of bins for the pixels of all cases, each case counting once, against the share of raters.
    Intervals are from a bootstrap over the groups; that of the pooled error lies too high where the error is near 0.
    Of several structures each counts as a case in the fit; the scores of a case are means over its structures.

    The evaluator is run twice.

    Args:
        evaluator: a `RaterEvaluator`, or a `BatchEvaluator` that decollates and whose predictions are probabilities.
        path: of the JSON record.
        items: the cases of the evaluator.
        checkpoints: their weights, see `known_temperature`.
        groups: id -> name of what belongs together, such as a patient; None: each case by itself.
        seed: of the halves.

    Raises:
        ValueError: fewer than two groups, or predictions that no temperature changes.
    """
    ids = [str(item["id"]) for item in items]
    group_of = {name: name if groups is None else str(groups[name]) for name in ids}
    halves = assign_folds(items, folds=2, seed=seed, group=lambda item: group_of[str(item["id"])])
    half_of = dict(zip(ids, halves, strict=True))
    tables = LogitTable(), LogitTable(), LogitTable()  # of the halves, and of all

    def fit(name: str, maps: Tensor, masks: Tensor, presence: Tensor) -> None:
        for table in (tables[half_of[name]], tables[2]):
            table.add(maps, masks, presence=presence)

    _run(evaluator, fit)
    first, second, temperature = (table.best_temperature() for table in tables)
    found: dict[str, dict[str, np.ndarray]] = {}

    def score(name: str, maps: Tensor, masks: Tensor, presence: Tensor) -> None:
        after = tempered(maps, (second, first)[half_of[name]])
        found[name] = _scores(torch.stack([maps, after]), masks, presence)

    _run(evaluator, score)
    chosen = ChosenTemperature(
        temperature=round(temperature, 4),
        of_halves=(round(first, 4), round(second, 4)),
        cases=len(found),
        groups=len({group_of[name] for name in found}),
        scores=_changes([*found.values()], [group_of[name] for name in found]),
        weights=weight_digests(checkpoints),
    )
    write_record(Path(path), chosen)
    change = chosen.scores["pooled_ece"]
    _logger.info(
        f"temperature {chosen.temperature:g}: expected calibration error of all pixels {change.before.mean:.4f} before "
        f"and {change.after.mean:.4f} after, each half of the cases by the temperature of the other; use it by "
        f"--temperature {path}"
    )
    return chosen


def known_temperature(temperature: float | str, checkpoints: str | Path | Sequence[str | Path] = ()) -> float:
    """A temperature: the number itself, or that of a record of `choose_temperature`, if it was made for these weights.

    Raises:
        FileNotFoundError: there is no such record.
        ValueError: no number above 0 and no record, or one of other weights.
    """
    if not isinstance(temperature, str):
        return check_temperature(temperature)
    record = read_record(temperature, ChosenTemperature, way_out="run the overlay temperature.json again")
    if record.weights != weight_digests(checkpoints):
        names = ", ".join(map(str, listed_paths(checkpoints)))
        raise ValueError(
            f"the temperature in '{temperature}' was chosen for other weights than {names}: run the overlay "
            "temperature.json with these, or give a number."
        )
    return record.temperature


def _run(evaluator: Any, use: Callable[[str, Tensor, Tensor, Tensor], None]) -> None:
    """Run the evaluator and hand each case on: id, map (K, *spatial), masks (K, R, *spatial), presence (K, R)."""

    def hand_on(engine: Any) -> None:
        for case in _cases(engine.state.batch, engine.state.output):
            use(*case)

    with evaluator.add_event_handler(Events.ITERATION_COMPLETED, hand_on):
        evaluator.run()


def _cases(batch: Any, output: Any) -> Iterator[tuple[str, Tensor, Tensor, Tensor]]:
    if isinstance(output, list):  # one mask for each image
        for item, case in zip(batch, output, strict=True):
            maps, masks = (torch.as_tensor(case[key]).as_subclass(Tensor).cpu() for key in ("pred", "label"))
            yield str(item["id"]), maps, masks[:, None] > 0.5, torch.ones(len(masks), 1)
        return
    maps, masks, presence = output["pred"]["probability"], *(output["label"][key] for key in ("masks", "presence"))
    if presence.ndim == 2:
        maps, masks, presence = maps[:, :, None], masks[:, :, None], presence[:, :, None]
    for name, *case in zip(batch["id"], maps[:, 0], masks.swapaxes(1, 2) > 0.5, presence.mT, strict=True):
        yield str(name), *(part.cpu() for part in case)


def _scores(maps: Tensor, masks: Tensor, presence: Tensor) -> dict[str, np.ndarray]:
    """Scores of a case without and with a temperature (2, K, *spatial): (2,) each, and its bins, (2, 2, 15)."""
    rows = [_scores_of_map(each, masks, presence) for each in maps]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _scores_of_map(maps: Tensor, masks: Tensor, presence: Tensor) -> dict[str, np.ndarray]:
    known = presence.any(1)
    maps, masks, presence = maps[known], masks[known], presence[known]
    votes, voters = rater_votes(masks, presence=presence)
    share = (votes / voters[(..., *[None] * (votes.ndim - 1))]).to(maps.dtype)
    scores = calibration_scores(maps, masks, presence=presence)
    log_losses = F.binary_cross_entropy(maps.clamp(LEAST, 1 - LEAST), share, reduction="none")
    scores["log_loss"] = log_losses.flatten(1).mean(1)
    table = calibration_bins(maps, masks, presence=presence)
    marked = torch.einsum("krn,kr->kn", table.foreground, presence.double()) / voters[:, None]
    bins = torch.stack([table.probability[:, 0], marked], 1) / table.pixels.sum(-1, keepdim=True)
    return {name: scores[name].double().mean(0).numpy() for name in SCORES} | {"bins": bins.mean(0).numpy()}


def _changes(cases: Sequence[Mapping[str, np.ndarray]], groups: Sequence[str]) -> dict[str, Change]:
    changes = {}
    for name in SCORES:
        before, after = np.stack([case[name] for case in cases], axis=1)
        rows = np.stack([before, after, after - before])
        low, high = bootstrap_interval(rows, groups=groups)
        changes[name] = _change(rows.mean(1), low, high)
    bins = np.stack([case["bins"] for case in cases])  # (N, 2, 2, 15)
    drawn = resampled_means(bins.reshape(len(bins), -1).T, groups=groups).reshape(-1, *bins.shape[1:])
    drawn = np.concatenate([bins.mean(0)[None], drawn])
    errors = np.abs(drawn[:, :, 0] - drawn[:, :, 1]).sum(-1)  # (1 + resamples, 2)
    rows = np.stack([errors[:, 0], errors[:, 1], errors[:, 1] - errors[:, 0]])
    low, high = np.quantile(rows[:, 1:], [0.025, 0.975], axis=1)
    changes["pooled_ece"] = _change(rows[:, 0], low, high)
    return changes


def _change(means: np.ndarray, low: np.ndarray, high: np.ndarray) -> Change:
    parts = zip(means.tolist(), low.tolist(), high.tolist(), strict=True)
    before, after, difference = (Estimate(mean=mean, low=lowest, high=highest) for mean, lowest, highest in parts)
    return Change(before=before, after=after, difference=difference)
