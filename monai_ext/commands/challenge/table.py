"""Results of a challenge's tasks, and the page that shows them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from monai_ext.commands.challenge.tasks import ChallengeTask
from monai_ext.commands.html import Block, Heading, Table, Text
from monai_ext.commands.scoring.rater_methods import read_methods
from monai_ext.commands.statistics import mean_of_known

__all__ = ["TaskResult", "challenge_blocks", "task_result"]

SHOWN = {
    "qubiq_score": "QUBIQ score ↑",
    "dice": "Dice with raters ↑",
    "generalized_energy_distance": "Energy distance² ↓",
    "hungarian_iou": "Hungarian IoU ↑",
    "sample_diversity": "Diversity",
    "rater_diversity": "Diversity of raters",
    "rater_agreement": "Dice between raters",
}
MEAN = "mean of tasks"


class TaskResult(msgspec.Struct, frozen=True, kw_only=True):
    """One task in qubiq.json; `failed`: the step that failed, or "". `scores`: means over cases, if it was scored."""

    name: str
    raters: list[int]
    scored_on: str
    failed: str = ""
    method: str = ""
    cases: int | None = None
    minutes: float | None = None
    scores: dict[str, float] = {}


def task_result(task: ChallengeTask, folder: Path, failed: str) -> TaskResult:
    """What the evaluation in the run `folder` of a task found; nothing where a step before it has failed.

    Raises:
        ResultsError: the evaluation is damaged, or not of this run, see `read_methods`.
    """
    part = "validation part" if task.validation else "one fold of five"
    result = TaskResult(name=task.name, raters=list(task.raters), scored_on=part, failed=failed)
    if failed in ("training", "evaluation"):
        return result
    (method,) = read_methods([folder])
    rows = list(method.rows.values())
    means = {name: float(mean_of_known([row.get(name, np.nan) for row in rows])) for name in SHOWN}
    return msgspec.structs.replace(
        result,
        method=method.name,
        cases=len(rows),
        minutes=None if np.isnan(method.minutes) else method.minutes,
        scores={name: value for name, value in means.items() if not np.isnan(value)},
    )


def challenge_blocks(results: Sequence[TaskResult], submission: Path | None, maps: int) -> list[Block]:
    """The page: a row for each task, their mean, and where the submission lies."""
    header = ("Task", "Raters", "Method", *SHOWN.values(), "Cases", "Scored on", "Minutes")
    rows = [
        (
            result.name,
            str(len(result.raters)),
            result.method or f"{result.failed} failed",
            *(_number(result.scores.get(name)) for name in SHOWN),
            "-" if result.cases is None else str(result.cases),
            result.scored_on,
            "-" if result.minutes is None else f"{result.minutes:.1f}",
        )
        for result in results
    ]
    scored = [result for result in results if result.scores]
    if len(scored) > 1:
        means = [mean_of_known([result.scores.get(name, np.nan) for result in scored]).item() for name in SHOWN]
        cells = (_number(None if np.isnan(mean) else mean) for mean in means)
        rows.append((MEAN, "", "", *cells, str(sum(result.cases or 0 for result in scored)), "", ""))
    blocks: list[Block] = [Heading("Tasks of the challenge", 1), Table("Means over cases", header, rows)]
    lines = [f"{result.name}: the step {result.failed} failed" for result in results if result.failed]
    if submission is not None:
        lines.append(f"submission: {maps} maps of the predicted share of raters in {submission}")
    return [*blocks, Text(*lines)] if lines else blocks


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
