"""`rater_table`: one table of methods for several raters, from the evaluations of their runs."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from monai_ext.commands.command_line import Computed, Paths
from monai_ext.commands.comparison.results import ResultsError
from monai_ext.commands.comparison.summaries import LEVEL, is_claimed
from monai_ext.commands.html import Block, Heading, Picture, Table, Text, html_page, markdown_page
from monai_ext.commands.plotting import OKABE_ITO, save_figure
from monai_ext.commands.scoring.rater_row import rater_row
from monai_ext.commands.scoring.records import Interval, Statistic
from monai_ext.commands.scoring.summaries import group_labels
from monai_ext.commands.statistics import (
    bootstrap_interval,
    mean_of_known,
    paired_wilcoxon_holm,
    pairwise_differences,
    probability_of_first,
)
from monai_ext.runtime.errors import one_line
from monai_ext.runtime.run_log import tell
from monai_ext.storage.files import table_rows, write_text
from monai_ext.storage.records import read_record, write_record

__all__ = ["Method", "MethodTable", "RaterTableOptions", "rater_table", "read_methods", "run"]

SHOWN = {
    "qubiq_score": "QUBIQ score ↑",
    "dice": "Dice with raters ↑",
    "generalized_energy_distance": "Energy distance² ↓",
    "hungarian_iou": "Hungarian IoU ↑",
    "sample_diversity": "Diversity",
    "own_head_gain": "Own head less others ↑",
    "uncertainty_ncc": "Correlation with disagreement ↑",
    "ece": "ECE, raters ↓",
    "ece_consensus": "ECE, shares ↓",
    "brier_consensus": "Brier, shares ↓",
}
FIGURE = ("qubiq_score", "generalized_energy_distance", "hungarian_iou")
MUST_AGREE = ("samples", "raters")
TOO_DIVERSE = 1.3  # times the diversity of the raters
WAY_OUT = "run evaluate.json again"
MUST_AGREE_SETTINGS = ("task", "spatial_size", "batch_size", "part")


class MethodSettings(msgspec.Struct, frozen=True):
    """Settings of a run, as far as a table shows or compares them."""

    method: str
    backbone: str | None = None
    seed: int | None = None
    task: int | None = None
    spatial_size: list[int] | None = None
    batch_size: int | None = None
    part: str | None = None
    max_epochs: int | None = None


class MethodSummary(msgspec.Struct, frozen=True):
    """evaluation/summary.json of a method for several raters."""

    settings: MethodSettings
    parameters: int
    samples: int
    raters: list[int] | None = None
    conventions: dict[str, str] | None = None


class MethodRow(msgspec.Struct, frozen=True, kw_only=True):
    """A method in table.json.

    `training_minutes`: mean over its runs; `sd_over_seeds`: of the mean QUBIQ score.
    """

    method: str
    runs: int
    seeds: int
    sd_over_seeds: float | None
    parameters: int
    epochs: int | None
    training_minutes: float | None


class Pair(Interval, frozen=True, kw_only=True):
    """Two methods: `mean` of the first minus the second in QUBIQ score, over the cases that both have."""

    first: str
    second: str
    p_holm: float | None
    rank_biserial: float | None
    claimed: bool


class MethodTable(msgspec.Struct, frozen=True, kw_only=True):
    """table.json; `scores` and `first_in_qubiq_score` have a value for each method."""

    cases: int
    samples: int
    raters: list[int] | None
    settings: dict[str, Any]
    methods: list[MethodRow]
    scores: dict[str, list[Interval]]
    first_in_qubiq_score: list[float | None]
    pairs: list[Pair]
    rater_row: dict[str, Statistic] | None
    rater_row_cases: int | None
    notes: list[str]
    conventions: dict[str, str] | None


@dataclass(frozen=True)
class Method:
    """All evaluated runs of one method; `rows`: case -> score -> mean over seeds, NaN where a score has none."""

    name: str
    parameters: int
    minutes: float  # of training, mean over its runs; NaN where epochs.csv is not there
    runs: int
    seeds: int
    sd_over_seeds: float  # of the mean QUBIQ score; NaN of one seed
    summary: MethodSummary  # of the first run
    rows: Mapping[str, Mapping[str, float]]


def read_methods(folders: Sequence[str | Path]) -> list[Method]:
    """Every evaluated run in or below `folders`, by method in the order in which they are found.

    Runs of one method with different backbones are methods of their own.

    Raises:
        FileNotFoundError: no such folder.
        ResultsError: no evaluated run; a damaged file; a case that two runs of one method and seed scored; runs that
            were not scored alike (raters, number of samples) or not trained alike (size of batches and images).
            Epochs may differ, and are shown.
    """
    found: dict[tuple[str, str | None], list[tuple[Path, MethodSummary]]] = {}
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise FileNotFoundError(f"no folder {folder}: give the output_dir of runs that evaluate.json has scored.")
        for path in sorted(folder.rglob("evaluation/summary.json")):
            summary = read_record(path, MethodSummary, error=ResultsError, way_out=WAY_OUT)
            found.setdefault((summary.settings.method, summary.settings.backbone), []).append((path, summary))
    if not found:
        raise ResultsError(f"no evaluation/summary.json below {_listed(folders)}: run evaluate.json of a bundle first.")
    everything = [entry for entries in found.values() for entry in entries]
    _check_alike(everything)
    several = Counter(method for method, _ in found)
    return [_method(m if several[m] == 1 else f"{m} ({part})", entries) for (m, part), entries in found.items()]


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
        for case, values in _read_cases(path.with_name("cases.csv")).items():
            if case in rows:
                raise ResultsError(
                    f"case {case!r} was scored by two runs of {name} with one seed, the second {path.parent.parent}."
                )
            rows[case] = values
        minutes.append(_training_minutes(path.parent.parent / "epochs.csv"))
    means = [mean_of_known([row["qubiq_score"] for row in rows.values()], axis=0) for rows in by_seed.values()]
    return Method(
        name,
        parameters=entries[0][1].parameters,
        minutes=float(np.mean(minutes)),
        runs=len(entries),
        seeds=len(by_seed),
        sd_over_seeds=float(np.std(means, ddof=1)) if len(means) > 1 else math.nan,
        summary=entries[0][1],
        rows=_means_over_seeds(list(by_seed.values())),
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


class Draw(NamedTuple):
    """What the bootstrap draws, and how often."""

    groups: list[str] | None
    resamples: int
    seed: int


@dataclass(frozen=True)
class RaterTableOptions:
    """Write one table of methods for several raters, from the evaluations of their runs.

    Each run folder holds what evaluate.json of the bundles qubiq_holistic and prob_unet wrote: evaluation/summary.json
    and evaluation/cases.csv. Folds of one method are put together, seeds are averaged case by case. Every mean has a
    bootstrap interval over cases, and each pair of methods is compared on the cases that both have.
    """

    runs: Paths
    """folders of runs, or folders above several"""
    output_dir: Path
    """for table.md, table.html, table.json and scores.png"""
    rater_scores: Computed[Path | None] = None
    """scores.json of `score` on the same cases and task: adds the raters' row"""
    group: Computed[str | None] = None
    """regular expression: cases with the same match are drawn together, such as those of a patient (each case)"""
    resamples: int = 10_000
    """of the bootstrap"""
    seed: int = 0
    """of the bootstrap"""


