"""Calibration, sparsification and coverage of a predicted variance, from binned sums of fixed size.

Values are those of single pixels and bands. e = target - mean is the error, s the predicted standard deviation, not
below `floor`: by default that of rounding to 8 bits, the precision of the files. Bins are equal
in the logarithm: 200 a decade for s and |e|, 500 a decade for |e| / s, which all are far finer than their noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from monai_ext.formulas.images import as_wide
from monai_ext.formulas.likelihoods import family_of

__all__ = [
    "LEVELS",
    "ROUNDING_SD",
    "Sparsification",
    "UncertaintyTable",
    "binned_sparsification_error",
    "covered_share",
    "expected_normalized_calibration_error",
    "interval_quality",
    "ratio_edges",
    "reliability_curve",
    "sparsification_curves",
    "uncertainty_calibration_error",
    "uncertainty_table",
]

ROUNDING_SD = 1 / (255 * math.sqrt(12))  # of the error that rounding to 8 bits makes, on the [0, 1] scale
LEVELS = tuple(round(0.05 * i, 2) for i in range(1, 20)) + (0.98, 0.99)
SIZES = (-5, 1, 200)  # decades from, to, bins a decade: of s and |e|
RATIOS = (-2, 3, 500)  # of |e| / s; at the floor, an error of 1 has the ratio 883


class UncertaintyTable(NamedTuple):
    """Sums over the values of each bin, float64; a leading axis of images, or their sum. Bins: see `uncertainty_table`.

    Tables of several images add up: `UncertaintyTable(*(part.sum(0) for part in table))`.
    """

    deviations: Tensor  # (..., D, 3) by s: values, their variance, their squared error
    errors: Tensor  # (..., D, 2) by |e|: values, their squared error
    ratios: Tensor  # (..., C, Q, 3) by |e| / s: pixels of the band, their s and their |e|, all three / pixels in all


class Sparsification(NamedTuple):
    """RMSE of what is left when a share of the values is removed, relative to that of all values."""

    removed: Tensor  # (S,), 0, 1/S ... (S - 1)/S
    by_uncertainty: Tensor  # (..., S), the most uncertain first
    oracle: Tensor  # (..., S), the largest errors first: no uncertainty can do better


def _edges(decades: tuple[int, int, int], device: torch.device) -> Tensor:
    first, last, per_decade = decades
    exponents = first + np.arange((last - first) * per_decade + 1) / per_decade
    return torch.from_numpy(10.0**exponents).to(device=device, dtype=as_wide(torch.zeros(0, device=device)).dtype)


def ratio_edges(device: torch.device | str = "cpu") -> Tensor:
    """Upper ends of the bins of |e| / s, (Q - 1,), ascending; the last bin has none. Coverage is exact at these."""
    return _edges(RATIOS, torch.device(device))


def uncertainty_table(
    mean: Tensor, variance: Tensor, target: Tensor, *, floor: float = ROUNDING_SD
) -> UncertaintyTable:
    """The table of each image; bin i holds the values above edge i - 1 and not above edge i.

    Args:
        mean, variance, target: (B, C, H, W), floating.
        floor: smallest standard deviation, above 0; a variance below its square, or a negative one, counts as that.

    A NaN makes the errors of its image NaN, and counts as lying outside of every interval.

    Raises:
        ValueError: shapes differ, or `floor` is not above 0.
    """
    if mean.ndim != 4 or mean.shape != variance.shape or mean.shape != target.shape:
        raise ValueError(
            f"mean {tuple(mean.shape)}, variance {tuple(variance.shape)} and target {tuple(target.shape)} must be of "
            "one shape, (B, C, H, W)."
        )
    if not floor > 0:
        raise ValueError(f"floor={floor} must be above 0: an uncertainty of 0 admits no error at all.")
    batch, bands = mean.shape[:2]
    variance = as_wide(variance).clamp(min=floor**2)
    error = (as_wide(target) - as_wide(mean)).abs()
    sd, squared = variance.sqrt(), error.square()
    sizes, ratios = _edges(SIZES, mean.device), ratio_edges(mean.device)
    one = torch.ones_like(error)
    return UncertaintyTable(
        _binned(sd.reshape(batch, -1), [one, variance, squared], sizes),
        _binned(error.reshape(batch, -1), [one, squared], sizes),
        _binned((error / sd).reshape(batch * bands, -1), [one, sd, error], ratios).unflatten(0, (batch, bands))
        / math.prod(mean.shape[2:]),
    )


def _binned(values: Tensor, columns: Sequence[Tensor], edges: Tensor) -> Tensor:
    """Sums of the columns, of as many elements as `values` (N, P), over the bins of each row: (N, bins, columns)."""
    rows, bins = len(values), len(edges) + 1
    place = torch.bucketize(values, edges) + bins * torch.arange(rows, device=values.device)[:, None]
    empty = values.new_zeros(rows * bins)
    sums = [empty.index_add(0, place.flatten(), column.flatten()) for column in columns]
    return torch.stack(sums, dim=-1).unflatten(0, (rows, bins))


def _groups(table: UncertaintyTable, groups: int) -> tuple[Tensor, Tensor, Tensor]:
    """Values, mean variance and mean squared error of groups of nearly equal size by s, (..., groups); 0 if empty."""
    if groups < 1:
        raise ValueError(f"groups={groups} must be 1 at least.")
    sums = table.deviations
    values = sums[..., 0]
    middle = (values.cumsum(-1) - values / 2) / values.sum(-1, keepdim=True)
    member = (middle * groups).long().clamp(0, groups - 1)[..., None].expand_as(sums)
    merged = sums.new_zeros(*sums.shape[:-2], groups, 3).scatter_add(-2, member, sums)
    count = merged[..., 0]
    return count, merged[..., 1] / count.clamp(min=1), merged[..., 2] / count.clamp(min=1)


def uncertainty_calibration_error(table: UncertaintyTable, *, groups: int = 15) -> Tensor:
    """UCE: mean over values of |mean squared error - mean variance| of their group (Laves et al. 2020, eq. 9): (...).

    Unlike there, groups are of equal count, not of equal width: nearly all pixels would fall into one of the latter.
    """
    count, variance, squared = _groups(table, groups)
    return ((squared - variance).abs() * count).sum(-1) / count.sum(-1)


def expected_normalized_calibration_error(table: UncertaintyTable, *, groups: int = 15) -> Tensor:
    """ENCE: mean over groups of equal count of |RMSE - root mean variance| / root mean variance (Levi et al. 2019)."""
    count, variance, squared = _groups(table, groups)
    sd = variance.sqrt()
    gap = (squared.sqrt() - sd).abs() / torch.where(count > 0, sd, 1.0)
    return gap.sum(-1) / (count > 0).sum(-1)


def sparsification_curves(table: UncertaintyTable, *, steps: int = 100) -> Sparsification:
    """Sparsification by uncertainty and by the true error (Ilg et al. 2018): values of one bin leave in any order."""
    removed = torch.arange(steps, device=table.errors.device, dtype=table.errors.dtype) / steps
    curves = [
        _rest_rmse(table.deviations[..., 0], table.deviations[..., 2], removed),
        _rest_rmse(table.errors[..., 0], table.errors[..., 1], removed),
    ]
    whole = curves[0][..., :1]
    return Sparsification(removed, *(torch.where(whole == 0, 1.0, curve / whole) for curve in curves))


def _rest_rmse(count: Tensor, squared: Tensor, removed: Tensor) -> Tensor:
    """RMSE (..., S) of the bins' values without the last ones; count and squared error of the bins (..., D)."""
    below = count.cumsum(-1).contiguous()
    kept = below[..., -1:] * (1 - removed)
    last = torch.searchsorted(below, kept).clamp(max=count.shape[-1] - 1)  # the bin that is cut
    share = 1 - (below.gather(-1, last) - kept) / count.gather(-1, last).clamp(min=1)
    total = squared.cumsum(-1).gather(-1, last) - (1 - share) * squared.gather(-1, last)
    return (total / kept).clamp(min=0).sqrt()


