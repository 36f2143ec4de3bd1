"""Conformal calibration of intervals: one factor on the predicted standard deviation, chosen on held-out images.

The risk of a factor is the mean over images of the share of values outside mean +- factor * s. Two rules choose the
smallest factor that keeps the risk of further images, exchangeable with the calibration images, at alpha or below:

* "crc", conformal risk control (Angelopoulos et al. 2022, eq. 4): on average over calibration sets. With n images the
  risk on them is (1 - alpha) / n below alpha: two points of coverage too many for n = 45, alpha = 0.1;
* "rcps", risk-controlling prediction sets (Bates et al. 2021, with the Hoeffding-Bentkus bound of sec. 3.1.2): but for
  a probability delta over calibration sets. It is careful where images are few: with 60 of them, alpha = delta = 0.1,
  seven tenths of the misses allowed are given away.

The unit is the image, not the pixel. Images of one place resemble each other, so that the guarantee is for images drawn
from the same places; other places may be covered worse, which the report shows place by place. Where some images of the
very place are known, a third rule takes the smallest factor that keeps the risk on these at alpha:

* "empirical", without allowance for further images, hence for any number of images, and without a guarantee.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from scipy.stats import binom
from torch import Tensor

from monai_ext.metrics.uncertainty_tables import ROUNDING_SD, UncertaintyTable, covered_share, ratio_edges
from monai_ext.runtime.settings import as_bool
from monai_ext.storage.records import Count, read_record, write_record

__all__ = [
    "Calibration",
    "ConformalRule",
    "conformal_risk_bound",
    "coverage_of_places_left_out",
    "hoeffding_bentkus_p_value",
    "read_calibration",
    "smallest_safe",
    "write_calibration",
]

METHODS = ("crc", "rcps", "empirical")
LARGEST_MULTIPLIER = 1e6  # with the usual floor an interval of this covers all values many times over


def hoeffding_bentkus_p_value(risk: float, *, count: int, alpha: float) -> float:
    """Probability at most that the mean of `count` losses in [0, 1] is `risk` or less if their expectation is > alpha.

    min(exp(-n h(min(r, a), a)), e P(Binomial(n, a) <= ceil(n r))), h(p, q) = p log(p/q) + (1-p) log((1-p)/(1-q)).

    >>> round(hoeffding_bentkus_p_value(0.0, count=22, alpha=0.1), 4)  # 0.9^22
    0.0985
    """
    mean = min(risk, alpha)
    divergence = (mean * math.log(mean / alpha) if mean else 0.0) + (1 - mean) * math.log((1 - mean) / (1 - alpha))
    hoeffding = math.exp(-count * divergence)
    # 1e-9: a mean such as 0.3 of ten losses is not to be rounded up to four
    bentkus = math.e * _binomial(math.ceil(count * risk - 1e-9), count, alpha)
    return min(1.0, hoeffding, bentkus)


@lru_cache(maxsize=4096)  # the thousands of factors that are tried have no more risks than there are images
def _binomial(successes: int, count: int, probability: float) -> float:
    return float(binom.cdf(successes, count, probability))


def conformal_risk_bound(risk: float, *, count: int) -> float:
    """(n r + 1) / (n + 1): the risk when one further image, of the worst loss 1, joins the n images."""
    return (count * risk + 1) / (count + 1)


@dataclass(frozen=True)
class Calibration:
    """Intervals mean +- multiplier * sqrt(variance), cut to [0, 1], and how they were chosen.

    Attributes:
        method: "crc", "rcps" or "empirical", see the module.
        alpha: share of values that may lie outside.
        delta: probability that the risk is exceeded, of "rcps"; else None.
        multiplier: one for all bands, or one per band.
        kind: of the variance, a name among those of `uncertainty`: "total".
        floor: smallest standard deviation.
        images, places: that it was chosen on; 0 places where they are not known.
        coverage: of these images, as many values as `multiplier`.
        weight_samples, latent_samples: of the variance; None where they are not known. Other numbers change it.
        weights: digests of the networks' weights, see `weight_digests`; none where they are not known.
        format: of the file.
    """

    method: str
    alpha: float
    delta: float | None
    multiplier: tuple[float, ...]
    kind: str = "total"
    floor: float = ROUNDING_SD
    images: Count = 0
    places: Count = 0
    coverage: tuple[float, ...] = ()
    weight_samples: Count | None = None
    latent_samples: Count | None = None
    weights: tuple[str, ...] = ()
    format: Literal[1] = 1

    def __post_init__(self) -> None:
        usable = self.multiplier and all(0 < value <= LARGEST_MULTIPLIER for value in self.multiplier)
        if self.method not in METHODS or not 0 < self.alpha < 1 or not usable or not 0 < self.floor <= 1:
            raise ValueError(
                f"no calibration: method={self.method!r}, alpha={self.alpha}, multiplier={self.multiplier}, "
                f"floor={self.floor}; needs one of {METHODS}, alpha in (0, 1), a floor in (0, 1] and positive "
                f"multipliers up to {LARGEST_MULTIPLIER:g}."
            )

    def apply(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """Lower and upper bounds in [0, 1], of the shape and type of `mean`, (B, C, H, W) or (C, H, W).

        >>> import torch
        >>> calibration = Calibration("crc", 0.1, None, (2.0,))
        >>> calibration.apply(torch.full((1, 1, 1), 0.5), torch.full((1, 1, 1), 0.01))
        (tensor([[[0.3000]]]), tensor([[[0.7000]]]))

        Raises:
            ValueError: shapes differ, or the image has another number of bands than the multiplier.
        """
        bands = len(self.multiplier)
        if mean.ndim not in (3, 4) or mean.shape != variance.shape or bands not in (1, mean.shape[-3]):
            raise ValueError(
                f"mean {tuple(mean.shape)} and variance {tuple(variance.shape)} must be of one shape, (B, C, H, W) or "
                f"(C, H, W){f' with {bands} bands, as in the calibration' if bands > 1 else ''}."
            )
        factor = mean.new_tensor(self.multiplier)[:, None, None]
        half = factor * variance.to(mean.dtype).clamp(min=self.floor**2).sqrt()
        return (mean - half).clamp(0, 1), (mean + half).clamp(0, 1)


@dataclass(frozen=True)
class ConformalRule:
    """How a `Calibration` is chosen.

    Attributes:
        method: "crc", "rcps" or "empirical", see the module.
        alpha: share of values that may lie outside.
        delta: of "rcps": probability that the risk is exceeded.
        per_band: a factor for each band, each chosen by itself, instead of one for all.

    Raises:
        ValueError: an unknown method, or a share outside (0, 1).
    """

    method: str = "crc"
    alpha: float = 0.1
    delta: float = 0.1
    per_band: bool | str = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "per_band", as_bool(self.per_band, "per_band"))
        if self.method not in METHODS:
            raise ValueError(f"method={self.method!r} is unknown: choose one of {', '.join(METHODS)}.")
        if not (0 < self.alpha < 1 and 0 < self.delta < 1):
            raise ValueError(f"alpha={self.alpha} and delta={self.delta} must lie between 0 and 1.")

    def holds(self, risk: float, *, count: int) -> bool:
        """Whether the method accepts a factor of this risk on `count` images."""
        if self.method == "empirical":
            return risk <= self.alpha
        if self.method == "crc":
            return conformal_risk_bound(risk, count=count) <= self.alpha
        return hoeffding_bentkus_p_value(risk, count=count, alpha=self.alpha) <= self.delta

    def choose(self, table: UncertaintyTable, *, floor: float = ROUNDING_SD, **known: Any) -> Calibration:
        """The calibration of a table of all calibration images together, made with this `floor`.

        Args:
            known: kind, places, weight_samples, latent_samples, weights, for the record.

        Raises:
            ValueError: no factor is accepted: too few images, or errors beyond every multiple of s.
        """
        shares = table.ratios[..., 0].cpu()  # (C, Q)
        multiplier, coverage = self.multipliers(shares)
        return Calibration(
            method=self.method,
            alpha=self.alpha,
            delta=self.delta if self.method == "rcps" else None,
            multiplier=multiplier,
            floor=floor,
            images=round(float(shares[0].sum())),
            coverage=coverage,
            **known,
        )

    def multipliers(self, shares: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The factor, one or one for each band, and the coverage of each, from the sum over images (C, Q) of `ratios`.

        Raises:
            ValueError: as for `choose`.
        """
        images = round(float(shares[0].sum()))
        if not self.per_band:
            shares = shares.mean(0, keepdim=True)
        covered = (shares.cumsum(1) / shares.sum(1, keepdim=True))[:, :-1].clamp(max=1).tolist()  # at each edge
        edges = ratio_edges().tolist()
        places = [self._place(band, images) for band in covered]
        return (
            tuple(edges[place] for place in places),
            tuple(band[place] for band, place in zip(covered, places, strict=True)),
        )

    def _place(self, covered: Sequence[float], images: int) -> int:
        place = smallest_safe([self.holds(1 - share, count=images) for share in covered])
        if place is None:
            why = f"{1 - covered[-1]:.1%} of the values are NaN or lie beyond every multiple of the standard deviation"
            if not self.holds(0.0, count=images):
                why = f"{images} images are too few: take more, a larger alpha, or method 'crc'"
            raise ValueError(f"no interval is accepted by {self}: {why}.")
        return place