def rater_table(options: RaterTableOptions) -> MethodTable:
    """Write table.md, table.html, table.json and scores.png; returns what table.json holds.

    In the raters' row, scores of sets are left out where its sets have another number of masks than those of the
    runs.

    Raises:
        FileNotFoundError, ResultsError: see `read_methods`; or `rater_scores` is no such file, or lacks the task of the
            runs.
        ValueError: a case's name does not match `group`.
    """
    methods, output_dir = read_methods(options.runs), options.output_dir
    cases = sorted({case for method in methods for case in method.rows})
    groups = group_labels(cases, options.group)
    columns = list(dict.fromkeys(name for method in methods for row in method.rows.values() for name in row))
    draw = Draw(groups, options.resamples, options.seed)
    values = {c: np.array([[m.rows.get(k, {}).get(c, math.nan) for k in cases] for m in methods]) for c in columns}
    summary = methods[0].summary
    ceiling = None
    if options.rater_scores is not None:
        ceiling = rater_row(options.rater_scores, task=summary.settings.task, samples=summary.samples, cases=len(cases))
    first = probability_of_first(values["qubiq_score"], **draw._asdict())
    table = MethodTable(
        cases=len(cases),
        samples=summary.samples,
        raters=summary.raters,
        settings={name: getattr(summary.settings, name) for name in MUST_AGREE_SETTINGS},
        methods=[
            MethodRow(
                method=m.name,
                runs=m.runs,
                seeds=m.seeds,
                sd_over_seeds=_known(m.sd_over_seeds),
                parameters=m.parameters,
                epochs=m.summary.settings.max_epochs,
                training_minutes=_known(m.minutes),
            )
            for m in methods
        ],
        scores={column: _intervals(values[column], draw) for column in columns},
        first_in_qubiq_score=[_known(value) for value in first],
        pairs=_pairs([m.name for m in methods], values["qubiq_score"], draw),
        rater_row=None if ceiling is None else dict(ceiling.scores),
        rater_row_cases=None if ceiling is None else ceiling.cases,
        notes=[*_notes_on_cases(methods), *_notes_on_diversity(methods), *(() if ceiling is None else ceiling.notes)],
        conventions=summary.conventions,
    )
    picture = save_figure(_figure(table), output_dir / "scores.png")
    blocks = _blocks(table, picture)
    write_record(output_dir / "table.json", table)
    write_text(output_dir / "table.md", markdown_page(blocks))
    write_text(output_dir / "table.html", html_page(blocks, title="Methods for several raters"))
    return table


