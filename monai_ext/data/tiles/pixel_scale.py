"""One range of pixel values for a set of tiles: found or given, kept beside the weights, used with them afterwards."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np

from monai_ext.raster.opening import GDAL_SUFFIXES, open_raster, stored_type
from monai_ext.raster.value_range import ValueSample, known_values, warn_of_alpha
from monai_ext.runtime.ranks import is_main_process
from monai_ext.runtime.run_folders import LAST_CHECKPOINT
from monai_ext.runtime.settings import as_bool
from monai_ext.storage.records import read_record, write_record

__all__ = ["FILE", "PixelScale", "find_scale", "keep_scale", "scale_beside"]

FILE = "pixel_scale.json"
CODES = 65535
TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")
LOOKED_AT = 8  # rasters whose alpha is looked at
SAMPLED = 2**12  # values of a tile for quantiles

_logger = logging.getLogger(__name__)


class PixelScale(msgspec.Struct, frozen=True):
    """What the pixel values of a set mean.

    Attributes:
        dtype: of the files.
        low, high: values that become 0 and 1.
        nodata: that marks missing pixels, besides what files declare; None: none.
        no_alpha: bands that are tagged as alpha are bands like others, such as near infrared.
    """

    dtype: str = "uint8"
    low: float = 0.0
    high: float = 255.0
    nodata: float | None = None
    no_alpha: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in TYPES or not (np.isfinite([self.low, self.high]).all() and self.low < self.high):
            raise ValueError(
                f"a scale of '{self.dtype}' from {self.low:g} to {self.high:g}: it needs a real type of pixels, and a "
                "value of black below that of white"
            )

    @property
    def is_plain(self) -> bool:
        """Whether it is that of ordinary pictures of 8 bits."""
        return self.dtype == "uint8" and (self.low, self.high) == (0.0, 255.0)

    @property
    def is_usual(self) -> bool:
        """Whether nothing was chosen or found."""
        return self == PixelScale()

    @property
    def levels(self) -> int:
        """Steps of whole numbers from 0 to 1; 65535 for floats."""
        return max(1, round(self.high - self.low)) if np.dtype(self.dtype).kind in "iu" else CODES

    def coded(self, values: np.ndarray, *, codes: int = CODES) -> np.ndarray:
        """Values of tiles as unsigned integers, 0 and the highest being the ends of the range: uint8 if they are plain.

        Args:
            codes: the highest: 65535 for uint16, 255 for uint8.

        >>> PixelScale("int16", 0, 3000).coded(np.array([-5, 0, 1500, 3000, 9000], np.int16)).tolist()
        [0, 0, 32768, 65535, 65535]
        """
        if self.is_plain:
            return np.array(values, order="C")
        unit = (values.astype(np.float64) - self.low) / (self.high - self.low)
        return np.rint(unit.clip(0, 1) * codes).astype(np.uint16 if codes > 255 else np.uint8)


def find_scale(
    items: Sequence[Mapping],
    *,
    intensity_range: Sequence[float] | None = None,
    nodata: float | None = None,
    no_alpha: bool = False,
    weights: str | Path | None = None,
    option: str = '--intensity_range "[LOW, HIGH]"',
) -> PixelScale:
    """The scale of a set of tiles: that of the weights, or the one given, or found from the values of all tiles.

    Tiles of 8 bits have 0 to 255. For other types see `monai_ext.raster.value_range`: the log has what was found.

    Args:
        items: with "image", see `tile_items`.
        intensity_range: values that become 0 and 1.
        nodata, no_alpha: see `PixelScale`.
        weights: of a network that was trained on such tiles; the scale beside them holds, if there is one.
        option: how a user gives the range, for the log.

    Raises:
        ImageFileError: a tile cannot be read.
        ValueError: tiles of several types, an empty range, or another range than that of the weights.
    """
    given = None if intensity_range is None else _checked(intensity_range)
    nodata, no_alpha = None if nodata is None else float(nodata), as_bool(no_alpha, "no_alpha")
    types = {str(item["image"]): stored_type(item["image"]) for item in items}
    kinds = sorted({dtype.name for dtype in types.values()})
    if len(kinds) > 1:
        some = {kind: next(path for path, dtype in types.items() if dtype.name == kind) for kind in kinds}
        raise ValueError(
            f"the tiles hold values of several types, which have no range in common: "
            f"{', '.join(f'{kind} in {path}' for kind, path in some.items())}; keep them in folders of their own."
        )
    dtype = np.dtype(kinds[0])
    if not no_alpha:
        _look_at_alpha(list(types))
    stored = None if weights is None else scale_beside(weights)
    if stored is not None:
        if given not in (None, (stored.low, stored.high)) or stored.dtype != dtype.name:
            raise ValueError(
                f"'{weights}' was trained on {stored.dtype} values of {stored.low:g} to {stored.high:g}, and these "
                f"tiles hold {dtype.name}{'' if given is None else f' of {given[0]:g} to {given[1]:g}'}: take weights "
                f"trained on such tiles, or remove {FILE} beside these to have a range of its own."
            )
        return stored
    if dtype.itemsize == 1:
        low, high = given or (0.0, float(np.iinfo(dtype).max))
        return PixelScale(dtype.name, low, high, nodata, no_alpha)
    sample = ValueSample(dtype)
    for path in types:
        with closing(open_raster(path, nodata=nodata, alpha=not no_alpha)) as raster:
            planes = raster.rows(0, raster.info.size[0])
            sample.add(planes[: raster.info.bands], known_values(planes, raster.info.nodata), limit=SAMPLED)
    if nodata is None and sample.markers():
        nodata = sample.markers()[0]
        _logger.warning(
            f"{nodata:g} lies apart from all other values of the {len(types)} tiles and is taken for nodata, "
            "undeclared; --nodata names another"
        )
    found = sample.range()
    low, high = given or (found.low, found.high)
    if given is None and found.note:
        _logger.info(f"{len(types)} tiles, {found.note} ({option} sets them)")
    return PixelScale(dtype.name, low, high, nodata, no_alpha)


def _look_at_alpha(paths: Sequence[str]) -> None:
    """Warn of the first raster whose alpha is none, of some."""
    rasters = [path for path in paths if Path(path).suffix.lower() in GDAL_SUFFIXES]
    for path in rasters[:: max(1, len(rasters) // LOOKED_AT)]:
        with closing(open_raster(path)) as raster:
            if warn_of_alpha(raster):
                return


def scale_beside(weights: str | Path) -> PixelScale | None:
    """The scale that a training left beside its weights; None where there is none."""
    path = Path(weights).parent / FILE
    return read_record(path, PixelScale) if path.is_file() else None


def keep_scale(folder: str | Path, scale: PixelScale, *, resume: bool | str = False) -> None:
    """Leave the scale of a training for what uses its weights, unless it is that of usual pictures.

    Args:
        resume: go on with a training; its scale has to be the same.

    Raises:
        ValueError: it is another one.
    """
    if not is_main_process():
        return
    path, going_on = Path(folder) / FILE, as_bool(resume, "resume")
    if going_on and (Path(folder) / LAST_CHECKPOINT).is_file():
        stored = scale_beside(path) or PixelScale()
        if stored != scale:
            raise ValueError(
                f"'{folder}' was trained on {stored.dtype} values of {stored.low:g} to {stored.high:g}, nodata "
                f"{stored.nodata}, and is resumed with {scale.dtype} of {scale.low:g} to {scale.high:g}, nodata "
                f'{scale.nodata}: give --intensity_range "[{stored.low:g}, {stored.high:g}]" and --nodata as they '
                "were, or train anew in another folder."
            )
    if not scale.is_usual:
        write_record(path, scale)
    else:
        path.unlink(missing_ok=True)


def _checked(intensity_range: Sequence[float]) -> tuple[float, float]:
    try:
        low, high = map(float, intensity_range)
    except (TypeError, ValueError):
        low = high = np.nan
    if not (np.isfinite([low, high]).all() and low < high):
        raise ValueError(
            f"intensity_range={intensity_range} is empty: give the value of black, then a higher one of white, such as "
            "[0, 3000]."
        )
    return low, high