def coverage_of_places_left_out(shares: Tensor, places: Sequence[str], rule: ConformalRule) -> dict[str, float | None]:
    """Share of the values of each place inside intervals that were chosen on the images of the other places.

    An estimate of what to expect of a further place, which the calibration itself cannot give: its guarantee is for
    further images of its own places.

    Args:
        shares: of each image by |e| / s, (N, C, Q), see `UncertaintyTable.ratios`.
        places: of each image.

    Returns:
        Place -> mean over its images and bands, in the order of names; None where `rule` refuses the images of the
        others as too few; {} for a single place.
    """
    names = sorted(set(places))
    found: dict[str, float | None] = {}
    for name in names if len(names) > 1 else []:
        inside = torch.tensor([place == name for place in places])
        try:
            multiplier, _ = rule.multipliers(shares[~inside].sum(0))
        except ValueError:
            found[name] = None
            continue
        found[name] = covered_share(shares[inside], multiplier).mean().item()
    return found


def smallest_safe(safe: Sequence[bool]) -> int | None:
    """The first place from which on all are safe, or None: so a lucky dip below the line is not taken.

    >>> smallest_safe([False, True, False, True, True]), smallest_safe([True, False])
    (3, None)
    """
    unsafe = [place for place, good in enumerate(safe) if not good]
    first = unsafe[-1] + 1 if unsafe else 0
    return first if first < len(safe) else None


def write_calibration(calibration: Calibration, path: str | Path) -> None:
    """Write the calibration as JSON, at once or not at all."""
    write_record(path, calibration)


def read_calibration(path: str | Path) -> Calibration:
    """The calibration that `write_calibration` wrote.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, or of another format.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no calibration at '{path}': run the bundle with calibrate.json first.")
    return read_record(path, Calibration, way_out="calibrate again")