def _intervals(values: NDArray[np.float64], draw: Draw) -> list[Interval]:
    low, high = bootstrap_interval(values, **draw._asdict())
    means, counts = mean_of_known(values, axis=1), (~np.isnan(values)).sum(axis=1)
    numbers = zip(means.tolist(), low.tolist(), high.tolist(), counts.tolist(), strict=True)
    return [Interval(mean=_known(m), low=_known(lo), high=_known(hi), cases=n) for m, lo, hi, n in numbers]


def _pairs(names: Sequence[str], values: NDArray[np.float64], draw: Draw) -> list[Pair]:
    pairs, differences = pairwise_differences(values[:, None])
    if not pairs:
        return []
    tests = paired_wilcoxon_holm(differences, groups=draw.groups)
    found = []
    for i, (interval, (a, b)) in enumerate(zip(_intervals(differences, draw), pairs, strict=True)):
        low, high = (math.nan if side is None else side for side in (interval.low, interval.high))
        found.append(
            Pair(
                first=names[a],
                second=names[b],
                p_holm=_known(float(tests.p_holm[i])),
                rank_biserial=_known(float(tests.rank_biserial[i])),
                claimed=is_claimed(tests.p_holm[i], tests.rank_biserial[i], low=low, high=high),
                **msgspec.structs.asdict(interval),
            )
        )
    return found


def _notes_on_cases(methods: Sequence[Method]) -> list[str]:
    """A sentence where not all methods have a QUBIQ score of the same cases."""
    known = [{case for case, row in m.rows.items() if not math.isnan(row["qubiq_score"])} for m in methods]
    if all(cases == known[0] for cases in known):
        return []
    counts = ", ".join(f"{method.name} {len(cases)}" for method, cases in zip(methods, known, strict=True))
    return [
        f"Not all methods were scored on the same cases ({counts}; {len(set.intersection(*known))} are common to all). "
        "Means over different cases do not compare; differences use the cases that both methods of a pair have."
    ]


def _notes_on_diversity(methods: Sequence[Method]) -> list[str]:
    """A sentence for each method whose samples differ much more than the raters' masks, which lowers its distance."""
    notes = []
    for method in methods:
        pairs = [
            (row.get("sample_diversity", math.nan), row.get("rater_diversity", math.nan))
            for row in method.rows.values()
        ]
        ours, raters = mean_of_known(pairs, axis=0).tolist()
        if ours > TOO_DIVERSE * raters:
            notes.append(
                f"{method.name}: diversity {ours:.3f} is more than {TOO_DIVERSE:g} times that of the raters, "
                f"{raters:.3f}; such sets can have a low energy distance without being right."
            )
    return notes


def _blocks(table: MethodTable, picture: Path) -> list[Block]:
    settings = table.settings
    names = [entry.method for entry in table.methods]
    budget = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in settings.items() if value is not None)
    blocks: list[Block] = [
        Heading("Methods for several raters", 1),
        Text(
            f"{len(names)} methods, {table.cases} cases, {table.samples} samples for scores of sets. The "
            f"same for all: {budget}. Mean over cases and 95 % interval (percentile bootstrap over cases)."
        ),
        _main_table(table, names),
    ]
    if table.notes:
        blocks.append(Text(*table.notes))
    if table.raters:
        blocks.append(_rater_table(table, names))
    blocks.append(Picture(picture, "Mean and 95 % interval over cases; dashed: raters among themselves."))
    if table.pairs:
        blocks.append(_pair_table(table.pairs))
    lines = [f"{name}: {text}" for name, text in (table.conventions or {}).items()]
    return [*blocks, Heading("How the numbers are made"), Text(*lines)] if lines else blocks


