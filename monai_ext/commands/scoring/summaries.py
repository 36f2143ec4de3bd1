"""From the scored cases of a task to means with intervals over cases, beside those of the raters; see `score`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from monai_ext.commands.scoring.case_scores import HEAD_SCORES, MAP_SCORES, SET_SCORES
from monai_ext.commands.scoring.records import Interval, Predicted, ScoresOfAll, Statistic, Summary, TaskScores
from monai_ext.commands.scoring.turns import better_turn
from monai_ext.commands.statistics import mean_of_known
from monai_ext.data.item_numbers import MaskNumbers
from monai_ext.data.raters.predictions import PredictionKinds, RaterPredictions
from monai_ext.formulas.bootstrap import bootstrap_interval
from monai_ext.metrics import BOUNDARY_DISTANCES, area_under_risk_coverage
from monai_ext.storage.records import finite_or_none

__all__ = [
    "Bootstrap",
    "ScoredCase",
    "applicable_scores",
    "distance_unit",
    "group_labels",
    "mean_intervals",
    "summary_over_tasks",
    "task_summary",
]

SCORES = MAP_SCORES | SET_SCORES | HEAD_SCORES


class ScoredCase(NamedTuple):
    """A row of cases.csv, and what does not go into it."""

    row: dict
    counted: bool  # False for a missing prediction that is left out of the means
    heads: NDArray[np.float64] | None  # Dice of heads and raters, (A, R)
    elsewhere: Path | None  # see `RaterCase`
    turned: NDArray[np.float64] | None = None  # see `turned_dice`
    look: tuple[MaskNumbers, ...] = ()  # of the raters' masks
    spacing: tuple[float, ...] | None = None  # of the boundary distances


class Bootstrap(NamedTuple):
    """What `bootstrap_interval` draws, and how often; see `ScoreOptions`."""

    group: str | None
    resamples: int
    seed: int


def applicable_scores(kinds: PredictionKinds, raters: Sequence[int], *, anonymous: bool) -> list[str]:
    """Names of the scores that what was predicted allows, those of single raters last."""
    names = list(MAP_SCORES)
    if kinds.samples or kinds.raters:
        names += SET_SCORES
    own = [] if anonymous else [number for number in raters if number in kinds.raters]
    if own:
        names += HEAD_SCORES
        names += [f"{name.removesuffix('_heads')}_rater{number:02d}" for number in own for name in HEAD_SCORES]
    return names


def task_summary(
    items: Sequence[Mapping],
    found: RaterPredictions,
    cases: Sequence[ScoredCase],
    *,
    anonymous: bool,
    bootstrap: Bootstrap,
) -> TaskScores:
    """Scores of one task.

    Args:
        items: of `rater_truth`, also those that nobody marked.
        found: predictions for the others.
        cases: one for each of the others.
    """
    raters, kinds = list(items[0]["raters"]), found.kinds
    rows = [case.row for case in cases if case.counted]
    heads = [] if anonymous else list(kinds.raters)
    tables = [case.heads for case in cases if case.heads is not None]
    return TaskScores(
        task=items[0]["task"],
        folder=str(found.folder),
        cases=len(cases),
        scored=sum(case.row["status"] == "scored" for case in cases),
        missing=found.missing,
        without_target=[item["id"] for item in items if not any(item["label"])],
        unknown_predictions=list(found.unknown),
        other_affine=[str(case.elsewhere) for case in cases if case.elsewhere is not None],
        better_turned=better_turn([case.turned for case in cases if case.turned is not None]),
        raters=raters,
        raters_without_head=[number for number in raters if number not in heads] if heads else [],
        heads_without_rater=[number for number in heads if number not in raters],
        predicted=Predicted(probability=kinds.probability, raters=list(kinds.raters), samples=list(kinds.samples)),
        map=_map_source(kinds),
        distance_unit=distance_unit([case.spacing for case in cases]),
        set=_set_source(kinds),
        scores=_statistics(rows, applicable_scores(kinds, raters, anonymous=anonymous), bootstrap),
        rater_agreement=_statistics(rows, ["rater_agreement"], bootstrap)["rater_agreement"],
        aurc=_aurc(rows),
        dice_of_heads_and_raters=mean_of_known(np.stack(tables), axis=0).tolist() if tables else None,
    )


def summary_over_tasks(cases: Sequence[ScoredCase], *, bootstrap: Bootstrap) -> ScoresOfAll:
    """Each case as the mean over its tasks, so that it counts once and is drawn once; scores that all tasks have."""
    rows = [case.row for case in cases if case.counted]
    names = [name for name in SCORES if all(name in row for row in rows)]
    columns = [*names, *(f"raters_{name}" for name in names)]
    by_case: dict[str, list[dict]] = {}
    for row in rows:
        by_case.setdefault(row["case"], []).append(row)
    merged = [
        {"case": case, **{name: float(mean_of_known([row[name] for row in own])) for name in columns}}
        for case, own in by_case.items()
    ]
    return ScoresOfAll(cases=len(merged), scores=_statistics(merged, names, bootstrap))


def group_labels(cases: Sequence[str], group: str | None) -> list[str] | None:
    """What the bootstrap draws: the first group (or whole match) of the expression in the name of each case.

    Raises:
        ValueError: a name does not match.
    """
    if group is None:
        return None
    labels = []
    for case in cases:
        match = re.search(group, case)
        if match is None:
            raise ValueError(
                f"group is {group!r}, which is not found in the name of case {case}: give a regular expression that is "
                "found in every name."
            )
        labels.append(match[1] if match.re.groups else match[0])
    return labels


def _statistics(rows: Sequence[Mapping], names: Sequence[str], bootstrap: Bootstrap) -> dict[str, Summary]:
    """Mean, 95 % interval, standard deviation and number of the cases that have a value; the same of the raters."""
    wanted = [name for name in (*names, *(f"raters_{name}" for name in names)) if name in rows[0]]
    values = np.array([[float(row[name]) for row in rows] for name in wanted])
    groups = group_labels([row["case"] for row in rows], bootstrap.group)
    low, high = bootstrap_interval(values, groups=groups, resamples=bootstrap.resamples, seed=bootstrap.seed)
    found = {}
    for name, row, lower, upper in zip(wanted, values, low.tolist(), high.tolist(), strict=True):
        known = row[~np.isnan(row)]
        spread = float(known.std(ddof=1)) if known.size > 1 else math.nan
        mean = float(mean_of_known(row))
        found[name] = Statistic(mean=mean, low=lower, high=upper, sd=spread, cases=int(known.size))
    return {
        name: Summary(
            better="lower"
            if name.startswith(BOUNDARY_DISTANCES)
            else SCORES[name].better
            if name in SCORES
            else "higher",
            raters=found.get(f"raters_{name}"),
            **msgspec.structs.asdict(found[name]),
        )
        for name in names
    }


def mean_intervals(
    values: ArrayLike, *, groups: Sequence[str] | None = None, resamples: int = 10_000, seed: int = 0
) -> list[Interval]:
    """Mean over cases of each row with its 95 % interval; arguments and errors: see `bootstrap_interval`."""
    values = np.asarray(values, dtype=np.float64)
    low, high = bootstrap_interval(values, groups=groups, resamples=resamples, seed=seed)
    means, counts = mean_of_known(values, axis=1), (~np.isnan(values)).sum(axis=1)
    numbers = zip(means.tolist(), low.tolist(), high.tolist(), counts.tolist(), strict=True)
    return [
        Interval(mean=finite_or_none(mean), low=finite_or_none(lower), high=finite_or_none(upper), cases=count)
        for mean, lower, upper, count in numbers
    ]


def distance_unit(spacings: Sequence[tuple[float, ...] | None]) -> str:
    """Files that libraries write of arrays without a geometry have voxels of 1."""
    return "mm" if any(side != 1 for spacing in spacings for side in spacing or ()) else "pixels"


def _map_source(kinds: PredictionKinds) -> str:
    return "probability map" if kinds.probability else f"mean of {_set_source(kinds)}"


def _set_source(kinds: PredictionKinds) -> str | None:
    count, kind = (len(kinds.samples), "sample") if kinds.samples else (len(kinds.raters), "head")
    return f"{count} {kind}{'' if count == 1 else 's'}" if count else None


def _aurc(rows: Sequence[Mapping]) -> float:
    confidence, dice = (torch.tensor([row[name] for row in rows]) for name in ("confidence", "dice_consensus"))
    return float(area_under_risk_coverage(confidence, 1 - dice))
