"""Methods for several raters, read from the evaluations of their runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from monai_ext.commands.comparison.results import ResultsError
from monai_ext.commands.statistics import mean_of_known
from monai_ext.handlers.training.evaluation import check_evaluation
from monai_ext.runtime.errors import one_line
from monai_ext.storage.files import table_rows
from monai_ext.storage.records import read_record

__all__ = ["MUST_AGREE_SETTINGS", "Method", "MethodSettings", "MethodSummary", "read_methods"]

MUST_AGREE = ("samples", "raters")
MUST_AGREE_SETTINGS = ("task", "tasks", "labels", "spatial_size", "batch_size", "part")
WAY_OUT = "run evaluate.json again"


class MethodSettings(msgspec.Struct, frozen=True):
    """Settings of a run, as far as a table shows or compares them."""

    method: str
    backbone: str | None = None
    seed: int | None = None
    task: int | None = None
    spatial_size: list[int] | None = None
    batch_size: int | None = None
    part: str | None = None
    region: str | None = None
    anonymous: bool | str = False  # as typed
    tasks: list[int] | None = None
    labels: int | list[int] | dict[str, int | list[int]] | None = None
    max_epochs: int | None = None
    tolerance: float | None = None
    pixel_size: list[float] | None = None


class MethodSummary(msgspec.Struct, frozen=True):
    """evaluation/summary.json of a method for several raters."""

    settings: MethodSettings
    parameters: int
    samples: int
    raters: list[int] | None = None
    conventions: dict[str, str] | None = None


@dataclass(frozen=True)
class Method:
    """All evaluated runs of one method; `rows`: case -> score -> mean over seeds, NaN where a score has none."""

    name: str
    parameters: int
    minutes: float  # of training, mean over its runs; NaN where epochs.csv is not there
    runs: int
    seeds: int
    sd_over_seeds: float  # of the mean QUBIQ score over the cases of all seeds; NaN of one seed
    summary: MethodSummary  # of the first run
    rows: Mapping[str, Mapping[str, float]]
    rows_by_seed: Mapping[int | None, Mapping[str, Mapping[str, float]]]


def read_methods(folders: Sequence[str | Path], *, by: Sequence[str] = ()) -> list[Method]:
    """Every evaluated run in or below `folders`, by method in the order in which they are found.

    Runs of one method with different backbones, or other values of the settings `by`, are methods of their own.

    Raises:
        FileNotFoundError: no such folder.
        ResultsError: no evaluated run; a damaged file; a case that two runs of one method and seed scored; runs that
            were not scored alike (raters, number of samples) or not trained alike (size of batches and images); an
            evaluation that does not fit its run, see `check_evaluation`; a run without a setting of `by`. Epochs may
            differ, and are shown.
    """
    found: dict[tuple[str, tuple[str, ...]], list[tuple[Path, MethodSummary]]] = {}
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise FileNotFoundError(f"no folder {folder}: give the output_dir of runs that evaluate.json has scored.")
        for path in sorted(folder.rglob("evaluation/summary.json")):
            summary = read_record(path, MethodSummary, error=ResultsError, way_out=WAY_OUT)
            key = summary.settings.method, _distinguished(path, summary, by)
            found.setdefault(key, []).append((path, summary))
    if not found:
        below = ", ".join(map(str, folders))
        raise ResultsError(f"no evaluation/summary.json below {below}: run evaluate.json of a bundle first.")
    everything = [entry for entries in found.values() for entry in entries]
    _check_alike(everything)
    return [_method(_name(key, list(found)), entries) for key, entries in found.items()]


def _distinguished(path: Path, summary: MethodSummary, by: Sequence[str]) -> tuple[str, ...]:
    """Backbone, then the values of the settings `by` in words."""
    settings = read_record(path, dict, error=ResultsError, way_out=WAY_OUT)["settings"] if by else {}
    if absent := [name for name in by if name not in settings]:
        raise ResultsError(f"{path} has no setting {absent[0]!r}, only {', '.join(settings)}: choose another --by.")
    return (summary.settings.backbone or "", *(f"{name} {settings[name]}" for name in by))


def _name(key: tuple[str, tuple[str, ...]], everything: Sequence[tuple[str, tuple[str, ...]]]) -> str:
    """The method, and in brackets what distinguishes it from others of that name."""
    method, parts = key
    others = [other for name, other in everything if name == method]
    different = [part for part, *values in zip(parts, *others, strict=True) if len(set(values)) > 1]
    return f"{method} ({', '.join(different)})" if different else method


def _check_alike(entries: Sequence[tuple[Path, MethodSummary]]) -> None:
    first_path, first = entries[0]
    for path, summary in entries[1:]:
        pairs = [(name, getattr(first, name), getattr(summary, name)) for name in MUST_AGREE]
        both = (first.settings, summary.settings)
        pairs += [(name, *(getattr(settings, name) for settings in both)) for name in MUST_AGREE_SETTINGS]
        for name, one, other in pairs:
            if one != other:
                raise ResultsError(
                    f"{first_path} has {name} = {one}, {path} has {other}: they do not compare; evaluate or train one "
                    "of them again, or give the folders of comparable runs."
                )


def _method(name: str, entries: Sequence[tuple[Path, MethodSummary]]) -> Method:
    by_seed: dict[int | None, dict[str, dict[str, float]]] = {}
    minutes = []
    for path, summary in entries:
        rows = by_seed.setdefault(summary.settings.seed, {})
        table = _read_cases(path.with_name("cases.csv"))
        settings = msgspec.to_builtins(summary.settings)
        known = {key: value for key, value in settings.items() if value is not None and key != "part"}
        check_evaluation(path.parent.parent, table.keys(), known, error=ResultsError)
        for case, values in table.items():
            if case in rows:
                raise ResultsError(
                    f"case {case!r} was scored by two runs of {name} with one seed, the second {path.parent.parent}."
                )
            rows[case] = values
        minutes.append(_training_minutes(path.parent.parent / "epochs.csv"))
    common = set.intersection(*(set(rows) for rows in by_seed.values()))
    means = [mean_of_known([rows[case]["qubiq_score"] for case in common], axis=0) for rows in by_seed.values()]
    return Method(
        name,
        parameters=entries[0][1].parameters,
        minutes=float(np.mean(minutes)),
        runs=len(entries),
        seeds=len(by_seed),
        sd_over_seeds=float(np.std(means, ddof=1)) if len(means) > 1 and common else math.nan,
        summary=entries[0][1],
        rows=_means_over_seeds(list(by_seed.values())),
        rows_by_seed=by_seed,
    )


def _means_over_seeds(seeds: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    cases = dict.fromkeys(case for rows in seeds for case in rows)
    found: dict[str, dict[str, float]] = {}
    for case in cases:
        rows = [seed[case] for seed in seeds if case in seed]
        columns = dict.fromkeys(column for row in rows for column in row)
        found[case] = {c: float(mean_of_known([row.get(c, math.nan) for row in rows], axis=0)) for c in columns}
    return found


def _read_cases(path: Path) -> dict[str, dict[str, float]]:
    if not path.is_file():
        raise ResultsError(f"no {path}: {WAY_OUT}.")
    rows = [row for _, row in table_rows(path, needed=("id", "qubiq_score"), error=ResultsError, way_out=WAY_OUT)]
    try:
        table = {row.pop("id"): {k: _number(v) for k, v in row.items()} for row in rows}
    except ValueError as error:
        raise ResultsError(f"{path} is damaged ({one_line(error)}): {WAY_OUT}.") from None
    if not table or len(table) < len(rows):
        raise ResultsError(f"{path} holds {'no case' if not table else 'a case twice'}: {WAY_OUT}.")
    return table


def _number(text: str) -> float:
    """The number in a cell; NaN of an empty one.

    Raises:
        ValueError: it is none, or infinite.
    """
    value = float(text) if text else math.nan
    if math.isinf(value):
        raise ValueError(f"{text[:20]!r} is no finite number")
    return value


def _training_minutes(path: Path) -> float:
    if not path.is_file():
        return math.nan
    way_out = "remove it, then the time of training is left out"
    rows = [row for _, row in table_rows(path, needed=("seconds",), error=ResultsError, way_out=way_out)]
    try:
        return sum(_number(row["seconds"]) for row in rows) / 60
    except ValueError as error:
        raise ResultsError(f"{path} is damaged ({one_line(error)}): {way_out}.") from None
