"""GeoTIFF and other rasters that GDAL reads, by rows, through rasterio.

rasterio is imported where it is needed: the package works without it.
"""

from __future__ import annotations

import importlib.util
import logging
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple

import numpy as np

from monai_ext.raster.images import ImageFileError
from monai_ext.raster.info import BandTags, GeoTags, RasterInfo, Turn, opaque, picture_tags
from monai_ext.raster.pillow import FINGERPRINT, chosen_planes, tiff_orientation
from monai_ext.raster.remote import Address, Source, content_version, gdal_settings
from monai_ext.runtime.errors import one_line
from monai_ext.runtime.plain_text import without_secrets

__all__ = ["TYPES", "GdalRaster", "available", "fingerprint_of", "gdal", "open_dataset", "require", "with_sidecars"]

_logger = logging.getLogger(__name__)

CACHE_BYTES = 64 * 2**20  # rasterio hands this to GDAL as bytes; a row of tiles is read twice, once for the mask
# The drivers for each suffix: a VRT reads whatever file it names, so that nothing but a .vrt may be one.
DRIVERS = {
    ".tif": ("GTiff",),
    ".tiff": ("GTiff",),
    ".vrt": ("VRT",),
    ".jp2": ("JP2OpenJPEG", "JP2KAK", "JP2ECW", "JP2MrSID", "JP2Lura"),
    ".img": ("HFA", "ENVI", "EHdr"),
}
PICTURE_DRIVERS = {".png": ("PNG",), ".jpg": ("JPEG",), ".jpeg": ("JPEG",), ".bmp": ("BMP",), ".webp": ("WEBP",)}
# What rasterio raises on damaged files beside its own errors.
DAMAGES = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, AssertionError, MemoryError)
TYPES = {
    "uint8": "Byte",
    "int8": "Int8",
    "uint16": "UInt16",
    "int16": "Int16",
    "uint32": "UInt32",
    "int32": "Int32",
    "float32": "Float32",
    "float64": "Float64",
}
PALETTE_COLOURS = ("red", "green", "blue", "alpha")
# Domains that describe the file, not the image.
STRUCTURE = ("IMAGE_STRUCTURE", "DERIVED_SUBDATASETS", "SUBDATASETS", "OVERVIEWS")

_warnings_lock = threading.Lock()
_told_of_pages: set[Source] = set()  # a file may be opened many times


def available() -> bool:
    """Whether rasterio is installed."""
    return importlib.util.find_spec("rasterio") is not None


def require(path: Source) -> ModuleType:
    """rasterio.

    Raises:
        ImageFileError: it is not installed; names `path`, which needs it.
    """
    try:
        import rasterio
        import rasterio.shutil
        import rasterio.windows
    except ImportError as error:
        raise ImageFileError(f"{path} needs rasterio: pip install rasterio.") from error
    return rasterio


@contextmanager
def gdal(path: Source, doing: str, *, beside: bool = False) -> Iterator[ModuleType]:
    """rasterio with a bounded cache; its errors become `ImageFileError`.

    Args:
        beside: read .aux.xml files as well. GDAL would also write them when it calculates statistics or changes a data
            set: not to be done inside.
    """
    rasterio = require(path)
    settings = {
        "GDAL_CACHEMAX": CACHE_BYTES,
        "GDAL_PAM_ENABLED": "YES" if beside else "NO",
        "GDAL_TIFF_INTERNAL_MASK": "YES",
        "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".none",  # no file makes it use the network
    }
    if isinstance(path, Address):
        settings |= gdal_settings(path)
    with rasterio.Env(**settings):
        try:
            yield rasterio
        except ImageFileError:
            raise
        except (rasterio.errors.RasterioError, rasterio._err.CPLE_BaseError, *DAMAGES) as error:
            reason = without_secrets(one_line(error.__cause__ or error))
            raise ImageFileError(f"cannot {doing} image {path}: {reason}.") from error


def open_dataset(rasterio: ModuleType, path: Path | str, mode: str = "r", **options: Any) -> Any:
    """A data set of rasterio's, without its warning that a picture has no georeference."""
    # catch_warnings puts back what it found: two threads at once would leave the filter of one of them behind.
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        return rasterio.open(path, mode, **options)