def binned_sparsification_error(table: UncertaintyTable, *, steps: int = 100) -> Tensor:
    """AUSE: mean over removed shares of the gap between `sparsification_curves`, from 0 (perfect order): (...)."""
    curves = sparsification_curves(table, steps=steps)
    return (curves.by_uncertainty - curves.oracle).mean(-1)


def covered_share(shares: Tensor, multiplier: float | Sequence[float]) -> Tensor:
    """Share of the values inside mean +- multiplier * s, (..., C), from the first column of `ratios`, (..., C, Q).

    Exact where the multiplier is one of `ratio_edges`, else that of the next smaller one.

    Args:
        multiplier: one, or one per band.

    Raises:
        ValueError: another number of multipliers.
    """
    inside = _inside(multiplier, bands=shares.shape[-2], like=shares)[1]
    return (shares * inside).sum(-1) / shares.sum(-1)


def _inside(multiplier: float | Sequence[float], *, bands: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """The multiplier of each band, (C,), and 1 for the bins that lie inside of it, (C, Q)."""
    wanted = torch.as_tensor(multiplier, dtype=like.dtype, device=like.device)
    if wanted.numel() not in (1, bands):
        raise ValueError(f"{wanted.numel()} multipliers for {bands} bands: give one, or one per band.")
    ends = torch.nn.functional.pad(ratio_edges(like.device).to(like.dtype), (0, 1), value=math.inf)
    wanted = wanted.expand(bands)
    return wanted, (ends <= wanted[:, None]).to(like.dtype)


def interval_quality(
    table: UncertaintyTable, multiplier: float | Sequence[float], *, alpha: float
) -> dict[str, Tensor]:
    """Coverage (PICP), mean width (MPIW) and Winkler score of the intervals mean +- multiplier * s: (..., C) each.

    Intervals are not cut to [0, 1] here: cutting keeps the coverage and makes them narrower.

    Args:
        multiplier: see `covered_share`.
        alpha: share that may lie outside, for the Winkler score.

    Raises:
        ValueError: another number of multipliers than one or that of the bands.
    """
    ratios = table.ratios
    wanted, inside = _inside(multiplier, bands=ratios.shape[-3], like=ratios)
    images, sd, _ = ratios.sum(-2).unbind(-1)
    _, sd_beyond, error_beyond = (ratios * (1 - inside)[..., None]).sum(-2).unbind(-1)
    width = 2 * wanted * sd / images
    winkler = width + 2 / alpha * (error_beyond - wanted * sd_beyond) / images
    return {"coverage": covered_share(ratios[..., 0], multiplier), "width": width, "winkler": winkler}


def reliability_curve(
    table: UncertaintyTable, *, levels: Sequence[float] = LEVELS, family: str = "gaussian"
) -> tuple[Tensor, Tensor]:
    """Nominal coverage (K,) and the share found inside (..., K), over images and bands, of a family's intervals."""
    nominal = torch.tensor(levels, dtype=table.ratios.dtype, device=table.ratios.device)
    edges = ratio_edges(table.ratios.device)
    place = torch.searchsorted(edges, family_of(family).half_width(nominal), right=True)  # bins that lie inside
    shares = table.ratios[..., 0].sum(-2)  # (..., Q)
    inside = torch.nn.functional.pad(shares.cumsum(-1), (1, 0))[..., place]
    return nominal, inside / shares.sum(-1, keepdim=True)
