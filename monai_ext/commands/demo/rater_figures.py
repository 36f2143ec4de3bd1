"""Figures of methods for several raters: outlines, maps of disagreement, Dice of heads with raters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from monai_ext.commands.plotting import colours_of, plain_axis

__all__ = ["RaterCase", "matrix_figure", "outline_figure", "rater_curve_figure", "slice_figure"]

MOST_VARIANCE = 0.25  # of a yes or no
BY_SLICE = ("raters' disagreement", "predicted uncertainty")


@dataclass(frozen=True)
class RaterCase:
    """One row of the outline figure.

    Args:
        title: of the row.
        image: (H, W).
        raters: names of the raters -> masks (H, W) of 0 and 1.
        predictions: names -> masks (H, W), heads under the names of their raters, or samples.
        probability: predicted share of raters, (H, W).
        disagreement: c/K (1 - c/K), (H, W).
        by_slice: of a volume, of which all others are one slice: the sums of disagreement and of predicted uncertainty
            over each slice, (2, D).
    """

    title: str
    image: NDArray
    raters: Mapping[str, NDArray]
    predictions: Mapping[str, NDArray]
    probability: NDArray
    disagreement: NDArray
    by_slice: NDArray | None = None


def outline_figure(rows: Sequence[RaterCase], *, predicted_by: str = "heads") -> Figure:
    """Image | outlines of the raters | of the predictions | disagreement | predicted uncertainty p (1 - p).

    Both maps share one scale, 0 to 1/4. A rater and the head of this rater have one colour.
    """
    colours = colours_of(dict.fromkeys([*rows[0].raters, *rows[0].predictions]))
    figure = Figure(figsize=(11, 2.15 * len(rows) + 0.9), layout="constrained")
    axes = figure.subplots(len(rows), 5, squeeze=False)
    shown = None
    for line, row in zip(axes, rows, strict=True):
        for axis in line[:3]:
            axis.imshow(row.image, cmap="gray")
        line[0].set_ylabel(row.title, fontsize=8)
        _outlines(line[1], row.raters, colours)
        _outlines(line[2], row.predictions, colours)
        for axis, values in zip(line[3:], (row.disagreement, row.probability * (1 - row.probability)), strict=True):
            shown = axis.imshow(values, cmap="magma", vmin=0, vmax=MOST_VARIANCE)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    titles = ("Image", "Raters", predicted_by.capitalize(), "Raters' disagreement", "Predicted uncertainty")
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=9)
    if shown is not None:
        bar = figure.colorbar(shown, ax=axes[:, -1], shrink=min(1.0, 3 / len(rows)), aspect=25)
        bar.set_label("Variance of yes or no", fontsize=8)
        bar.ax.tick_params(labelsize=7)
    handles = [Line2D([], [], color=colours[name], label=name) for name in rows[0].raters]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(6, len(handles)), fontsize=8, frameon=False)
    return figure


def slice_figure(rows: Sequence[RaterCase]) -> Figure:
    """Raters' disagreement and predicted uncertainty of each slice of volumes, sums over its pixels."""
    figure = Figure(figsize=(2.6 * len(rows) + 0.6, 2.6), layout="constrained")
    axes = figure.subplots(1, len(rows), squeeze=False)[0]
    for axis, row in zip(axes, rows, strict=True):
        for values, name in zip(row.by_slice if row.by_slice is not None else (), BY_SLICE, strict=False):
            axis.plot(range(1, len(values) + 1), values, color=colours_of(BY_SLICE)[name], marker="o", ms=3, label=name)
        axis.set_title(row.title, fontsize=8)
        axis.set_xlabel("Slice")
        plain_axis(axis)
    axes[0].set_ylabel("Variance, sum over pixels")
    axes[-1].legend(fontsize=7, frameon=False)
    return figure


def _outlines(axis: Axes, masks: Mapping[str, NDArray], colours: Mapping[str, str]) -> None:
    for name, mask in masks.items():
        if mask.any() and not mask.all():
            axis.contour(mask, levels=[0.5], colors=[colours[name]], linewidths=1.1)


def matrix_figure(table: NDArray, raters: Sequence[str]) -> Figure:
    """Mean Dice (%) of each head with each rater; the best rater of each head is framed.

    Args:
        table: (heads, R), shares from 0 to 1.
        raters: their names, which are those of the heads too.
    """
    figure = Figure(figsize=(2.4 + 0.95 * len(raters), 1.7 + 0.5 * len(raters)), layout="constrained")
    axis = figure.subplots()
    axis.imshow(100 * table, cmap="cividis", aspect="auto")
    middle = np.nanmin(table) + (np.nanmax(table) - np.nanmin(table)) / 2
    for row, values in enumerate(table):
        for column, value in enumerate(values):
            best = value == np.nanmax(values)
            axis.text(
                column, row, f"{100 * value:.1f}", ha="center", va="center", fontsize=9,
                color="black" if value > middle else "white", fontweight="bold" if best else "normal",
                bbox={"fill": False, "edgecolor": "black" if value > middle else "white", "pad": 3} if best else None,
            )  # fmt: skip
    axis.set_xticks(range(len(raters)), raters, rotation=25, ha="right", fontsize=8)
    axis.set_yticks(range(len(raters)), [f"head of {name}" for name in raters], fontsize=8)
    axis.set_xlabel("Rater")
    axis.set_title("Mean Dice (%), best of each head framed", fontsize=10)
    return figure


def rater_curve_figure(epochs: NDArray, loss: NDArray, curves: Mapping[str, NDArray]) -> Figure:
    """Training loss, and validation scores (%) of each name, per epoch.

    Args:
        epochs, loss: (E,).
        curves: name -> (E,), shares from 0 to 1, NaN in epochs without validation.
    """
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(epochs, loss, color="black")
    left.set(xlabel="Epoch", ylabel="Training loss")
    for name, colour in colours_of(curves).items():
        known = ~np.isnan(curves[name])
        right.plot(epochs[known], 100 * curves[name][known], color=colour, marker="o", markersize=3, label=name)
    right.set(xlabel="Epoch", ylabel="Validation (%)")
    right.legend(fontsize=7, frameon=False)
    for axis in (left, right):
        plain_axis(axis, grid="both")
    return figure
