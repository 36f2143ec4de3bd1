"""The page of a table of methods for several raters: its tables, and a figure of means and intervals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from matplotlib.figure import Figure

from monai_ext.commands.comparison.summaries import LEVEL
from monai_ext.commands.html import Block, Heading, Picture, Table, Text
from monai_ext.commands.plotting import OKABE_ITO, plain_axis
from monai_ext.commands.scoring.published import PublishedRow
from monai_ext.commands.scoring.records import Interval, Statistic

__all__ = ["FIGURE", "SHOWN", "MethodRow", "MethodTable", "Pair", "table_blocks", "table_figure"]

SHOWN = {
    "qubiq_score": "QUBIQ score ↑",
    "dice": "Dice with raters ↑",
    "hd95": "HD95 ↓",
    "surface_dice": "Surface Dice ↑",
    "cldice": "clDice ↑",
    "generalized_energy_distance": "Energy distance² ↓",
    "hungarian_iou": "Hungarian IoU ↑",
    "sample_diversity": "Diversity",
    "own_head_gain": "Own head less others ↑",
    "uncertainty_ncc": "Correlation with disagreement ↑",
    "ece": "ECE, raters ↓",
    "ece_consensus": "ECE, shares ↓",
    "brier_consensus": "Brier, shares ↓",
}
FIRST = ("qubiq_score", "dice", "generalized_energy_distance", "hungarian_iou", "sample_diversity")  # before the cost
FIGURE = ("qubiq_score", "generalized_energy_distance", "hungarian_iou")


class MethodRow(msgspec.Struct, frozen=True, kw_only=True):
    """A method in table.json.

    `training_minutes`: mean over its runs; `sd_over_seeds`: of the mean QUBIQ score; `diversity_of_raters`: diversity
    of the samples as a multiple of that of the raters.
    """

    method: str
    runs: int
    seeds: int
    sd_over_seeds: float | None
    parameters: int
    epochs: int | None
    training_minutes: float | None
    diversity_of_raters: float | None
    too_diverse: bool


class Pair(Interval, frozen=True, kw_only=True):
    """Two methods: `mean` of the first minus the second in a score, over the cases that both have.

    `by_seed`: the same for each seed that both have.
    """

    first: str
    second: str
    p_holm: float | None
    rank_biserial: float | None
    claimed: bool
    by_seed: list[float]


class MethodTable(msgspec.Struct, frozen=True, kw_only=True):
    """table.json; `scores` and `first_in_qubiq_score` have a value for each method, best QUBIQ score first.

    `against_best`: by score, each method less the best one; `pairs`: every two methods in QUBIQ score.
    """

    cases: int
    group: str | None  # regular expression of what the bootstrap draws; None: cases
    samples: int
    raters: list[int] | None
    settings: dict[str, Any]
    methods: list[MethodRow]
    scores: dict[str, list[Interval]]
    first_in_qubiq_score: list[float | None]
    against_best: dict[str, list[Pair]]
    pairs: list[Pair]
    rater_row: dict[str, Statistic] | None
    rater_row_cases: int | None
    published: list[PublishedRow]
    notes: list[str]
    conventions: dict[str, str] | None


def table_blocks(table: MethodTable, picture: Path) -> list[Block]:
    """The page, with the figure at `picture`."""
    settings = table.settings
    names = [entry.method for entry in table.methods]
    budget = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in settings.items() if value is not None)
    blocks: list[Block] = [
        Heading("Methods for several raters", 1),
        Text(
            f"{len(names)} methods, {table.cases} cases, {table.samples} samples for scores of sets. The "
            f"same for all: {budget}. Mean over cases and 95 % interval (percentile bootstrap over "
            + ("cases)." if table.group is None else f"groups of cases, by {table.group!r} in their names).")
        ),
        _main_table(table, names),
    ]
    if table.notes:
        blocks.append(Text(*table.notes))
    if table.published:
        blocks.append(_published_table(table.published))
    if any(table.against_best.values()):
        blocks.append(_best_table(table, names))
    if table.raters:
        blocks.append(_rater_table(table, names))
    blocks.append(Picture(picture, "Mean and 95 % interval over cases; dashed: raters among themselves."))
    if table.pairs:
        blocks.append(_pair_table(table.pairs))
    lines = [f"{name}: {text}" for name, text in (table.conventions or {}).items()]
    return [*blocks, Heading("How the numbers are made"), Text(*lines)] if lines else blocks


def _main_table(table: MethodTable, names: Sequence[str]) -> Table:
    shown = [column for column in SHOWN if column in table.scores]
    first, further = ([column for column in shown if (column in FIRST) == wanted] for wanted in (True, False))
    cost = ("Parameters", "Minutes", "Epochs", "Seeds", "Cases")
    header = ("Method", *(SHOWN[column] for column in first), *cost, *(SHOWN[column] for column in further))
    rows = []
    for index, entry in enumerate(table.methods):
        minutes = entry.training_minutes
        cells = {column: _cell(table.scores[column][index]) for column in shown}
        if entry.diversity_of_raters is not None:
            share = f"{entry.diversity_of_raters:.0%} of raters'"
            cells["sample_diversity"] += f"\n{share},\ntoo diverse" if entry.too_diverse else f"\n{share}"
        rows.append(
            (
                names[index],
                *(cells[column] for column in first),
                f"{entry.parameters:,}",
                "-" if minutes is None else f"{minutes:.1f}",
                "-" if entry.epochs is None else str(entry.epochs),
                str(entry.seeds) if entry.sd_over_seeds is None else f"{entry.seeds} (sd {entry.sd_over_seeds:.4f})",
                str(table.scores["qubiq_score"][index].cases),
                *(cells[column] for column in further),
            )
        )
    if table.rater_row is not None:
        other = {name: f"{name}_each_rater" for name in ("dice", "hd95", "surface_dice", "cldice")}
        size = "-" if table.rater_row_cases is None else str(table.rater_row_cases)
        known = {column: _cell(table.rater_row.get(other.get(column, column))) for column in shown}
        row = ("one more rater", *(known[c] for c in first), *"----", size, *(known[c] for c in further))
        rows.append(row)
    return Table("Scores by method, best QUBIQ score first", header, rows)


def _published_table(published: Sequence[PublishedRow]) -> Table:
    columns = list(dict.fromkeys(column for row in published for column in row.scores))
    header = ("Published", *(SHOWN.get(column, column) for column in columns), "Protocol", "Source")
    rows = [
        (row.method, *(f"{row.scores[c]:g}" if c in row.scores else "-" for c in columns), row.protocol, row.source)
        for row in published
    ]
    return Table("Published figures, which compare only where the protocol is that of this table", header, rows)


def _best_table(table: MethodTable, names: Sequence[str]) -> Table:
    """Each method less the best one of a score."""
    columns = [column for column, pairs in table.against_best.items() if pairs]
    rows = []
    for name in names:
        cells = []
        for column in columns:
            pair = next((pair for pair in table.against_best[column] if pair.first == name), None)
            cells.append("best" if pair is None else _difference(pair))
        rows.append((name, *cells))
    caption = (
        "Method less the best one in each score, over the cases and seeds of both, with 95 % interval; p: Wilcoxon "
        "signed-rank test, after Holm over the methods of a column"
    )
    return Table(caption, ("Method", *(SHOWN[column] for column in columns)), rows)


def _difference(pair: Pair) -> str:
    if pair.mean is None:
        return "-"
    interval = "" if pair.low is None else f"\n({pair.low:+.3f} to {pair.high:+.3f})"
    return f"{pair.mean:+.3f}{interval}" + ("" if pair.p_holm is None else f"\np = {pair.p_holm:.2g}")


def _rater_table(table: MethodTable, names: Sequence[str]) -> Table:
    columns = {f"dice_rater{n:02d}": f"Rater {n}" for n in table.raters or ()}
    columns = {name: title for name, title in columns.items() if name in table.scores}
    header = ("Method", *columns.values())
    rows = [(name, *(_cell(table.scores[c][i]) for c in columns)) for i, name in enumerate(names)]
    return Table("Hard Dice with each rater; of the rater's own head where a method has heads", header, rows)


def _pair_table(pairs: Sequence[Pair]) -> Table:
    header = (
        "First - second",
        "Difference in QUBIQ score",
        "95 % interval",
        "p (Holm)",
        "Rank-biserial",
        "Claim",
        "By seed",
    )
    rows = []
    for pair in pairs:
        p = "-" if pair.p_holm is None else f"{pair.p_holm:.3g}"
        interval = "-" if pair.low is None else f"{pair.low:+.4f} to {pair.high:+.4f}"
        mean = "-" if pair.mean is None else f"{pair.mean:+.4f}"
        effect = "-" if pair.rank_biserial is None else f"{pair.rank_biserial:+.2f}"
        title = f"{pair.first} - {pair.second}"
        seeds = ", ".join(f"{value:+.4f}" for value in pair.by_seed) or "-"
        rows.append((title, mean, interval, p, effect, "yes" if pair.claimed else "no", seeds))
    caption = (
        "Every pair on the cases that both have; Wilcoxon signed-rank test, adjusted after Holm; claimed where "
        f"p < {LEVEL} and the interval of the mean excludes zero on the side of the rank-biserial correlation"
    )
    return Table(caption, header, rows)


def table_figure(table: MethodTable) -> Figure:
    """Mean and interval of each method in the main scores, beside the raters' own."""
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
        plain_axis(axis, grid="x")
        axis.spines["left"].set_visible(False)
    return figure


def _cell(score: Interval | None) -> str:
    if score is None or score.mean is None:
        return "-"
    has_interval = score.low is not None and score.high is not None
    return f"{score.mean:.3f}" + (f"\n({score.low:.3f}-{score.high:.3f})" if has_interval else "")
