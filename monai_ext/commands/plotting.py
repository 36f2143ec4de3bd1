"""What figures share: a palette that colour-blind readers can tell apart, plain axes, and how they are written.

Figures are built on `matplotlib.figure.Figure`, so that no global state and no display is touched.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from monai_ext.storage.files import atomic_path

__all__ = ["OKABE_ITO", "colours_of", "literal", "plain_axis", "save_figure"]

OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")
DPI = 110


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


def save_figure(figure: Figure, path: Path) -> Path:
    """Write `figure` as PNG, whole or not at all."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=DPI, facecolor="white")
    return path
