"""A setting chosen for each loss before a comparison: every value is tried on fold 0, and the best is kept."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from monai_ext.commands.comparison.compare import OURS, ComparisonError, Plan, compare
from monai_ext.commands.comparison.records import SearchRecord
from monai_ext.commands.comparison.results import read_results
from monai_ext.commands.comparison.runs import Outcome
from monai_ext.storage.records import read_record, write_record

__all__ = ["search"]

FOLDER = "search"  # within the comparison's


def search(
    plan: Plan, words: Sequence[str], *, part: tuple[int, int] | None = None, **how: Any
) -> tuple[Plan, list[Outcome]]:
    """Try the values of a setting for every loss on fold 0 and the first seed; those with the highest mean Dice.

    The runs lie in `OUTPUT_DIR/search/SETTING_VALUE/LOSS`. What was chosen is written to `OUTPUT_DIR/search.json`,
    where losses of earlier comparisons in the folder stay, and its runs become those of fold 0.

    Args:
        words: the setting and its values, such as ("learning_rate", "0.0004", "0.001").
        part: takes what a search without parts has chosen.
        how: see `compare`.

    Returns:
        The plan with the chosen value of each loss, and the runs that failed; the plan is as before if there are any.

    Raises:
        ComparisonError: fewer than two values, a setting that is chosen otherwise, other values than in search.json.
    """
    setting, values = _checked(plan, words)
    record = _earlier(plan, setting, values)
    if part is None:
        failed: list[Outcome] = []
        for value in values:
            tried = replace(plan, output_dir=_folder(plan, setting, value), seeds=plan.seeds[:1])
            failed += compare(replace(tried, arguments={**plan.arguments, setting: value}), only_fold=0, **how)
        if failed:
            return plan, failed
        record = _joined(plan, record)
        write_record(plan.output_dir / "search.json", record)
        for loss in plan.losses:
            name = f"{loss}/fold0_seed{plan.seeds[0]}"
            _take(_folder(plan, setting, record.chosen[loss]) / name, plan.output_dir / name)
    elif missing := [loss for loss in plan.losses if loss not in record.chosen]:
        raise ComparisonError(
            f"part {part[0]}/{part[1]}: no {setting} has been chosen for {missing[0]} yet: run this command without "
            "--part until search.json is there."
        )
    return replace(plan, loss_arguments={loss: {setting: value} for loss, value in record.chosen.items()}), []


def _checked(plan: Plan, words: Sequence[str]) -> tuple[str, list[str]]:
    setting, *values = words
    setting = setting.lstrip("-")
    if len(values) < 2 or len(set(values)) < len(values):
        raise ComparisonError(f"search = {' '.join(words)}: give the name of a setting and two or more of its values.")
    if setting in OURS or setting in plan.arguments:
        raise ComparisonError(f"search: {setting} has a value in this comparison already: search for another setting.")
    if bad := [word for word in (setting, *values) if not word or "/" in word or "\\" in word]:
        raise ComparisonError(f"search: {bad[0]!r} cannot be part of a folder's name.")
    return setting, values


def _folder(plan: Plan, setting: str, value: str) -> Path:
    return plan.output_dir / FOLDER / f"{setting}_{value}"


def _earlier(plan: Plan, setting: str, values: list[str]) -> SearchRecord:
    """The record of this search in the folder; an empty one where there is none."""
    path = plan.output_dir / "search.json"
    if not path.exists():
        return SearchRecord(setting=setting, values=values)
    record = read_record(path, SearchRecord, error=ComparisonError, way_out="remove it: the runs are read again")
    if (record.setting, record.values) != (setting, values):
        raise ComparisonError(
            f"{path} is of {record.setting} with the values {', '.join(record.values)}: search for the same, or take "
            "another --output_dir."
        )
    return record


def _joined(plan: Plan, earlier: SearchRecord) -> SearchRecord:
    """`earlier` with the losses of the plan."""
    found = [_mean_dice(_folder(plan, earlier.setting, value)) for value in earlier.values]
    dice = earlier.dice | {loss: [of_value[loss] for of_value in found] for loss in plan.losses}
    chosen = {loss: earlier.values[int(np.argmax(scores))] for loss, scores in dice.items()}
    return msgspec.structs.replace(earlier, dice=dice, chosen=chosen)


def _mean_dice(folder: Path) -> Mapping[str, float]:
    """Mean over cases by loss."""
    results = read_results(folder)
    return dict(zip(results.losses, np.nanmean(results.values["dice"], axis=(1, 2)).round(6).tolist(), strict=True))


def _take(source: Path, target: Path) -> None:
    """Copy a finished run, with the record that it is finished last."""
    if (target / "finished.json").exists():
        return
    leave_out: Callable = shutil.ignore_patterns("finished.json", "run.pid")
    shutil.copytree(source, target, ignore=leave_out, dirs_exist_ok=True)
    shutil.copy2(source / "finished.json", target / "finished.json")
