"""The agreement page as blocks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from monai_ext.commands.agreement.records import Agreement, StructureAgreement
from monai_ext.commands.html import Block, Heading, Picture, Table, Text
from monai_ext.commands.scoring.records import Interval

__all__ = ["agreement_blocks"]

NONE = "-"
SHOWN_CASES = 10
SHOWN_SUSPECTS = 30
SAME_SIZES = 0.01  # p of Friedman's test
CAPTIONS = {
    "pairs_dice": "Mean Dice of every pair of raters.",
    "pairs_hd95": "Mean HD95 of every pair of raters.",
    "habits": "Each rater against the others: mean over cases and 95 % interval.",
    "sizes": "Mean pairwise Dice of each case: how often, and against the size of its masks.",
    "disagreement": "The cases with the lowest mean Dice, cut to where the masks lie.",
    "suspects": "Masks that are likely wrong (thick line) among the others.",
    "study": "What further raters bring: width of the interval of the mean Dice (dotted: extrapolated), and how "
    "exactly the mean area of one case is known. Dashed: what was asked for.",
}


def agreement_blocks(content: Agreement, pictures: Mapping[int, Mapping[str, Path]]) -> list[Block]:
    """The page; `pictures` are those of each task, none for a page of text."""
    blocks: list[Block] = [Heading(f"Agreement of raters: {Path(content.data).name}", 1)]
    for structure in content.structures:
        blocks += _structure(content, structure, pictures.get(structure.task, {}))
    return [*blocks, Heading("How the numbers are made"), _method(content)]


def _structure(content: Agreement, structure: StructureAgreement, pictures: Mapping[str, Path]) -> list[Block]:
    def drawn(*names: str) -> list[Block]:
        return [Picture(pictures[name], CAPTIONS[name]) for name in names if name in pictures]

    blocks: list[Block] = [Heading(f"Task {structure.task}"), Text(*_facts(content, structure))]
    blocks.append(_scores(content, structure))
    blocks += drawn("sizes")
    if structure.pairs:
        blocks += [Heading("Pairs of raters", 3), _pairs(structure), *drawn("pairs_dice", "pairs_hd95")]
    if structure.habits:
        blocks += [Heading("Habits", 3), _habits(structure), *drawn("habits")]
    blocks += [Heading("Cases with most disagreement", 3), _cases(structure), *drawn("disagreement")]
    blocks.append(Heading("Likely wrong masks", 3))
    blocks += [_suspects(content, structure), *drawn("suspects")] if structure.suspects else [Text("None was found.")]
    if structure.doubtful:
        blocks.append(Text(*structure.doubtful))
    if structure.study is not None:
        blocks += [Heading("How many raters, how many cases", 3), *_study(structure), *drawn("study")]
    if structure.left_out:
        blocks += [Heading("What could not be computed", 3), Text(*structure.left_out)]
    return blocks


def _facts(content: Agreement, structure: StructureAgreement) -> list[str]:
    who = "anonymous raters, other persons in each case" if content.anonymous else "raters"
    lines = [f"{structure.cases} cases, {len(structure.raters)} {who}; distances in {structure.unit}."]
    if structure.alone:
        lines.append(f"{structure.alone} cases with fewer than two raters are left out.")
    if len(set(structure.marked.values())) > 1:
        listed = ", ".join(f"rater {number} {count}" for number, count in structure.marked.items())
        lines.append(f"Cases marked: {listed}.")
    p = structure.same_sizes
    if p is not None and content.anonymous and p < SAME_SIZES:
        lines.append(
            f"Though raters are anonymous, their columns differ in size (Friedman's test, p = {p:.2g}): masks were "
            "sorted by size, or numbers stand for persons after all."
        )
    elif p is not None and not content.anonymous and p >= SAME_SIZES:
        lines.append(
            f"The raters' masks do not differ significantly in size (Friedman's test, p = {p:.2g}). If the numbers "
            "stand for other persons in each case, use --anonymous: means of single raters have no meaning then."
        )
    equal = [pair for pair in structure.pairs if pair.equal]
    for pair in sorted(equal, key=lambda pair: -pair.equal)[:3]:
        lines.append(
            f"Raters {pair.first} and {pair.second} have the same mask, pixel for pixel, in {pair.equal} cases: one "
            "may be a copy of the other."
        )
    return lines


def _labels(content: Agreement, structure: StructureAgreement) -> dict[str, str]:
    unit = structure.unit
    return {
        "dice": "Dice",
        "surface_dice": f"Surface Dice at {content.tolerance:g} {unit}",
        "hd95": f"HD95, {unit}",
        "assd": f"ASSD, {unit}",
    }


def _scores(content: Agreement, structure: StructureAgreement) -> Table:
    rows = []
    for name, label in _labels(content, structure).items():
        quantiles = structure.quantiles[name]
        spread = tuple(_number(value) for value in quantiles) if quantiles else (NONE,) * 3
        rows.append((f"{label}, pairs of raters", *_cells(structure.scores[name]), *spread))
    for entry in structure.chance:
        value = Interval(mean=entry.value, low=entry.low, high=entry.high)
        rows.append((f"{entry.name}, {entry.of}", *_cells(value), *(NONE,) * 3))
    header = ("Agreement", "Mean", "95 % interval", "5 % of cases", "median", "95 % of cases")
    return Table(f"Agreement of {len(structure.raters)} raters in {structure.cases} cases", header, rows)


def _pairs(structure: StructureAgreement) -> Table:
    header = ("Raters", "Dice", "95 % interval", "Surface Dice", "95 % interval", "HD95", "95 % interval", "ASSD",
              "95 % interval", "Equal masks", "Cases")  # fmt: skip
    rows = []
    for pair in structure.pairs:
        cells = [cell for score in pair.scores.values() for cell in _cells(score)]
        rows.append((f"{pair.first} and {pair.second}", *cells, str(pair.equal), str(pair.scores["dice"].cases)))
    return Table(f"Pairs of raters, means over cases; distances in {structure.unit}", header, rows)


def _habits(structure: StructureAgreement) -> Table:
    axes = len(structure.habits[0].shift)
    directions = ("rows", "columns", "slices")[:axes]
    header = ("Rater", "Area", "95 % interval", "Over-drawn", "95 % interval", "Left out", "95 % interval", "Boundary",
              "95 % interval", *(f"Shift, {name}" for name in directions), "Empty masks", "Cases")  # fmt: skip
    rows = []
    for entry in structure.habits:
        cells: list[str] = []
        for name, value in entry.habits.items():
            cells += _percent(value, signed=name in ("size", "roughness"))
        shifts = [NONE if s.mean is None else f"{s.mean:+.2f}" for s in entry.shift]
        rows.append((f"{entry.rater}", *cells, *shifts, str(entry.empty), str(entry.cases)))
    caption = (
        "Each rater against the others, means over cases, %: area and boundary (roughness) relative to theirs, share "
        f"of the mask outside of their majority, share of it left out; shift of the centre in {structure.unit}"
    )
    return Table(caption, header, rows)


def _cases(structure: StructureAgreement) -> Table:
    header = ("Case", "Dice", "Surface Dice", "HD95", "ASSD", "Largest over smallest mask", "Raters")
    rows = []
    for entry in structure.disagreement[:SHOWN_CASES]:
        ratio = NONE
        if entry.largest is not None and entry.smallest:
            ratio = f"{entry.largest / entry.smallest:.2f}"
        scores = (NONE if value is None else _number(value) for value in entry.scores.values())
        rows.append((entry.case, *scores, ratio, str(entry.raters)))
    return Table("Means over the pairs of raters of a case, lowest Dice first; all are in cases.csv", header, rows)


def _suspects(content: Agreement, structure: StructureAgreement) -> Table:
    shown = structure.suspects[:SHOWN_SUSPECTS]
    rows = [
        (entry.case, str(entry.rater), NONE if entry.dice is None else f"{entry.dice:.2f}", entry.reason)
        for entry in shown
    ]
    more = (
        f"; {len(structure.suspects) - len(shown)} more are in suspects.csv"
        if len(rows) < len(structure.suspects)
        else ""
    )
    caption = f"{len(structure.suspects)} masks to look at{more}"
    return Table(caption, ("Case", "Column" if content.anonymous else "Rater", "Largest Dice", "Reason"), rows)


def _study(structure: StructureAgreement) -> list[Block]:
    study = structure.study
    if study is None:
        return []
    rows = [
        (
            str(row.raters) if row.measured else f"{row.raters} (extrapolated)",
            NONE if row.width is None else _number(row.width),
            NONE if row.cases is None else f"{row.cases:,}",
            NONE if row.area is None else f"± {100 * row.area:.1f} %",
            NONE if row.reliability is None else f"{row.reliability:.3f}",
        )
        for row in study.rows
    ]
    header = ("Raters", f"Width with {study.cases} cases", f"Cases for a width of {study.width:g}", "Area of a case",
              "Reliability of the mean area")  # fmt: skip
    table = Table(
        "Width of the 95 % interval of the mean Dice; how exactly the raters' mean area is known", header, rows
    )
    if study.raters_for_width is not None:
        first = f"An interval of the mean Dice of width {study.width:g} needs {study.raters_for_width} raters of these "
        first += f"{study.cases} cases."
    else:
        least = min((row for row in study.rows if row.cases), key=lambda row: row.cases or 0, default=None)
        first = f"No number of raters brings the interval of the mean Dice to a width of {study.width:g} with these "
        first += f"{study.cases} cases"
        first += "." if least is None else f": with {least.raters} raters it takes {least.cases:,}."
    lines = [first]
    if study.raters_for_area is not None:
        lines.append(
            f"For the mean area of a case within ± {100 * study.area_error:.0f} % it takes {study.raters_for_area} "
            f"{'rater' if study.raters_for_area == 1 else 'raters'}."
        )
    return [Text(*lines), table]


def _method(content: Agreement) -> Text:
    drawn = "cases" if content.group is None else f"groups of cases ({content.group})"
    return Text(
        "Means are over cases, each the mean over its pairs of raters. Two empty masks have Dice and surface Dice 1 "
        "and distance 0; of one empty mask these are 0, and the diagonal of the image.",
        "HD95: the larger of both directed 95th percentiles of the distances between boundaries; ASSD: mean over both "
        "boundaries; surface Dice: share of both boundaries within the tolerance (Nikolov et al. 2021).",
        "Krippendorff's alpha and Fleiss' kappa are of yes and no on all pixels of all cases together. Most pixels of "
        "an image are background for everybody: the box around all masks, with a tenth as margin, is the harder test.",
        "ICC (Shrout & Fleiss 1979) of areas: (1) raters differ from case to case, (2) the same raters, drawn from "
        "many, in absolute agreement, (3) apart from differences of their means.",
        "Sizes of studies: variance of a case's mean Dice by K of the raters, over cases and choices of raters; for "
        "more raters than there are, from the line a + b / K. Reliability: Spearman and Brown, of ICC(1).",
        f"Intervals: percentile bootstrap, {content.resamples} resamples of {drawn}, seed {content.seed}.",
    )


def _cells(value: Interval) -> tuple[str, str]:
    if value.mean is None:
        return NONE, NONE
    if value.low is None or value.high is None:
        return _number(value.mean), NONE
    return _number(value.mean), f"{_number(value.low)} to {_number(value.high)}"


def _percent(value: Interval, *, signed: bool) -> tuple[str, str]:
    if value.mean is None or value.low is None or value.high is None:
        return NONE, NONE
    form = "+.1f" if signed else ".1f"
    return f"{100 * value.mean:{form}}", f"{100 * value.low:{form}} to {100 * value.high:{form}}"


def _number(value: float) -> str:
    return f"{round(value, 3) + 0.0:.3f}"
