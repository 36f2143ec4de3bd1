"""What a comparison leaves in its folder: plan.json, and started.json and finished.json of each run."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

__all__ = ["Finished", "PlanRecord", "SearchRecord", "Started"]

MOST_FOLDS = 1000

Fold = Annotated[int, msgspec.Meta(ge=0, le=MOST_FOLDS)]


class PlanRecord(msgspec.Struct, frozen=True, kw_only=True):
    """plan.json: the plan, joined with the losses and seeds of the runs that are in the folder already."""

    bundle: str = ""
    dataset_dir: str = ""
    output_dir: str = ""
    losses: list[str] = []
    folds: Fold = 0
    seeds: list[int] = []
    figure_ids: list[str] = []
    arguments: dict[str, str] = {}
    command: str = ""


class SearchRecord(msgspec.Struct, frozen=True, kw_only=True):
    """search.json: mean Dice on fold 0 of each loss at each value of a setting, and the value that was chosen."""

    setting: str
    values: list[str]
    dice: dict[str, list[float]] = {}
    chosen: dict[str, str] = {}

    def __post_init__(self) -> None:
        if self.dice.keys() != self.chosen.keys() or not set(self.chosen.values()) <= set(self.values):
            raise ValueError("each loss needs its scores, and one of the values as the chosen one")
        if any(len(scores) != len(self.values) for scores in self.dice.values()):
            raise ValueError(f"each loss needs {len(self.values)} scores, one for each value")


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """started.json: all that the numbers of a run depend on, apart from its loss, fold and seed; and versions."""

    settings: dict[str, Any]
    versions: dict[str, str] = {}


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """finished.json: a run that left its results."""

    loss: str
    fold: Fold
    seed: int
    seconds: float | None = None
    settings: dict[str, Any] = {}
    versions: dict[str, str] = {}
