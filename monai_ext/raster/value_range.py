"""What the pixel values of an image mean: which are black and white, and which mark missing pixels.

A range is given, or found: 8 bits have their own; deeper types have that of their values, apart from a few that lie far
from all others, such as a cloud over land, unless they fill half of the type (of 0 to 1 for floats). Markers of missing
pixels that a file does not declare are found where they lie alone, far from all values.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from monai_ext.raster.info import Raster

__all__ = ["ValueRange", "ValueSample", "known_values", "settle_values", "warn_of_alpha"]

_logger = logging.getLogger(__name__)

# What programs write for missing pixels without declaring it; the last are the fill values of GDAL and netCDF.
MARKERS = (-9999.0, -99999.0, -32768.0, -32767.0, float(np.finfo(np.float32).min), 1e20, 9.969209968386869e36)
SCANNED_ROWS = 512
SAMPLED = 2**16  # values of a part that are kept for quantiles
LOW_SHARE, HIGH_SHARE = 0.05, 0.95  # quantiles that a few percent of cloud or shade do not move
APART = 2  # times what lies between them: the distance of a marker from all values
ALIAS_STEP = 2  # steps through the values are odd, so that no band of an even number is passed over
FULL = 0.5  # of the highest value of a type: images that reach it use the type
LOOKED_AT, ALPHA_BETWEEN, ALPHA_VALUES = 32, 0.5, 16  # rows about the middle; a share of them; different values
UNIT_OVERSHOOT = -0.1  # reflectance that was corrected may be a little below 0


@dataclass(frozen=True)
class ValueRange:
    """Pixel values that are mapped to 0 and 1.

    Attributes:
        low, high: the values of black and white; others are mapped beyond.
        note: what was found, in numbers; None where type or user decided.
    """

    low: float
    high: float
    note: str | None = None


class ValueSample:
    """Known pixel values of one image or of many of one type, taken part by part: extremes, quantiles, markers.

    Args:
        dtype: of the pixels.
        bits: that are used, where a tag has the number.
    """

    def __init__(self, dtype: np.dtype, bits: int | None = None):
        self.dtype, self.bits = np.dtype(dtype), bits
        self.low, self.high, self.count, self.infinite = np.inf, -np.inf, 0, 0
        self._sample: list[np.ndarray] = []
        self._markers = [(value, self.dtype.type(value)) for value in MARKERS if self._holds(value)]
        self._marked = dict.fromkeys((value for value, _ in self._markers), 0)

    def add(self, colours: np.ndarray, known: np.ndarray, *, limit: int = SAMPLED) -> None:
        """Take the values of `colours` that are `known`, of one shape; at most `limit` of them for quantiles."""
        values = colours[np.broadcast_to(known, colours.shape)]
        if self.dtype.kind == "f":
            finite = np.isfinite(values)
            self.infinite += int(np.isinf(values).sum())
            values = values[finite]
        for value, stored in self._markers:
            marked = values == stored
            if marked.any():
                self._marked[value] += int(marked.sum())
                values = values[~marked]
        self.count += values.size
        if values.size:
            self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
            step = values.size // limit
            self._sample.append(values[:: step + 1 - step % ALIAS_STEP].astype(np.float64))

    def markers(self) -> list[float]:
        """Values that mark missing pixels without being declared: further from all others than twice what most span."""
        if not self.count:
            return []
        first, last = np.quantile(np.concatenate(self._sample), [LOW_SHARE, HIGH_SHARE])
        reach = APART * (last - first)
        return [
            value
            for value, count in self._marked.items()
            if count and (value < self.low - reach or value > self.high + reach)
        ]

    def range(self) -> ValueRange:
        """The range found, see the module."""
        limits = np.iinfo(self.dtype) if self.dtype.kind in "iu" else None
        if limits is not None and self.dtype.itemsize == 1:
            return ValueRange(0.0, float(limits.max))
        if self.bits and self.dtype.kind == "u":
            high = float(2**self.bits - 1)
            return ValueRange(0.0, high, f"the file has {self.bits} bits: values from 0 to {high:g} become 0 to 1")
        markers = self.markers()
        taken = [value for value, count in self._marked.items() if count and value not in markers]
        if not self.count and not taken:
            return ValueRange(0.0, float(limits.max) if limits is not None else 1.0)
        values = np.concatenate([*self._sample, np.array(taken)])
        lowest, highest = float(min([self.low, *taken])), float(max([self.high, *taken]))
        first, last = np.quantile(values, [LOW_SHARE, HIGH_SHARE])
        low, high = max(lowest, first - (last - first)), min(highest, last + (last - first))
        if limits is None:
            if UNIT_OVERSHOOT <= low and FULL <= high <= 1:
                note = _note(self.dtype, lowest, highest, 0.0, 1.0)
                return ValueRange(0.0, 1.0, note if lowest < 0 or highest > 1 else None)
            low = 0.0 if 0 <= low < high / 2 else low
        else:
            low = min(low, 0.0)
            if self.dtype.itemsize == 2 and high >= FULL * limits.max:
                return ValueRange(0.0 if low >= 0 else float(limits.min), float(limits.max))
            low, high = float(np.floor(low)), float(np.ceil(high))
        if not low < high:
            high = low + 1.0
        return ValueRange(low, high, _note(self.dtype, lowest, highest, low, high))

    def _holds(self, value: float) -> bool:
        if self.dtype.kind == "f":
            return abs(value) <= np.finfo(self.dtype).max
        limits = np.iinfo(self.dtype)
        return self.dtype.itemsize > 1 and limits.min <= value <= limits.max


def _note(dtype: np.dtype, lowest: float, highest: float, low: float, high: float) -> str:
    beyond = "; what lies beyond is interpolated" if lowest < low or highest > high else ""
    return f"{dtype} values from {lowest:g} to {highest:g}: {low:g} to {high:g} become 0 to 1{beyond}"


def known_values(planes: np.ndarray, nodata: Sequence[float | None]) -> np.ndarray:
    """Which values (bands, n, W) of `Raster.rows` are known: finite, not nodata, and not under an alpha of 0.

    Args:
        nodata: of each band; a plane behind the bands is alpha.
    """
    colours = planes[: len(nodata)]
    known = np.isfinite(colours)
    for band, value in enumerate(nodata):
        if value is not None and not np.isnan(value):
            with np.errstate(over="ignore"):
                marker = np.float64(value).astype(planes.dtype) if planes.dtype.kind == "f" else value
            known[band] &= colours[band] != marker
    if len(planes) > len(nodata):
        known &= planes[-1] > 0
    return known


def settle_values(raster: Raster, limits: tuple[float, float] | Literal["data"] | None = None) -> ValueRange:
    """The range of a raster, given or found; markers that it does not declare become nodata of `raster.info`.

    Reads the raster once, unless its type has 8 bits, or the range is given and no marker fits the type.

    Args:
        limits: pixel values of black and white; "data": the lowest and highest of the image; None: see the module.

    Raises:
        ValueError: the range is empty.
        ImageFileError: the raster cannot be read.
    """
    info = raster.info
    warn_of_alpha(raster)
    signed = info.dtype.kind in "if" and info.dtype.itemsize > 1
    if isinstance(limits, tuple):
        low, high = limits
        if not (np.isfinite([low, high]).all() and low < high):
            raise ValueError(
                f"range {low:g} ... {high:g} is empty: give the value of black, then a higher one of white."
            )
        if not signed:
            return ValueRange(low, high)
    elif limits is None and info.dtype.itemsize == 1:
        return ValueRange(0.0, float(np.iinfo(info.dtype).max))
    sample = ValueSample(info.dtype, info.bits)
    for top in range(0, info.size[0], SCANNED_ROWS):
        planes = raster.rows(top, min(top + SCANNED_ROWS, info.size[0]))
        sample.add(planes[: info.bands], known_values(planes, info.nodata) | np.isinf(planes[: info.bands]))
    markers = sample.markers()
    if markers and all(value is None for value in info.nodata):
        raster.info = replace(info, nodata=(markers[0],) * info.bands)
    found = ValueRange(*limits) if isinstance(limits, tuple) else sample.range()
    if limits == "data":
        low, high = (sample.low, sample.high) if sample.count else (0.0, 0.0)
        found = ValueRange(low, high if low < high else low + 1.0)
    _log_values(info.path, sample, found)
    return found


def warn_of_alpha(raster: Raster) -> bool:
    """Warn of an alpha band of many values: it measures something, such as near infrared; whether it was so."""
    info = raster.info
    if info.alpha != "hard":
        return False
    middle = info.size[0] // 2
    values = raster.rows(max(0, middle - LOOKED_AT), min(middle + LOOKED_AT, info.size[0]))[info.bands]
    shown = values[values > 0]
    between = float((shown < shown.max()).mean()) if shown.size else 0.0
    if between <= ALPHA_BETWEEN or (count := len(np.unique(shown))) <= ALPHA_VALUES:
        return False
    _logger.warning(
        f"{info.path}: the band tagged as alpha has {count} values above 0 in its middle rows, {between:.0%} of "
        "them below the highest, as near infrared has: --no_alpha takes it as a band"
    )
    return True


def _log_values(path: object, sample: ValueSample, found: ValueRange) -> None:
    """The notes on what was found, a line each."""
    if found.note:
        _logger.info(f"{path}: {found.note} (--range LOW HIGH sets them)")
    for marker in sample.markers()[:1]:
        _logger.warning(
            f"{path}: {marker:g} lies apart from all other values and is taken for nodata, undeclared; --nodata names "
            "another"
        )
    if sample.infinite:
        _logger.warning(f"{path}: {sample.infinite} values are infinite and count as missing")