def _main_table(table: MethodTable, names: Sequence[str]) -> Table:
    shown = [column for column in SHOWN if column in table.scores]
    header = ("Method", "Parameters", "Epochs", "Minutes", "Seeds", "Cases", *(SHOWN[column] for column in shown))
    rows = []
    for index, entry in enumerate(table.methods):
        minutes = entry.training_minutes
        rows.append(
            (
                names[index],
                f"{entry.parameters:,}",
                "-" if entry.epochs is None else str(entry.epochs),
                "-" if minutes is None else f"{minutes:.1f}",
                str(entry.seeds) if entry.sd_over_seeds is None else f"{entry.seeds} (sd {entry.sd_over_seeds:.4f})",
                str(table.scores["qubiq_score"][index].cases),
                *(_cell(table.scores[column][index]) for column in shown),
            )
        )
    if table.rater_row is not None:
        raters, cases = table.rater_row, table.rater_row_cases
        other = {"dice": "dice_each_rater"}
        size = "-" if cases is None else str(cases)
        rows.append(("one more rater", "-", "-", "-", "-", size, *(_cell(raters.get(other.get(c, c))) for c in shown)))
    return Table("Scores by method", header, rows)


def _rater_table(table: MethodTable, names: Sequence[str]) -> Table:
    columns = {f"dice_rater{n:02d}": f"Rater {n}" for n in table.raters or ()}
    columns = {name: title for name, title in columns.items() if name in table.scores}
    header = ("Method", *columns.values())
    rows = [(name, *(_cell(table.scores[c][i]) for c in columns)) for i, name in enumerate(names)]
    return Table("Hard Dice with each rater; of the rater's own head where a method has heads", header, rows)


def _pair_table(pairs: Sequence[Pair]) -> Table:
    header = ("First - second", "Difference in QUBIQ score", "95 % interval", "p (Holm)", "Rank-biserial", "Claim")
    rows = []
    for pair in pairs:
        p = "-" if pair.p_holm is None else f"{pair.p_holm:.3g}"
        interval = "-" if pair.low is None else f"{pair.low:+.4f} to {pair.high:+.4f}"
        mean = "-" if pair.mean is None else f"{pair.mean:+.4f}"
        effect = "-" if pair.rank_biserial is None else f"{pair.rank_biserial:+.2f}"
        title = f"{pair.first} - {pair.second}"
        rows.append((title, mean, interval, p, effect, "yes" if pair.claimed else "no"))
    caption = (
        "Every pair on the cases that both have; Wilcoxon signed-rank test, adjusted after Holm; claimed where "
        f"p < {LEVEL} and the interval of the mean excludes zero on the side of the rank-biserial correlation"
    )
    return Table(caption, header, rows)


def _figure(table: MethodTable) -> Figure:
    names = [entry.method for entry in table.methods]
    figure = Figure(figsize=(10.5, 1.2 + 0.3 * len(names)), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(FIGURE), sharey=True))
    for axis, column in zip(axes, FIGURE, strict=True):
        for place, score in enumerate(table.scores.get(column, ())):
            if score.mean is None:
                continue
            colour = OKABE_ITO[place % (len(OKABE_ITO) - 2)]
            axis.plot([score.low, score.high], [place, place], color=colour, linewidth=2)
            axis.plot(score.mean, place, "o", color=colour, markersize=6)
        raters = (table.rater_row or {}).get(column)
        if raters is not None and raters.mean is not None:
            axis.axvline(raters.mean, color="#666666", linestyle="--", linewidth=1)
        axis.set_title(SHOWN[column].replace("↑", "(higher is better)").replace("↓", "(lower is better)"), fontsize=9)
        axis.set_yticks(range(len(names)), names)
        axis.set_ylim(len(names) - 0.5, -0.5)
        axis.tick_params(axis="y", length=0)
        axis.grid(axis="x", color="#dddddd", linewidth=0.6)
        axis.spines[["top", "right", "left"]].set_visible(False)
    return figure


def _cell(score: Interval | None) -> str:
    if score is None or score.mean is None:
        return "-"
    has_interval = score.low is not None and score.high is not None
    return f"{score.mean:.3f}" + (f" ({score.low:.3f}-{score.high:.3f})" if has_interval else "")


def _known(value: float) -> float | None:
    """JSON has no NaN."""
    return None if math.isnan(value) else float(value)


def _listed(folders: Sequence[str | Path]) -> str:
    return ", ".join(map(str, folders))


def run(options: RaterTableOptions) -> int:
    """`python -m monai_ext rater_table`."""
    rater_table(options)
    sys.stdout.write((options.output_dir / "table.md").read_text(encoding="utf-8"))
    tell(f"table: {options.output_dir / 'table.html'}")
    return 0
