"""Figures of a comparison: cases, cases' Dice per loss, pairwise differences, training curves.

A loss has one colour in all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray
from PIL import Image

from monai_ext.commands.comparison.summaries import PairSummary, equal_to_p
from monai_ext.commands.plotting import literal, plain_axis
from monai_ext.commands.statistics import mean_of_known

__all__ = [
    "CaseRow",
    "case_figure",
    "curve_figure",
    "dice_figure",
    "pair_figure",
]

FOREGROUND = 128  # of 255: a pixel of a target above it is lesion (ISIC 2018 rule)
ONE_HALF = 127.5  # of 255: a pixel of a probability map above it is in the mask
SHOWN_PIXELS = 320  # longer side of a picture in the case figure


@dataclass(frozen=True)
class CaseRow:
    """One row of the case figure: files of image and target, per loss the probability map's file and the Dice."""

    title: str
    image: Path
    label: Path
    probabilities: Mapping[str, Path]
    dice: Mapping[str, float]


def _picture(path: Path, mode: str, *, above: float | None = None) -> NDArray[np.uint8]:
    """A picture as it is shown; `above`: where it exceeds this, 0 or 255, decided before it is made smaller."""
    from monai_ext.raster.images import reading  # here, since it brings torch, which a comparison can spare

    with reading(path) as image:
        shown = image.convert(mode)
    if above is not None:
        shown = Image.fromarray((np.asarray(shown) > above).astype(np.uint8) * 255)
    shown.thumbnail((SHOWN_PIXELS, SHOWN_PIXELS))
    return np.asarray(shown)


def case_figure(rows: Sequence[CaseRow], names: Mapping[str, str], colours: Mapping[str, str]) -> Figure:
    """Image | target | binary prediction per loss (target outlined, Dice below) | probability map per loss.

    Args:
        names: loss -> label, in the order of the columns.
    """
    losses = list(names)
    columns = 2 + 2 * len(losses)
    height, width = _picture(rows[0].label, "L").shape
    row_height = 1.35 * min(1.3, height / width) + 0.22
    figure = Figure(
        figsize=(1.35 * columns + 2.2, row_height * len(rows) + 0.6),
        layout=ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.03, wspace=0, hspace=0),
    )
    axes = figure.subplots(len(rows), columns, squeeze=False)
    shown = None
    for line, row in zip(axes, rows, strict=True):
        target = _picture(row.label, "L")
        foreground = target > (FOREGROUND if target.max() > 1 else 0)
        line[0].imshow(_picture(row.image, "RGB"))
        line[0].set_ylabel(literal(row.title), fontsize=8, rotation=0, ha="right", va="center")
        line[1].imshow(foreground, cmap="gray", vmin=0, vmax=1)
        for index, loss in enumerate(losses):
            probability = _picture(row.probabilities[loss], "L")
            binary, soft = line[2 + index], line[2 + len(losses) + index]
            mask = _picture(row.probabilities[loss], "L", above=ONE_HALF) > ONE_HALF
            binary.imshow(mask, cmap="gray", vmin=0, vmax=1)
            _outline(binary, foreground, probability.shape)
            binary.set_xlabel(f"Dice {100 * row.dice[loss]:.1f} %", fontsize=7, labelpad=3)
            shown = soft.imshow(probability / 255.0, cmap="cividis", vmin=0, vmax=1)
            for axis in (binary, soft):
                for spine in axis.spines.values():
                    spine.set(edgecolor=colours[loss], linewidth=2)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    shown_names = [literal(name) for name in names.values()]
    titles = ["Image", "Target", *(f"{name}\nbinary" for name in shown_names)]
    for axis, title in zip(axes[0], [*titles, *(f"{name}\nprobability" for name in shown_names)], strict=True):
        axis.set_title(title, fontsize=9)
    if shown is not None:
        bar = figure.colorbar(shown, ax=axes[:, -1], shrink=min(1.0, 3 / len(rows)), aspect=25, pad=0.1)
        bar.set_label("Probability of lesion", fontsize=8)
        bar.ax.tick_params(labelsize=7)
    return figure


def _outline(axis: Axes, target: NDArray[np.bool_], shape: tuple[int, int]) -> None:
    if target.shape == shape and target.any() and not target.all():
        axis.contour(target, levels=[0.5], colors=["#56B4E9"], linewidths=0.9)


