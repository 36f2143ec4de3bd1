"""What scores.json holds, as `score` writes it and others read it."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["Predicted", "Scores", "ScoresOfAll", "Interval", "Statistic", "Summary", "TaskScores"]


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """A mean over cases with its 95 % interval; None where there is none."""

    mean: float | None = None
    low: float | None = None
    high: float | None = None
    cases: int | None = None


class Statistic(Interval, frozen=True, kw_only=True):
    """A mean over cases with its 95 % interval and the standard deviation of the cases."""

    sd: float | None = None


class Summary(Statistic, frozen=True, kw_only=True):
    """A score of the method, and of the raters against each other."""

    better: str = ""
    raters: Statistic | None = None


class Predicted(msgspec.Struct, frozen=True, kw_only=True):
    """Kinds of predictions of a task: numbers of raters with a head of their own, and numbers of samples."""

    probability: bool
    raters: list[int]
    samples: list[int]


class TaskScores(msgspec.Struct, frozen=True, kw_only=True):
    """Scores of one task."""

    task: int
    folder: str = ""
    cases: int = 0
    scored: int | None = None
    missing: dict[str, str] = {}
    without_target: list[str] = []
    unknown_predictions: list[str] = []
    other_affine: list[str] = []
    better_turned: str | None = None
    raters: list[int] = []
    raters_without_head: list[int] = []
    heads_without_rater: list[int] = []
    predicted: Predicted | None = None
    map: str = ""
    distance_unit: str = "pixels"
    set: str | None = None
    scores: dict[str, Summary]
    rater_agreement: Summary = Summary()
    aurc: float | None = None
    dice_of_heads_and_raters: list[list[float | None]] | None = None


class ScoresOfAll(msgspec.Struct, frozen=True, kw_only=True):
    """Scores over all tasks, each case as the mean of its tasks."""

    cases: int
    scores: dict[str, Summary]


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """scores.json"""

    command: str | None = None
    predictions: str = ""
    targets: str = ""
    settings: dict[str, Any] = {}
    versions: dict[str, str] = {}
    tasks: list[TaskScores]
    all_tasks: ScoresOfAll | None = None
