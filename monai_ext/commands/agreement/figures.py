"""Figures of an agreement page: pairs, habits, size and agreement, cases, sizes of studies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from monai_ext.commands.agreement.study import StudySize
from monai_ext.commands.plotting import OKABE_ITO, colours_of, literal, plain_axis
from monai_ext.commands.scoring.records import Interval

__all__ = ["CasePanel", "case_figure", "habit_figure", "pair_figure", "size_figure", "study_figure"]

COLUMNS = 4  # of cases
LABELS = {
    "size": "Area relative to the others",
    "over": "Outside of the others' majority",
    "under": "Majority of the others left out",
    "roughness": "Boundary relative to the others",
}


@dataclass(frozen=True)
class CasePanel:
    """One case: image (H, W), masks by the name of the rater, and the name of the one that is looked at."""

    title: str
    image: NDArray
    masks: Mapping[str, NDArray]
    suspect: str | None = None


def case_figure(panels: Sequence[CasePanel]) -> Figure:
    """Outlines of all raters on each image, cut to where the masks lie; a suspect's is thick, the others' thin."""
    rows = -(-len(panels) // COLUMNS)
    columns = min(COLUMNS, len(panels))
    colours = colours_of(dict.fromkeys(name for panel in panels for name in panel.masks))
    figure = Figure(figsize=(2.7 * columns, 2.95 * rows + 0.5), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes:
        axis.set(xticks=[], yticks=[])
        axis.set_visible(False)
    for axis, panel in zip(axes, panels, strict=False):
        axis.set_visible(True)
        place = _around([mask for mask in panel.masks.values()])
        axis.imshow(panel.image[place], cmap="gray")
        for name, mask in panel.masks.items():
            part = np.pad(mask[place].astype(np.uint8), 1)  # a mask at the border has an outline too
            if part.any():
                x, y = np.arange(part.shape[1]) - 1, np.arange(part.shape[0]) - 1
                thick = 1.2 if panel.suspect is None else 2.4 if name == panel.suspect else 0.8
                axis.contour(x, y, part, levels=[0.5], colors=[colours[name]], linewidths=thick)
        axis.set_title(literal(panel.title), fontsize=8)
    handles = [Line2D([], [], color=colour, label=name) for name, colour in colours.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(6, len(handles)), fontsize=8, frameon=False)
    return figure


def _around(masks: Sequence[NDArray]) -> tuple[slice, slice]:
    """A square-ish box around all masks with a third of its side as margin."""
    marked = np.any(np.stack(masks), axis=0)
    if not marked.any():
        return slice(None), slice(None)
    found = [np.flatnonzero(marked.any(axis)) for axis in (1, 0)]
    side = max(int(line[-1] - line[0]) + 1 for line in found)
    place = []
    for line, limit in zip(found, marked.shape, strict=True):
        middle, half = (int(line[0]) + int(line[-1]) + 1) / 2, side / 2 + max(3, side / 3)
        place.append(slice(max(0, round(middle - half)), min(limit, round(middle + half))))
    return place[0], place[1]


def pair_figure(table: NDArray[np.float64], raters: Sequence[int], *, title: str) -> Figure:
    """Mean of every pair of raters, (R, R), NaN on the diagonal."""
    figure = Figure(figsize=(1.9 + 0.75 * len(raters), 1.3 + 0.6 * len(raters)), layout="constrained")
    axis = figure.subplots()
    low, high = np.nanmin(table), np.nanmax(table)
    axis.imshow(table, cmap="cividis", aspect="auto")
    for (row, column), value in np.ndenumerate(table):
        if not np.isnan(value):
            dark = value < low + (high - low) / 2
            colour = "white" if dark and high > low else "black"
            axis.text(
                column,
                row,
                f"{value:.3f}" if high <= 1 else f"{value:.1f}",
                ha="center",
                va="center",
                fontsize=9,
                color=colour,
            )
    names = [f"rater {number}" for number in raters]
    axis.set_xticks(range(len(names)), names, rotation=25, ha="right", fontsize=8)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.set_title(title, fontsize=10)
    return figure


def habit_figure(habits: Mapping[str, Sequence[Interval]], raters: Sequence[int]) -> Figure:
    """Mean and 95 % interval of each habit of each rater, in per cent."""
    figure = Figure(figsize=(11, 1.3 + 0.32 * len(raters)), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(habits), sharey=True))
    for axis, (name, values) in zip(axes, habits.items(), strict=True):
        for place, value in enumerate(values):
            if value.mean is None or value.low is None or value.high is None:
                continue
            colour = OKABE_ITO[place % len(OKABE_ITO)]
            axis.plot([100 * value.low, 100 * value.high], [place, place], color=colour, linewidth=2)
            axis.plot(100 * value.mean, place, "o", color=colour, markersize=6)
        if name in ("size", "roughness"):
            axis.axvline(0, color="#666666", linestyle="--", linewidth=1)
        axis.set_xlabel(f"{LABELS[name]}, %", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.set_yticks(range(len(raters)), [f"rater {number}" for number in raters])
        axis.set_ylim(len(raters) - 0.5, -0.5)
        axis.tick_params(axis="y", length=0)
        plain_axis(axis, grid="x")
        axis.spines["left"].set_visible(False)
    return figure


def size_figure(dice: NDArray[np.float64], share: NDArray[np.float64]) -> Figure:
    """Mean pairwise Dice of each case: how often, and against the share of the image that the masks fill."""
    figure = Figure(figsize=(9, 3.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    known = ~np.isnan(dice) & (share > 0)
    left.hist(dice[~np.isnan(dice)], bins=np.linspace(0, 1, 41).tolist(), color=OKABE_ITO[0])
    left.set(xlabel="Mean pairwise Dice of a case", ylabel=f"Cases (n = {int((~np.isnan(dice)).sum())})", xlim=(0, 1))
    right.scatter(100 * share[known], dice[known], s=8, alpha=0.5, color=OKABE_ITO[3], linewidths=0)
    right.set(xlabel="Mean mask, % of the image", ylabel="Mean pairwise Dice", ylim=(-0.02, 1.02))
    if known.any():
        right.set_xscale("log")
        right.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        right.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        right.xaxis.set_minor_formatter(NullFormatter())
    for axis in (left, right):
        plain_axis(axis, grid="both")
    return figure


def study_figure(study: StudySize) -> Figure:
    """Width of the interval of the mean Dice, and of a case's area, by the number of raters."""
    figure = Figure(figsize=(9, 3.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    rows = [row for row in study.rows if row.width is not None]
    for measured, marker in ((True, "o"), (False, "")):
        shown = [row for row in rows if row.measured or not measured]
        left.plot([row.raters for row in shown], [row.width for row in shown], color=OKABE_ITO[0], marker=marker,
                  linestyle="-" if measured else ":", markersize=5)  # fmt: skip
    left.axhline(study.width, color="#666666", linestyle="--", linewidth=1)
    left.set(
        xlabel="Raters", ylabel=f"Width of the 95 % interval\nof the mean Dice, {study.cases} cases", ylim=(0, None)
    )
    areas = [row for row in study.rows if row.area is not None]
    right.plot([row.raters for row in areas], [100 * (row.area or 0) for row in areas], color=OKABE_ITO[3], marker="o",
               markersize=4)  # fmt: skip
    right.axhline(100 * study.area_error, color="#666666", linestyle="--", linewidth=1)
    right.set(xlabel="Raters", ylabel="95 % interval of a case's\nmean area, ± %", ylim=(0, None))
    for axis in (left, right):
        plain_axis(axis, grid="both")
    return figure
