"""Figures of predicted uncertainty: nominal against found coverage, error without the most uncertain values.

One panel for each group of images, one colour for each kind of uncertainty (Okabe and Ito's palette) in all figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["KIND_COLOURS", "Curve", "reliability_figure", "sparsification_figure"]

KIND_COLOURS = {"total": "#000000", "aleatoric": "#0072B2", "ambiguity": "#E69F00", "epistemic": "#009E73"}
GREY = "#888888"

Curve = tuple[Sequence[float], Sequence[float]]  # x and y


def _panels(titles: Sequence[str]) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(1.1 + 3.3 * len(titles), 3.9), layout="constrained")
    axes = list(figure.subplots(1, len(titles), squeeze=False, sharey=True)[0])
    for axis, title in zip(axes, titles, strict=True):
        axis.set_title(title, fontsize=10)
        axis.grid(color="#dddddd", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _line(kind: str) -> dict[str, Any]:
    # the total is drawn first and wider: it shows under a kind that is all there is of it
    return {"label": kind, "color": KIND_COLOURS[kind], "linewidth": 3.0 if kind == "total" else 1.5}


def reliability_figure(
    curves: Mapping[str, Mapping[str, Curve]], calibrated: Mapping[str, float], *, nominal: float
) -> Figure:
    """Share of values found inside the intervals of each nominal share; on the diagonal the prediction is calibrated.

    Args:
        curves: title of the panel -> kind -> nominal and found shares, 0 to 1.
        calibrated: title -> share found inside the calibrated intervals of the total.
        nominal: their nominal share.
    """
    figure, axes = _panels(list(curves))
    for axis, (title, kinds) in zip(axes, curves.items(), strict=True):
        axis.plot([0, 100], [0, 100], color=GREY, linewidth=1, linestyle="--", label="calibrated")
        for kind, (shares, found) in kinds.items():
            axis.plot([100 * x for x in shares], [100 * y for y in found], **_line(kind))
        axis.plot(
            100 * nominal, 100 * calibrated[title], "*", color="#D55E00", markersize=12, clip_on=False,
            label="total, after calibration",
        )  # fmt: skip
        axis.set(xlabel="Nominal coverage (%)", xlim=(0, 100), ylim=(0, 100), aspect="equal")
    axes[0].set_ylabel("Values found inside (%)")
    axes[0].legend(fontsize=7, loc="upper left", framealpha=0.9)
    return figure


def sparsification_figure(curves: Mapping[str, Mapping[str, Curve]], oracles: Mapping[str, Curve]) -> Figure:
    """RMSE of what is left, relative to all, when the most uncertain values are removed; the oracle uses the errors.

    Args:
        curves: title of the panel -> kind -> removed share (0 to 1) and relative RMSE.
        oracles: title -> the same by the true error.
    """
    figure, axes = _panels(list(curves))
    for axis, (title, kinds) in zip(axes, curves.items(), strict=True):
        axis.axhline(1, color=GREY, linewidth=1, linestyle=":", label="random order")
        for kind, (removed, rest) in kinds.items():
            axis.plot([100 * x for x in removed], rest, **_line(kind))
        removed, rest = oracles[title]
        axis.plot([100 * x for x in removed], rest, color=GREY, linestyle="--", label="oracle")
        axis.set(xlabel="Values removed (%)", xlim=(0, 100))
    axes[0].set_ylim(0, None)
    axes[0].set_ylabel("RMSE of the rest / RMSE of all")
    axes[0].legend(fontsize=7, loc="lower left", framealpha=0.9)
    return figure
