"""The finished runs of a comparison as arrays: losses x seeds x cases, and curves per epoch.

A run's folder holds `finished.json`, `evaluation/cases.csv` (one row per validation case: id, the metrics, and if known
those of the boundaries, image_path, label_path, group) and, for the curves, `epochs.csv`. What cannot be right (a case
validated twice, losses that saw different cases) is an error; what is only missing (runs not finished, an undefined
precision) is counted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from monai_ext.commands.comparison.records import Finished, PlanRecord, SearchRecord
from monai_ext.runtime.errors import one_line
from monai_ext.storage.files import table_rows
from monai_ext.storage.records import read_record

__all__ = ["BOUNDARIES", "DISTANCES", "METRICS", "Results", "ResultsError", "read_results"]

METRICS = {
    "dice": "Dice",
    "jaccard": "Jaccard",
    "precision": "Precision",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "threshold_jaccard": "Thresholded Jaccard",
    "legacy_average_precision": "Legacy average precision",
}
BOUNDARIES = {"surface_dice": "Surface Dice", "hd95": "HD95", "assd": "ASSD"}  # in newer tables
DISTANCES = ("hd95", "assd")  # lower is better, in pixels
WAY_OUT = "remove it and run `compare` again"
CURVES = ("train_loss", "val_mean_dice")
MOST_EPOCHS = 1_000_000  # a table of more is damaged; it would fill the memory


class ResultsError(ValueError):
    """Results of runs that are absent, damaged or contradict each other."""


@dataclass(frozen=True)
class Results:
    """All finished runs of L losses, S seeds, F folds and N cases.

    Args:
        values: metric -> (L, S, N), share from 0 to 1 (pixels in `DISTANCES`), NaN where the run is missing or the
            metric undefined; those of the boundaries where any run has them.
        fold_of: (S, N), the fold in which a case is validated under a seed, -1 while unknown.
        undefined: metric -> number of NaN that finished runs wrote (precision of an empty prediction).
        groups: N labels of cases that belong together (patient, near-duplicates), or None.
        paths: id -> (image, label), where the runs recorded them.
        folders: (loss, fold, seed) -> the run's folder, finished runs only.
        missing: planned runs that are not finished.
        curves: loss -> column of `epochs.csv` -> (runs, E), NaN where a run has no value.
        seconds: (loss, fold, seed) -> time in training epochs, or of the whole run where no epoch times are known.
        versions: the distinct sets of software versions the runs were made with.
        command: that made the runs.
        search: of a setting before the comparison.
    """

    losses: tuple[str, ...]
    folds: int
    seeds: tuple[int, ...]
    ids: tuple[str, ...]
    values: dict[str, NDArray[np.float64]]
    fold_of: NDArray[np.int64]
    undefined: dict[str, int]
    groups: tuple[str, ...] | None
    paths: dict[str, tuple[Path, Path]]
    folders: dict[tuple[str, int, int], Path]
    missing: tuple[tuple[str, int, int], ...]
    curves: dict[str, dict[str, NDArray[np.float64]]]
    seconds: dict[tuple[str, int, int], float]
    versions: tuple[str, ...]
    command: str
    search: SearchRecord | None = None


def read_results(output_dir: str | Path) -> Results:
    """Read the finished runs that `compare` left in `output_dir`.

    Raises:
        FileNotFoundError: no such folder.
        ResultsError: no finished run, a damaged table (with file and row), or runs whose cases do not match.
    """
    output_dir = Path(output_dir)
    if not output_dir.is_dir():
        raise FileNotFoundError(f"no folder {output_dir}: give the --output_dir of a comparison.")
    records = {}
    for path in sorted(output_dir.glob("*/fold*_seed*/finished.json")):
        record = read_record(path, Finished, error=ResultsError, way_out=WAY_OUT)
        loss, fold, seed = record.loss, record.fold, record.seed
        if path.parent != output_dir / loss / f"fold{fold}_seed{seed}":
            raise ResultsError(
                f"{path} does not name its loss, fold and seed as its folder does: remove it to repeat the run."
            )
        records[loss, fold, seed] = (path.parent, record)
    if not records:
        raise ResultsError(f"no finished run in {output_dir}: run `compare` with this --output_dir first.")
    plan = PlanRecord()
    if (output_dir / "plan.json").exists():
        plan = read_record(output_dir / "plan.json", PlanRecord, error=ResultsError, way_out=WAY_OUT)
    search = None
    if (output_dir / "search.json").exists():
        search = read_record(output_dir / "search.json", SearchRecord, error=ResultsError, way_out=WAY_OUT)
    losses = _union(plan.losses, [loss for loss, _, _ in records])
    seeds = _union(plan.seeds, sorted({seed for _, _, seed in records}))
    folds = max([plan.folds, *(fold + 1 for _, fold, _ in records)])

    tables = {key: _read_cases(folder / "evaluation" / "cases.csv") for key, (folder, _) in records.items()}
    _check_pairing(tables, records)
    _check_runs(tables, records)
    ids = sorted({case for table in tables.values() for case in table})
    at = {case: index for index, case in enumerate(ids)}
    rows_of_all = [row for table in tables.values() for row in table.values()]
    metrics = [*METRICS, *(name for name in BOUNDARIES if any(not np.isnan(row[name]) for row in rows_of_all))]
    values = {metric: np.full((len(losses), len(seeds), len(ids)), np.nan) for metric in metrics}
    fold_of = np.full((len(seeds), len(ids)), -1)
    rows: dict[str, Mapping[str, str]] = {}
    for (loss, fold, seed), table in tables.items():
        columns = [at[case] for case in table]
        fold_of[seeds.index(seed), columns] = fold
        for metric in metrics:
            values[metric][losses.index(loss), seeds.index(seed), columns] = [row[metric] for row in table.values()]
        rows.update(table)
    located = {case: row for case, row in rows.items() if row.get("image_path") and row.get("label_path")}
    epochs = {key: _read_epochs(folder / "epochs.csv") for key, (folder, _) in records.items()}
    return Results(
        losses=losses,
        folds=folds,
        seeds=seeds,
        ids=tuple(ids),
        values=values,
        fold_of=fold_of,
        undefined={m: sum(bool(np.isnan(row[m])) for row in rows_of_all) for m in METRICS},
        groups=_groups(ids, rows),
        paths={c: (Path(r["image_path"]), Path(r["label_path"])) for c, r in located.items()},
        folders={key: folder for key, (folder, _) in records.items()},
        missing=tuple(
            (loss, fold, seed)
            for seed in seeds
            for fold in range(folds)
            for loss in losses
            if (loss, fold, seed) not in records
        ),
        curves={loss: _curves([table for key, table in epochs.items() if key[0] == loss]) for loss in losses},
        seconds={key: _seconds(epochs[key], record) for key, (_, record) in records.items()},
        versions=tuple(sorted({json.dumps(record.versions) for _, record in records.values()})),
        command=plan.command,
        search=search,
    )


def _union(planned: Sequence, found: Sequence) -> tuple:
    return tuple(dict.fromkeys([*planned, *found]))


def _groups(ids: Sequence[str], rows: Mapping[str, Mapping]) -> tuple[str, ...] | None:
    """The column `group`; a case without one stands for itself, a table without any has none."""
    if not any(row.get("group") for row in rows.values()):
        return None
    return tuple(f"group {rows[case]['group']}" if rows[case].get("group") else f"case {case}" for case in ids)


def _read_cases(path: Path) -> dict[str, dict]:
    """`cases.csv` as id -> row, the metrics as numbers (empty = NaN)."""
    if not path.is_file():
        raise ResultsError(f"no {path}: remove the finished.json of this run and run `compare` again.")
    table: dict[str, dict] = {}
    way_out = "remove the finished.json of this run and run `compare` again"
    for line, row in table_rows(path, needed=("id", *METRICS), error=ResultsError, way_out=way_out):
        if not row["id"] or row["id"] in table:
            what = f"case {row['id']!r} appears twice" if row["id"] else "a case has no id"
            raise ResultsError(f"{path}, line {line}: {what}.")
        table[row["id"]] = {
            **row,
            **{name: _number(row.get(name, ""), name, path, line) for name in (*METRICS, *BOUNDARIES)},
        }
    if not table:
        raise ResultsError(f"{path} holds no case: remove the finished.json of this run and run `compare` again.")
    return table


def _number(text: str, name: str, path: Path, line: int) -> float:
    try:
        value = float(text) if text else float("nan")
    except ValueError:
        value = -1.0
    highest, words = (np.finfo(np.float64).max, "at least 0") if name in DISTANCES else (1.0, "from 0 to 1")
    if not (np.isnan(value) or 0.0 <= value <= highest):
        raise ResultsError(f"{path}, line {line}: {name} is {text!r}, not a number {words}.")
    return value


def _check_pairing(tables: Mapping[tuple[str, int, int], Mapping[str, dict]], records: Mapping) -> None:
    """Losses of one fold and seed saw the same cases, and no case is validated in two folds of a seed."""
    first: dict[tuple[int, int], tuple[str, int, int]] = {}
    home: dict[tuple[int, str], int] = {}
    for key, table in tables.items():
        _, fold, seed = key
        twin = first.setdefault((fold, seed), key)
        if odd := sorted(table.keys() ^ tables[twin].keys()):
            raise ResultsError(
                f"{records[key][0]} and {records[twin][0]} validated different cases ({odd[0]!r} and {len(odd) - 1} "
                "more are in one only): they cannot be paired, repeat one of them."
            )
        for case in table:
            if home.setdefault((seed, case), fold) != fold:
                raise ResultsError(
                    f"case {case!r} is validated in fold {home[seed, case]} and in fold {fold} of seed {seed} "
                    f"({records[key][0]}): the folds overlap."
                )


def _check_runs(tables: Mapping[tuple[str, int, int], Mapping[str, dict]], records: Mapping) -> None:
    """Each evaluation is of the run that its folder holds, where that left a run.json."""
    folders = {key: records[key][0] for key in tables if (records[key][0] / "run.json").is_file()}
    if not folders:
        return
    from monai_ext.handlers.training.evaluation import check_evaluation  # here, since it brings torch

    for key, folder in folders.items():
        loss, fold, seed = key
        settings = {"loss_name": loss, "fold": fold, "seed": seed}
        check_evaluation(folder, tables[key].keys(), settings, error=ResultsError)


def _read_epochs(path: Path) -> dict[str, NDArray[np.float64]]:
    """Columns of `epochs.csv` by epoch number; a repeated epoch (a resumed run) counts as its last row."""
    if not path.is_file():
        return {}
    rows = [row for _, row in table_rows(path, error=ResultsError, way_out="remove it: the curves are left out")]
    try:
        last = {int(float(row["epoch"])): row for row in rows}
        if not all(0 < epoch <= MOST_EPOCHS for epoch in last):
            raise ValueError("an epoch out of range")
        numbers = {
            name: np.array([float(last[epoch].get(name) or "nan") if epoch in last else np.nan for epoch in epochs])
            for epochs in [range(1, max(last, default=0) + 1)]
            for name in (*CURVES, "seconds")
        }
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ResultsError(
            f"{path} is damaged ({one_line(error)}): it needs the columns epoch, {', '.join(CURVES)}."
        ) from None
    return numbers


def _curves(runs: Sequence[Mapping[str, NDArray]]) -> dict[str, NDArray[np.float64]]:
    known = [run for run in runs if run and run["seconds"].size]
    longest = max((run["seconds"].size for run in known), default=0)
    return {
        name: np.array([np.pad(run[name], (0, longest - run[name].size), constant_values=np.nan) for run in known])
        for name in CURVES
        if known
    }


def _seconds(epochs: Mapping[str, NDArray], record: Finished) -> float:
    total = float(np.nansum(epochs.get("seconds", np.empty(0))))
    if total > 0:
        return total
    return float("nan") if record.seconds is None else record.seconds
