"""The report of a comparison: tables, intervals, paired tests in words, and figures, from the runs' per-case tables.

Written again from scratch each time; runs that are missing are named, never filled in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from monai_ext.commands.command_line import Computed, Positional
from monai_ext.commands.comparison.figures import (
    CaseRow,
    case_figure,
    curve_figure,
    dice_figure,
    pair_figure,
)
from monai_ext.commands.comparison.records import SearchRecord
from monai_ext.commands.comparison.results import BOUNDARIES, DISTANCES, METRICS, Results, read_results
from monai_ext.commands.comparison.summaries import (
    LEVEL,
    LossSummary,
    PairSummary,
    equal_to_p,
    loss_summaries,
    p_in_words,
    pair_summaries,
    write_tables,
)
from monai_ext.commands.html import Block, Heading, Picture, Table, Text, html_page, markdown_page
from monai_ext.commands.plotting import colours_of
from monai_ext.commands.statistics import mean_of_known
from monai_ext.runtime.run_log import progress, tell
from monai_ext.storage.files import remove_leftovers, write_text
from monai_ext.storage.pictures import save_figure

__all__ = ["ReportOptions", "report", "run"]

LABELS = {"bce": "BCE", "dice": "Dice", "tversky": "Tversky", "jaccard": "Jaccard", "dice_bce": "BCE + Dice"}
MAIN = ("dice", "jaccard", "precision")
# Dice, Jaccard, "precision" in %, mean and sd of five folds, as printed by the research report (IIT Bombay, May 2022).
REPORTED = {
    "bce": ((92.55, 1.29), (86.67, 1.99), (88.31, 1.54)),
    "dice": ((92.82, 1.50), (87.13, 2.36), (88.71, 2.00)),
    "tversky": ((92.56, 1.59), (86.69, 2.49), (88.43, 2.06)),
    "jaccard": ((92.49, 1.70), (86.63, 2.61), (88.39, 1.93)),
    "dice_bce": ((92.80, 1.47), (87.11, 2.27), (88.74, 1.86)),
}
QUANTILES = (1.0, 0.75, 0.5, 0.25, 0.1, 0.0)  # of the cases with maps, by mean Dice over the losses: best to worst


@dataclass(frozen=True)
class ReportOptions:
    """Write the report of a comparison: tables, intervals, paired tests in words, and figures.

    It is written again from scratch each time; runs that are missing are named, never filled in.
    """

    comparison: Positional[Path]
    """the --output_dir of a comparison"""
    output_dir: Computed[Path | None] = None
    """folder of the report (COMPARISON/report)"""
    reported: bool = False
    """show what the research report (IIT Bombay, May 2022) printed for these losses, of a comparison that repeats it"""


def report(output_dir: str | Path, output: str | Path | None = None, *, reported: bool = False) -> Path:
    """Write report.md, report.html, figures and tables of a comparison; returns the path of report.html.

    Args:
        output_dir: where `compare` worked.
        output: the report's folder; default `output_dir/report`.
        reported: add the figures of the research report that has compared these losses.

    Raises:
        FileNotFoundError, ResultsError: see `read_results`.
    """
    output_dir = Path(output_dir)
    output = Path(output) if output is not None else output_dir / "report"
    results = read_results(output_dir)
    remove_leftovers(output)
    losses = {metric: loss_summaries(results, metric) for metric in progress(results.values, "intervals", "score")}
    pairs = {metric: pair_summaries(results, metric) for metric in progress(MAIN, "tests", "score")}
    write_tables(output, results, losses, pairs)
    blocks = _blocks(output, results, losses, pairs, reported=reported)
    write_text(output / "report.md", markdown_page(blocks))
    write_text(output / "report.html", html_page(blocks, title="Comparison of losses"))
    return output / "report.html"


def _blocks(
    output: Path,
    results: Results,
    losses: Mapping[str, list[LossSummary]],
    pairs: Mapping[str, list[PairSummary]],
    *,
    reported: bool,
) -> list[Block]:
    names = {s.loss: LABELS.get(s.loss, s.loss) for s in losses["dice"]}
    colours = colours_of(results.losses)
    dice = mean_of_known(results.values["dice"], axis=1)
    per_case = {loss: dice[i][~np.isnan(dice[i])] for i, loss in enumerate(results.losses)}
    blocks: list[Block] = [Heading("Comparison of losses", 1)]
    blocks += _overview(results, names, losses["dice"], pairs["dice"])
    blocks += [Heading("Mean over folds"), *_fold_tables(results, names, losses), *_seed_table(results, names, losses)]
    blocks += [*_search_table(results.search, names), *(_reported(names) if reported else ())]
    blocks += [Heading("Intervals over cases, and ranking first"), _interval_table(names, losses)]
    path = save_figure(dice_figure(per_case, names, colours), output / "dice.png")
    blocks.append(Picture(path, "Dice of every case (mean over seeds): box = quartiles, number = median."))
    if pairs["dice"]:
        blocks += [Heading("Pairs of losses"), *_pair_blocks(output, results, names, pairs["dice"])]
    blocks += [Heading("Cases"), *_case_blocks(output, results, names, colours, dice)]
    if any(curves for curves in results.curves.values()):
        path = save_figure(curve_figure(results.curves, names, colours), output / "curves.png")
        caption = "Training loss and validation Dice per epoch: line = mean of the runs, band = lowest to highest run."
        blocks += [Heading("Training"), Picture(path, caption)]
    return [*blocks, Heading("How the numbers are made"), *_method(results)]


def _reported(names: Mapping[str, str]) -> list[Block]:
    known = [loss for loss in names if loss in REPORTED]
    if not known:
        return []
    rows = [[names[loss], *(f"{mean:.2f} ± {sd:.2f}" for mean, sd in REPORTED[loss])] for loss in known]
    header = ("Loss (reported)", *(METRICS[metric] for metric in MAIN))
    return [
        Table("Reported, not ours: mean ± standard deviation over five folds, %", header, rows),
        Text(
            "Reported: printed by the research report (IIT Bombay, May 2022) whose comparison is repeated here, on its "
            "own data and by its own protocol. Its precision lies below its Dice under every loss, which is the mark "
            "of an average precision of two binary masks with swapped arguments: set it beside our legacy average "
            "precision, not beside our precision."
        ),
    ]


def _overview(
    results: Results, names: Mapping[str, str], dice: Sequence[LossSummary], pairs: Sequence[PairSummary]
) -> list[Block]:
    done, planned = len(results.folders), len(results.folders) + len(results.missing)
    hours = np.nansum(list(results.seconds.values())) / 3600
    best = max(dice, key=lambda s: s.case_mean)
    lines = [
        f"{_count(len(names), 'loss', 'losses')}, {_count(results.folds, 'fold')}, "
        f"{_count(len(results.seeds), 'seed')}; {done} of {planned} runs finished, "
        f"{_count(len(results.ids), 'case')}, {hours:.2f} hours of training in all.",
        f"Highest mean Dice over cases: {names[best.loss]}, {_percent(best.case_mean)} % "
        f"(95 % interval {_percent(best.low)} to {_percent(best.high)})"
        + (f"; it ranks first in {_percent(best.first, 0)} % of bootstrap resamples." if len(dice) > 1 else "."),
    ]
    if pairs:
        claims = sum(pair.claimed for pair in pairs)
        lines.append(f"Pairs of losses for which a difference in Dice can be claimed: {claims} of {len(pairs)}.")
    blocks: list[Block] = [Text(*lines)]
    if results.missing:
        missing = [f"{LABELS.get(loss, loss)}, fold {fold}, seed {seed}" for loss, fold, seed in results.missing]
        more = f" and {len(missing) - 12} more" if len(missing) > 12 else ""
        blocks.append(
            Text(
                f"Incomplete: {len(missing)} of {planned} runs are missing ({'; '.join(missing[:12])}{more}). Means "
                "over different folds do not compare; differences use the cases that both losses of a pair have."
            )
        )
    if len(results.versions) > 1:
        blocks.append(Text(f"The runs were made with different software: {' and '.join(results.versions)}."))
    return blocks


def _fold_tables(results: Results, names: Mapping[str, str], losses: Mapping[str, list[LossSummary]]) -> list[Block]:
    def cell(summary: LossSummary) -> str:
        mean, sd = summary.by_fold.mean, summary.by_fold.sd
        return f"{mean:.2f} ± {sd:.2f}" if summary.metric in DISTANCES else f"{_percent(mean)} ± {_percent(sd)}"

    by_loss = {loss: {m: s for m, of_all in losses.items() for s in of_all if s.loss == loss} for loss in names}
    labels = METRICS | BOUNDARIES
    further = [metric for metric in losses if metric not in (*MAIN, *DISTANCES)]
    tables = [("Dice, Jaccard, precision", MAIN, "%"), ("Further metrics", further, "%")]
    if distances := [metric for metric in DISTANCES if metric in losses]:
        tables.append(("Distances between boundaries", distances, "pixels, lower is better"))
    blocks: list[Block] = []
    for caption, metrics, unit in tables:
        header = ("Loss", *(labels[metric] for metric in metrics), "Cases", "Folds", "Seeds")
        rows = []
        for loss, found in by_loss.items():
            size = found["dice"]
            cells = [cell(found[metric]) if metric in found else "–" for metric in metrics]
            rows.append([names[loss], *cells, str(size.cases), str(size.by_fold.folds), str(size.by_fold.seeds)])
        blocks.append(Table(f"{caption}: mean ± standard deviation over folds, {unit}", header, rows))
    return blocks


def _seed_table(results: Results, names: Mapping[str, str], losses: Mapping[str, list[LossSummary]]) -> list[Block]:
    if len(results.seeds) < 2:
        return [
            Text(
                "One seed: the spread between trainings of one fold was not measured. What is claimed below holds for "
                "these trained models; small differences may turn with another seed."
            )
        ]
    header = ("Loss", *(f"Seed {seed}" for seed in results.seeds), "Standard deviation")
    rows = [
        [names[s.loss], *(_percent(mean) for mean in s.by_fold.seed_means), _percent(s.by_fold.seed_sd)]
        for s in losses["dice"]
    ]
    return [Table("Dice by seed: mean over the folds that all measured seeds of a loss have, %", header, rows)]


def _search_table(search: SearchRecord | None, names: Mapping[str, str]) -> list[Block]:
    if search is None:
        return []
    rows = []
    for loss in (loss for loss in names if loss in search.chosen):
        cells = zip(search.values, search.dice[loss], strict=True)
        rows.append(
            [
                names[loss],
                *(_percent(dice) + (" (chosen)" if value == search.chosen[loss] else "") for value, dice in cells),
            ]
        )
    return [
        Table(f"{search.setting}, chosen on fold 0 by mean Dice over its cases, %", ("Loss", *search.values), rows),
        Text(
            "In all other tables fold 0 is scored with the values that were best on it, so its scores are optimistic; "
            "the other folds had no part in the choice."
        ),
    ]


def _interval_table(names: Mapping[str, str], losses: Mapping[str, list[LossSummary]]) -> Table:
    header = ("Loss", *(f"{METRICS[m]}{part}" for m in MAIN for part in (" (95 % interval)", ": first")), "Cases")
    rows = []
    for loss in names:
        cells = []
        for metric in MAIN:
            s = next((s for s in losses[metric] if s.loss == loss), None)
            cells += (
                ["–", "–"]
                if s is None
                else [f"{_percent(s.case_mean)} ({_percent(s.low)} to {_percent(s.high)})", _percent(s.first, 0)]
            )
        rows.append([names[loss], *cells, next(str(s.cases) for s in losses["dice"] if s.loss == loss)])
    return Table("Mean over cases, and share of bootstrap resamples in which the loss ranks first, %", header, rows)


def _pair_blocks(output: Path, results: Results, names: Mapping[str, str], pairs: Sequence[PairSummary]) -> list[Block]:
    header = ("Pair", "Difference (95 % interval)", "p", "p (Holm)", "Rank-biserial", "Folds for the first", "Cases")
    titles = [f"{names[pair.first]} v {names[pair.second]}" for pair in pairs]
    rows = [
        [
            title,
            f"{100 * pair.difference:+.2f} ({100 * pair.low:+.2f} to {100 * pair.high:+.2f})",
            p_in_words(pair.p),
            p_in_words(pair.p_holm),
            f"{pair.rank_biserial:+.2f}",
            f"{pair.folds_for_first} of {pair.folds}",
            str(pair.cases),
        ]
        for title, pair in zip(titles, pairs, strict=True)
    ]
    sizes = sorted({pair.cases for pair in pairs})
    cases = f"n = {sizes[0]}" + (f" to {sizes[-1]}" if len(sizes) > 1 else "") + " cases"
    path = save_figure(pair_figure(dict(zip(titles, pairs, strict=True)), cases=cases), output / "pairs.png")
    return [
        Table("Dice, first minus second, percentage points", header, rows),
        Text(*(_sentence(pair, names) for pair in pairs)),
        Picture(path, "Differences in Dice with 95 % intervals; filled: a difference is claimed."),
        Text("The same for Jaccard and precision: pairs.csv."),
    ]


def _sentence(pair: PairSummary, names: Mapping[str, str]) -> str:
    """The result of a pair in words: a claim only where test and interval agree."""
    first, second, sign = names[pair.first], names[pair.second], 1
    if pair.difference < 0:
        first, second, sign = second, first, -1
    low, high = sorted((sign * 100 * pair.low, sign * 100 * pair.high))
    numbers = f"{abs(100 * pair.difference):.2f} points, 95 % interval {low:+.2f} to {high:+.2f}"
    if pair.claimed:
        return f"{first} is better than {second} (by {numbers}; Holm p {equal_to_p(pair.p_holm)})."
    statement = (
        f"No difference between {first} and {second} can be claimed (Holm p {equal_to_p(pair.p_holm)}; {numbers})"
    )
    if pair.p_holm < LEVEL:
        return f"{statement}: the ranks differ, but not clearly the means."
    if 0 < pair.n < 6:
        return f"{statement}: with {_count(pair.n, 'differing case')} the test cannot reach p < {LEVEL}."
    return f"{statement}."


def _case_blocks(
    output: Path, results: Results, names: Mapping[str, str], colours: Mapping[str, str], dice: np.ndarray
) -> list[Block]:
    index = [results.losses.index(loss) for loss in names]
    mean = dice[index].mean(axis=0)  # NaN unless every loss has the case
    order = [i for i in np.argsort(-mean, kind="stable") if not np.isnan(mean[i])]
    rank = {i: place for place, i in enumerate(order, start=1)}
    maps = {i: found for i in order if len(found := _maps(results, names, i)) == len(names) and _has_files(results, i)}
    if not maps:
        return [Text("No case has an image, a mask and a probability map under every loss: no figure of cases.")]
    kept = list(maps)
    chosen = kept  # best first
    if len(kept) > len(QUANTILES):
        chosen = list(dict.fromkeys(kept[round((1 - quantile) * (len(kept) - 1))] for quantile in QUANTILES))
    rows = [
        CaseRow(
            title=f"{results.ids[i]}\nmean Dice\n{100 * mean[i]:.1f} %\nrank {rank[i]} of {len(order)}",
            image=results.paths[results.ids[i]][0],
            label=results.paths[results.ids[i]][1],
            probabilities={loss: path for loss, (path, _) in maps[i].items()},
            dice={loss: value for loss, (_, value) in maps[i].items()},
        )
        for i in chosen
    ]
    path = save_figure(case_figure(rows, names, colours), output / "cases.png")
    caption = (
        "Image, target, binary prediction (probability above one half; target outlined) and probability map per loss, "
        f"seed {results.seeds[0]}. Best to worst of the {len(kept)} cases whose maps were kept; ranks are among all."
    )
    return [Picture(path, caption)]


def _maps(results: Results, names: Mapping[str, str], case: int) -> dict[str, tuple[Path, float]]:
    """Loss -> (probability map, Dice) of a case under the first seed."""
    fold, seed = int(results.fold_of[0, case]), results.seeds[0]
    found = {}
    for loss in names:
        if (folder := results.folders.get((loss, fold, seed))) is not None:
            path = folder / "evaluation" / "probabilities" / f"{results.ids[case]}.png"
            if path.is_file():
                found[loss] = (path, float(results.values["dice"][results.losses.index(loss), 0, case]))
    return found


def _has_files(results: Results, case: int) -> bool:
    paths = results.paths.get(results.ids[case])
    return paths is not None and all(path.is_file() for path in paths)


def _method(results: Results) -> list[Block]:
    unit = "cases" if results.groups is None else f"groups of cases ({len(set(results.groups))} groups)"
    undefined = [f"{METRICS[m]} in {n}" for m, n in results.undefined.items() if n]
    lines = [
        "A metric is computed per case at the size the bundle evaluates at; a fold's value is the mean over its cases "
        "(then over seeds), the table shows mean and standard deviation (n - 1) over folds.",
        f"Intervals: percentile bootstrap, 10,000 resamples of {unit}, the same for every loss. They cover the "
        "choice of images, not the chance in training: that is the spread between seeds.",
        "Tests: two-sided Wilcoxon signed-rank on paired cases, equal cases dropped, Holm over the pairs of a metric. "
        f"A difference is claimed where p (Holm) < {LEVEL} and the interval of the mean difference excludes zero.",
    ]
    if undefined:
        lines.append(f"Undefined and left out (evaluations of a case): {', '.join(undefined)}.")
    if results.command:
        lines.append(f"Made by: {results.command}")
    lines.append(f"Software: {'; '.join(results.versions)}")
    return [Text(*lines)]


def _percent(share: float, decimals: int = 2) -> str:
    return "–" if np.isnan(share) else f"{100 * share:.{decimals}f}"


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def run(options: ReportOptions) -> int:
    """`python -m monai_ext report`."""
    tell(f"report: {report(options.comparison, options.output_dir, reported=options.reported)}")
    return 0
