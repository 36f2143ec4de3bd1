"""What figures share: a palette that colour-blind readers can tell apart, and plain axes.

Figures are built on `matplotlib.figure.Figure`, so that no global state and no display is touched.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from matplotlib.axes import Axes

__all__ = ["OKABE_ITO", "colours_of", "literal", "plain_axis"]

OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")


def colours_of(names: Iterable[str]) -> dict[str, str]:
    """Name -> colour, by position; beyond eight names the colours repeat."""
    return {name: OKABE_ITO[index % len(OKABE_ITO)] for index, name in enumerate(names)}


def literal(text: str) -> str:
    """`text` as matplotlib shows it unchanged: it takes what stands between dollars for a formula."""
    return text.replace("$", r"\$")


def plain_axis(axis: Axes, *, grid: Literal["x", "y", "both"] | None = "y") -> None:
    """A pale grid below the data, and no frame at the top and on the right."""
    if grid is not None:
        axis.grid(axis=grid, color="#dddddd", linewidth=0.6)
        axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
