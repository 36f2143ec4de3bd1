"""Agreement beyond chance: Fleiss' kappa and Krippendorff's alpha of pixels, intraclass correlations of areas.

Pixels enter as a table of votes of each case, (K + 1, K + 1): entry [k, c] counts the pixels of which c of k raters
mark. Everything is a function of means over cases, so that a bootstrap draws cases and never sees a pixel again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "AREA_FEATURES",
    "area_features",
    "fleiss_kappa",
    "intraclass_correlations",
    "krippendorff_alpha",
    "vote_table",
]

Numbers = NDArray[np.float64]
AREA_FEATURES = ("mean", "mean squared", "within")  # then the areas


def vote_table(votes: NDArray[np.integer], voters: int, *, most: int) -> Numbers:
    """The table of one case, (most + 1, most + 1), from the votes of its pixels by `voters` raters."""
    table = np.zeros((most + 1, most + 1))
    table[voters] = np.bincount(votes.ravel(), minlength=most + 1)
    return table


def krippendorff_alpha(tables: Numbers) -> Numbers:
    """Krippendorff's alpha of yes and no, (...), from tables of votes (..., K + 1, K + 1); raters may be missing.

        1 - (n - 1) o / (n0 n1),  o = sum over pixels of c (k - c) / (k - 1)

    with n0 + n1 = n votes for no and yes, of pixels that two raters at least have seen (Krippendorff 2018, ch. 12). NaN
    where all votes are alike.
    """
    k, c = np.indices(tables.shape[-2:])
    pairable = tables * (k >= 2)
    disagreement = (pairable * (c * (k - c) / np.maximum(k - 1, 1))).sum((-2, -1))
    yes, votes = (pairable * c).sum((-2, -1)), (pairable * k).sum((-2, -1))
    both = yes * (votes - yes)
    return np.where(both > 0, 1 - (votes - 1) * disagreement / np.where(both > 0, both, 1), np.nan)


def fleiss_kappa(tables: Numbers) -> Numbers:
    """Fleiss' kappa of yes and no, (...), from tables of votes (..., K + 1, K + 1), over pixels of all K raters.

    (P - Pe) / (1 - Pe) with P the share of pairs of raters who agree, and Pe that expected of the overall shares
    (Fleiss 1971). NaN where all votes are alike, or no pixel has all raters.
    """
    raters = tables.shape[-1] - 1
    whole = tables[..., raters, :]
    c = np.arange(raters + 1)
    pixels = whole.sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        agreeing = 1 - (whole * c * (raters - c)).sum(-1) * 2 / (pixels * raters * (raters - 1))
        yes = (whole * c).sum(-1) / (pixels * raters)
        expected = yes**2 + (1 - yes) ** 2
        return np.where(expected < 1, (agreeing - expected) / (1 - expected), np.nan)


def area_features(areas: Numbers) -> Numbers:
    """What `intraclass_correlations` needs of each case, (N, 3 + K), from its areas (N, K)."""
    mean = areas.mean(1, keepdims=True)
    return np.hstack([mean, mean**2, ((areas - mean) ** 2).sum(1, keepdims=True), areas])


def intraclass_correlations(means: Numbers, *, cases: int) -> dict[str, Numbers]:
    """ICC of single ratings, (...) each, from means over cases of `area_features` (..., 3 + K).

    "ICC(1)": raters differ from case to case; "ICC(2)": the same raters, drawn from many, in absolute agreement;
    "ICC(3)": these raters alone, differences of their means apart (Shrout & Fleiss 1979). NaN of fewer than two cases.

    Args:
        cases: number N behind the means.
    """
    raters = means.shape[-1] - len(AREA_FEATURES)
    mean, squared, within, columns = means[..., 0], means[..., 1], means[..., 2], means[..., 3:]
    if cases < 2 or raters < 2:
        return {name: np.full(mean.shape, np.nan) for name in ("ICC(1)", "ICC(2)", "ICC(3)")}
    between = raters * cases * (squared - mean**2) / (cases - 1)
    inside = cases * within / (cases * (raters - 1))
    of_raters = cases * ((columns - mean[..., None]) ** 2).sum(-1) / (raters - 1)
    rest = (cases * within - (raters - 1) * of_raters) / ((cases - 1) * (raters - 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "ICC(1)": (between - inside) / (between + (raters - 1) * inside),
            "ICC(2)": (between - rest) / (between + (raters - 1) * rest + raters * (of_raters - rest) / cases),
            "ICC(3)": (between - rest) / (between + (raters - 1) * rest),
        }