def _open_as(rasterio: ModuleType, path: Path | str, drivers: Sequence[str]) -> Any:
    """A data set of the first of `drivers` that takes the file; `rasterio.open` takes one at a time.

    Args:
        path: a file, or GDAL's name of what is on a server.
    """
    *others, last = drivers
    for driver in others:
        with suppress(rasterio.errors.RasterioIOError):
            return open_dataset(rasterio, path, driver=driver)
    return open_dataset(rasterio, path, driver=last)


class GdalRaster:
    """A raster that stays on disk; see `Raster` and `open_raster`.

    Where rows of the upright image are columns of the file, each window reads these columns of all its rows: of a file
    without tiles that is larger than GDAL's cache, all strips are decoded anew.

    Args:
        bands, alpha: see `open_raster`.

    An .aux.xml beside it that makes it unreadable is ignored, with a warning.

    Raises:
        ImageFileError: it cannot be opened, its bands have different or complex types, or it has no such band.
    """

    def __init__(self, path: Source, *, bands: Sequence[int] | None = None, alpha: bool = True):
        self._alpha = alpha
        self._beside = isinstance(path, Path) and path.with_name(f"{path.name}.aux.xml").is_file()
        try:
            self._start(path, bands)
        except ImageFileError as error:
            if not self._beside:
                raise
            self._beside = False
            self._start(path, bands)
            _warn_of_damage(path, error)

    def _start(self, path: Source, bands: Sequence[int] | None) -> None:
        with gdal(path, "read", beside=self._beside) as rasterio:
            if isinstance(path, Address):
                content_version(path)  # or the reason why it cannot be read, which GDAL does not name
            name = path if isinstance(path, Path) else path.gdal_name
            self._dataset = _open_as(rasterio, name, DRIVERS.get(path.suffix.lower(), ("PNG",)))
            self._describe(rasterio, path, bands)

    def _describe(self, rasterio: ModuleType, path: Source, bands: Sequence[int] | None) -> None:
        dataset = self._dataset
        if dataset.count == 0:
            raise ImageFileError(f"image {path} has no bands: it holds several data sets, extract one of them first.")
        if len(dataset.subdatasets) > 1 and path not in _told_of_pages:
            _told_of_pages.add(path)
            _logger.warning(f"{path} has {len(dataset.subdatasets) - 1} further pages, which are not read")
        types = sorted(set(dataset.dtypes))
        if len(types) > 1 or types[0] not in TYPES:
            raise ImageFileError(
                f"image {path} has bands of type {', '.join(types)}: choose one real type for all bands."
            )
        dtype = np.dtype(types[0])
        self._palette = _palette(dataset)
        names = [colour.name for colour in dataset.colorinterp] if self._palette is None else list(self._palette.names)
        usual = self._alpha or self._palette is not None
        alpha = names.index("alpha") if usual and "alpha" in names else None
        own = [place for place in range(len(names)) if place != alpha]
        numbers = range(1, len(own) + 1) if bands is None else bands
        self._planes = [own[place] for place in chosen_planes(path, numbers, len(own), alpha=None)]
        count = len(self._planes)
        nodata: tuple[float | None, ...] = (None,) * count
        self._ends = None  # black plus white of a negative
        kind: Literal["hard", "mask"] | None = None
        if self._palette is None:
            nodata = tuple(dataset.nodatavals[place] for place in self._planes)
            kind = "mask" if _has_mask(dataset, rasterio) else None
            self._ends = _ends_of_negative(dataset, dtype) if len(own) == 1 else None
        if self._ends is not None:
            nodata = tuple(None if value is None else self._ends - value for value in nodata)
        if alpha is not None:
            kind = "hard"
            self._planes.append(alpha)
        geo = _geo_tags(dataset, self._planes, palette=self._palette, in_file_order=bands is None)
        if not usual:
            geo = replace(geo, bands=tuple(_without_alpha(band) for band in geo.bands))
        if self._palette is not None:
            dtype = self._palette.table.dtype
        may_be_turned = dataset.driver == "GTiff" and not geo.placed
        self._turn = Turn.of(tiff_orientation(path) if may_be_turned and isinstance(path, Path) else 1)
        size = self._turn.size(dataset.height, dataset.width)
        self.info = RasterInfo(
            path=path,
            size=size,
            bands=count,
            dtype=dtype,
            nodata=nodata,
            alpha=kind,
            geo=geo,
            bits=_bits(dataset) if self._palette is None and dtype.kind == "u" and dtype.itemsize > 1 else None,
        )

    def rows(self, top: int, bottom: int) -> np.ndarray:
        with gdal(self.info.path, "read", beside=self._beside) as rasterio:
            window = rasterio.windows.Window(*self._turn.window(top, bottom, self.info.size))
            return self._turn.upright(self._read(window))

    def window(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        """Columns [left, right) of `rows`; of a file that need not be turned the others are not read."""
        if self._turn != Turn():
            return self.rows(top, bottom)[..., left:right]
        with gdal(self.info.path, "read", beside=self._beside) as rasterio:
            return self._read(rasterio.windows.Window(left, top, right - left, bottom - top))

    def _read(self, window: Any) -> np.ndarray:
        """(planes, h, w) of a window of the file, as stored."""
        dataset, info = self._dataset, self.info
        if self._palette is not None:
            index = dataset.read(1, window=window)
            return np.ascontiguousarray(np.moveaxis(self._palette.table[index], -1, 0)[self._planes])
        pixels = dataset.read([place + 1 for place in self._planes], window=window)
        if self._ends is not None:
            pixels[: info.bands] = info.dtype.type(self._ends) - pixels[: info.bands]
        if info.alpha == "mask":
            mask = dataset.dataset_mask(window=window)[None]
            pixels = np.concatenate([pixels, np.minimum(mask, opaque(info.alpha, info.dtype)).astype(pixels.dtype)])
        return pixels

    def close(self) -> None:
        self._dataset.close()


def fingerprint_of(path: Path) -> str | None:
    """The fingerprint that `gdal_write.write` put into a TIFF, or None."""
    try:
        with gdal(path, "read") as rasterio, _open_as(rasterio, path, DRIVERS[".tif"]) as dataset:
            return dataset.tags().get(FINGERPRINT)
    except ImageFileError:
        return None


def with_sidecars(info: RasterInfo, *, bands: Sequence[int] | None, orientation: int) -> RasterInfo:
    """`info` of a picture that Pillow read, with georeference and nodata from the files beside it.

    What GDAL cannot read stays out, with a warning; so does nodata where it has other bands or values than Pillow.

    Args:
        bands: numbers of those that were read, from 1; None: all.
        orientation: EXIF orientation by which the pixels were turned.
    """
    path, numbers = info.path, range(1, info.bands + 1) if bands is None else bands
    drivers = PICTURE_DRIVERS.get(path.suffix.lower(), ())
    if not drivers:
        return info
    try:
        with gdal(path, "read", beside=True) as rasterio, _open_as(rasterio, str(path), drivers) as dataset:
            geo = Turn.of(orientation).geo(replace(picture_tags(info), **_place(dataset)), info.size)
            indices = dataset.colorinterp[0].name == "palette" or _bits(dataset) is not None
            alike = not indices and info.alpha is None and dataset.dtypes[0] == info.dtype.name
            if alike and max(numbers) <= dataset.count:
                info = replace(info, nodata=tuple(dataset.nodatavals[number - 1] for number in numbers))
            return replace(info, geo=geo) if geo.placed else info
    except ImageFileError as error:
        _warn_of_damage(path, error)
        return info


def _warn_of_damage(path: Source, error: ImageFileError) -> None:
    _logger.warning(f"{path}: files beside it are ignored: {error}")


def _without_alpha(band: BandTags) -> BandTags:
    return replace(band, colour="undefined") if band.colour == "alpha" else band


class _Palette(NamedTuple):
    """Colours by index: (256 or 65536, n) uint8, and the names of the n columns."""

    table: np.ndarray
    names: tuple[str, ...]


def _palette(dataset: Any) -> _Palette | None:
    """Red, green and blue by index, alpha too where a colour is transparent; None where the pixels are no indices.

    GDAL makes palettes of grey as well: of one bit, and where 0 is white. Those stay one band.
    """
    if dataset.count != 1 or dataset.colorinterp[0].name != "palette" or dataset.dtypes[0] not in ("uint8", "uint16"):
        return None
    bits, negative = _bits(dataset), _is_negative(dataset)
    if negative and bits is None:
        return None
    table = np.zeros((np.iinfo(dataset.dtypes[0]).max + 1, 4), np.uint8)
    for index, colour in dataset.colormap(1).items():
        table[index] = colour
    if dataset.nodatavals[0] is not None and 0 <= dataset.nodatavals[0] < len(table):
        table[int(dataset.nodatavals[0]), 3] = 0  # missing stays missing: a colour cannot mark it any more
    used = list(dataset.colormap(1))
    transparent = bool((table[used, 3] < 255).any())
    if (negative or bits == 1) and (table[used, :1] == table[used, :3]).all():
        return _Palette(table[:, [0, 3]], ("gray", "alpha")) if transparent else _Palette(table[:, :1], ("gray",))
    count = 4 if transparent else 3
    return _Palette(table[:, :count], PALETTE_COLOURS[:count])


def _bits(dataset: Any) -> int | None:
    """Bits of a pixel that are fewer than those of its type; None where all are used."""
    bits, most = dataset.tags(1, ns="IMAGE_STRUCTURE").get("NBITS"), 8 * np.dtype(dataset.dtypes[0]).itemsize
    return next((number for number in range(1, most) if str(number) == bits), None)


def _is_negative(dataset: Any) -> bool:
    """Whether it is a grey TIFF whose 0 is white."""
    return dataset.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES"


def _ends_of_negative(dataset: Any, dtype: np.dtype) -> int | None:
    """Black plus white of whole numbers whose lowest is white: what to take pixels from; None where all is usual.

    Floats have no highest value, and stay as they are.
    """
    if not _is_negative(dataset) or dtype.kind not in "iu":
        return None
    bits, limits = _bits(dataset), np.iinfo(dtype)
    return 2**bits - 1 if bits and dtype.kind == "u" else int(limits.min) + int(limits.max)


def _has_mask(dataset: Any, rasterio: ModuleType) -> bool:
    flags = rasterio.enums.MaskFlags
    return flags.per_dataset in dataset.mask_flag_enums[0] and flags.alpha not in dataset.mask_flag_enums[0]


def _place(dataset: Any) -> dict[str, Any]:
    """The georeference, as arguments of `GeoTags`."""
    gcps, gcp_crs = dataset.gcps
    return {
        "crs": dataset.crs.to_wkt() if dataset.crs else None,
        "transform": None if dataset.transform.is_identity else tuple(dataset.transform)[:6],
        "gcps": tuple((g.row, g.col, g.x, g.y, g.z or 0.0) for g in gcps),
        "gcp_crs": gcp_crs.to_wkt() if gcp_crs else None,
    }


def _geo_tags(dataset: Any, planes: Sequence[int], *, palette: _Palette | None, in_file_order: bool) -> GeoTags:
    """Metadata of the bands at `planes` of the file (alpha last), in that order or the file's."""
    domains = [d for d in dataset.tag_namespaces() if d not in STRUCTURE and not d.startswith("xml:")]
    tags = {domain: dataset.tags(ns=domain) for domain in domains} | {"": dataset.tags()}
    if palette is not None:
        bands = [BandTags(plane, palette.names[place]) for plane, place in enumerate(planes)]
    else:
        bands = [
            BandTags(
                plane,
                dataset.colorinterp[place].name,
                description=dataset.descriptions[place],
                unit=dataset.units[place],
                scale=dataset.scales[place],
                offset=dataset.offsets[place],
                tags={k: text for k, text in dataset.tags(place + 1).items() if not k.startswith("STATISTICS_")},
            )
            for plane, place in enumerate(planes)
        ]
        if in_file_order:  # alpha need not be the last band of the file
            bands.sort(key=lambda band: planes[band.plane])
    return GeoTags(**_place(dataset), tags=tags, bands=tuple(bands))
