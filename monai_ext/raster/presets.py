"""What is known of the pixel values of certain products, by name: range, nodata, bands.

Sentinel-2 products hold reflectance times 10000, 0 where there is none (their metadata: QUANTIFICATION_VALUE, NODATA).
Since processing baseline 04.00 of 25 January 2022, 1000 is added (RADIO_ADD_OFFSET and BOA_ADD_OFFSET are -1000), so
that values below zero reflectance can be stored. "Harmonized" collections have it taken off again, and so have many
mirrors.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

from monai_ext.raster.info import Raster, RasterInfo
from monai_ext.raster.value_range import known_values

__all__ = ["PRESETS", "Preset", "PresetName"]

_logger = logging.getLogger(__name__)

PresetName = Literal["sentinel2", "sentinel2_harmonized"]
TYPES = ("uint16", "int16")
LOOKED_AT = 32  # rows about the middle
TOO_LOW = 0.5  # of the values


@dataclass(frozen=True)
class Preset:
    """Pixel values of a product.

    Attributes:
        name: of the option.
        low, high: the values of black and white. Land is as bright in this range as in aerial pictures; snow and clouds
            lie beyond, where values are interpolated, and are kept.
        nodata: value of missing pixels.
        bands: names of those for red, green and blue, as patterns.
    """

    name: PresetName
    low: float
    high: float
    nodata: float = 0.0
    bands: tuple[str, ...] = (r"B0?4\b|red\b", r"B0?3\b|green\b", r"B0?2\b|blue\b")

    def numbers(self, info: RasterInfo) -> tuple[int, ...]:
        """Numbers of the bands for red, green and blue, by their names, else colours; three without either are these.

        Raises:
            ValueError: a band is not there, or the values are of another type.
        """
        if info.dtype.name not in TYPES:
            raise ValueError(
                f"{info.path} holds {info.dtype}, and --preset {self.name} is for reflectance in 16 bits: leave it out."
            )
        own = [] if info.geo is None else [band for band in info.geo.bands if band.plane < info.bands]
        described = {band.plane + 1: band.description for band in own if band.description}
        for names in (described, {band.plane + 1: band.colour for band in own}):
            matches = [[n for n, name in names.items() if re.match(each, name, re.I)] for each in self.bands]
            if all(matches):
                return tuple(numbers[0] for numbers in matches)
        if info.bands == len(self.bands) and not described:
            return tuple(range(1, info.bands + 1))
        raise ValueError(
            f"{info.path} has {info.bands} bands, and not all of B4, B3 and B2 are among their names: choose --bands "
            "RED GREEN BLUE, numbered from 1."
        )

    def warn_of_offset(self, raster: Raster) -> None:
        """Warn where most values would be below zero reflectance: the offset has been taken off already."""
        middle = raster.info.size[0] // 2
        planes = raster.rows(max(0, middle - LOOKED_AT), min(middle + LOOKED_AT, raster.info.size[0]))
        values = planes[: raster.info.bands][known_values(planes, raster.info.nodata)]
        if values.size and float(np.mean(values < self.low)) > TOO_LOW:
            _logger.warning(
                f"{raster.info.path}: most values lie below {self.low:g}, which --preset {self.name} takes for zero "
                "reflectance: --preset sentinel2_harmonized is for products without the offset of 1000"
            )


PRESETS = {
    preset.name: preset for preset in (Preset("sentinel2", 1000.0, 4000.0), Preset("sentinel2_harmonized", 0.0, 3000.0))
}