def dice_figure(dice: Mapping[str, NDArray], names: Mapping[str, str], colours: Mapping[str, str]) -> Figure:
    """Box and points of the cases' Dice under every loss; the median is written beside its box.

    Args:
        dice: loss -> (n,), shares from 0 to 1, without NaN; a loss without a case leaves its place empty.
    """
    figure = Figure(figsize=(1.6 + 1.5 * len(names), 4.5), layout="constrained")
    axis = figure.subplots()
    jitter = np.random.default_rng(0)
    for place, loss in enumerate(names):
        values = 100 * dice[loss]
        if not values.size:
            continue
        across = place + jitter.uniform(-0.3, 0.3, values.size)
        opacity = float(np.clip(60 / values.size, 0.25, 0.8))
        axis.scatter(across, values, s=5, color=colours[loss], alpha=opacity, linewidths=0, rasterized=True)
        line = {"color": "black", "linewidth": 1.2}
        axis.boxplot(
            values, positions=[place], widths=0.5, showfliers=False, medianprops={**line, "linewidth": 2.2},
            boxprops=line, whiskerprops=line, capprops=line,
        )  # fmt: skip
        median = np.median(values)
        axis.annotate(f"{median:.1f}", (place + 0.3, median), fontsize=8, va="center", ha="left")
    ticks = [f"{literal(name)}\nn = {dice[loss].size}" for loss, name in names.items()]
    axis.set_xticks(range(len(names)), ticks)
    axis.set(xlabel="Loss, number of cases", ylabel="Dice per case (%)", xlim=(-0.6, len(names) - 0.3))
    plain_axis(axis)
    return figure


def pair_figure(pairs: Mapping[str, PairSummary], *, cases: str) -> Figure:
    """Forest plot of pairwise differences in Dice: point and 95 % interval, filled where a difference is claimed.

    Args:
        pairs: title of its row -> pair of losses.
        cases: their number, in words.
    """
    figure = Figure(figsize=(8.5, 1.3 + 0.34 * len(pairs)), layout="constrained")
    axis = figure.subplots()
    axis.axvline(0, color="#888888", linewidth=1, linestyle="--")
    for place, pair in enumerate(pairs.values()):
        axis.plot([100 * pair.low, 100 * pair.high], [place, place], color="black", linewidth=1.5)
        filling = "black" if pair.claimed else "white"
        axis.plot(100 * pair.difference, place, "o", color="black", markersize=6, markerfacecolor=filling)
        axis.annotate(
            f"p (Holm) {equal_to_p(pair.p_holm)}", (1.01, place), xycoords=("axes fraction", "data"), va="center",
            ha="left", fontsize=8, annotation_clip=False,
        )  # fmt: skip
    axis.set_yticks(range(len(pairs)), [literal(title) for title in pairs])
    axis.set_ylim(len(pairs) - 0.5, -0.5)
    axis.set_xlabel(f"Difference in mean Dice, first minus second (percentage points), {cases}")
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
    return figure


def curve_figure(
    curves: Mapping[str, Mapping[str, NDArray]], names: Mapping[str, str], colours: Mapping[str, str]
) -> Figure:
    """Training loss (own scale: losses have no common unit) and validation Dice per epoch: mean and range of the runs.

    Args:
        curves: loss -> {"train_loss": (runs, E), "val_mean_dice": (runs, E)}, NaN where a run has no value.
    """
    figure = Figure(figsize=(1.2 + 2.5 * len(names), 5), layout="constrained")
    axes = figure.subplots(2, len(names), squeeze=False, sharex="col")
    for axis in axes[1, 1:]:
        axis.sharey(axes[1, 0])
        axis.tick_params(labelleft=False)
    for column, (loss, name) in enumerate(names.items()):
        runs = curves.get(loss, {}).get("train_loss", np.empty((0, 0)))
        axes[0, column].set_title(f"{literal(name)}\n{len(runs)} run{'s' * (len(runs) != 1)}", fontsize=10)
        for axis, key, factor in ((axes[0, column], "train_loss", 1.0), (axes[1, column], "val_mean_dice", 100.0)):
            _curve(axis, factor * curves.get(loss, {}).get(key, np.empty((0, 0))), colours[loss])
        axes[1, column].set_xlabel("Epoch")
    axes[0, 0].set_ylabel("Training loss (own scale)")
    axes[1, 0].set_ylabel("Validation Dice (%)")
    return figure


def _curve(axis: Axes, runs: NDArray[np.float64], colour: str) -> None:
    plain_axis(axis, grid="both")
    known = ~np.isnan(runs).all(axis=0) if runs.size else np.zeros(0, bool)
    if not known.any():
        return
    epochs, values = np.flatnonzero(known) + 1, runs[:, known]
    low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
    marker = "o" if len(epochs) < 4 else None  # a line of one epoch would not be seen
    axis.fill_between(epochs, low, high, color=colour, alpha=0.25, linewidth=0)
    axis.plot(epochs, mean_of_known(values, axis=0), color=colour, linewidth=1.8, marker=marker)
