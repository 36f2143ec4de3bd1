"""Images of any size and kind: opened to be read by rows, and written upscaled.

PNG, JPEG and the like go through Pillow; TIFF, GeoTIFF and other rasters through rasterio, where that is installed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

from monai_ext.raster import gdal, gdal_write, pillow
from monai_ext.raster.images import ImageFileError, image_size, reading
from monai_ext.raster.info import Raster, RasterInfo
from monai_ext.raster.remote import Address

__all__ = [
    "GDAL_SUFFIXES",
    "PILLOW_SUFFIXES",
    "check_output",
    "has_georeference",
    "open_raster",
    "output_suffix",
    "stored_size",
    "stored_type",
    "write_raster",
    "written_by",
]

GDAL_SUFFIXES = (".tif", ".tiff", ".vrt", ".jp2", ".img")
PILLOW_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
OUTPUT_SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg")


def open_raster(
    path: str | os.PathLike | Address,
    *,
    bands: Sequence[int] | None = None,
    nodata: float | None = None,
    alpha: bool = True,
) -> Raster:
    """The image in a file, ready to be read by rows; of a TIFF by address only what is read is fetched.

    Pictures and TIFFs are turned upright (EXIF), but not TIFFs with a georeference, which counts the pixels as they are
    stored. Palettes become RGB(A), CMYK becomes RGB; grey whose 0 is white (TIFF, whole numbers) is inverted, nodata
    with it; of several frames or pages the first is read. 16-bit colour PNGs, which Pillow cuts to 8 bits, and all
    TIFFs go through rasterio; without rasterio plain TIFFs still open.

    Georeference and nodata are read from world files and .aux.xml beside the image as well, by rasterio; that of a
    picture turns with it. No such file is written.

    Args:
        bands: numbers of the bands to read, from 1; None: all.
        nodata: value that marks missing pixels, whatever the file declares; None: what it declares.
        alpha: False: a band of a TIFF that is tagged as alpha is a band like the others, such as near infrared.

    Raises:
        ImageFileError: the file is missing, damaged or of a kind that cannot be read, or has no such band; or rasterio
            is needed and not installed.
    """
    raster: Raster
    if isinstance(path, Address):
        raster = gdal.GdalRaster(path, bands=bands, alpha=alpha)
    else:
        raster = _open_file(Path(path), bands=bands, alpha=alpha)
    if nodata is not None:
        raster.info = replace(raster.info, nodata=(float(nodata),) * raster.info.bands)
    return raster


def _open_file(path: Path, *, bands: Sequence[int] | None, alpha: bool) -> Raster:
    if not path.is_file():
        raise ImageFileError(f"image file {path} does not exist.")
    needs_gdal = path.suffix.lower() in GDAL_SUFFIXES
    if pillow.is_deep_png(path):
        needs_gdal = True
        with reading(path):  # checks the sums, as GDAL does not
            pass
    if needs_gdal and (gdal.available() or not pillow.is_plain_tiff(path)):
        return gdal.GdalRaster(path, bands=bands, alpha=alpha)
    picture = pillow.PillowRaster(path, bands=bands)
    if gdal.available() and pillow.sidecars(path):
        picture.info = gdal.with_sidecars(picture.info, bands=bands, orientation=picture.orientation)
    return picture


def stored_type(path: str | os.PathLike) -> np.dtype:
    """The type of the pixels in a file, as `open_raster` gives them; pictures are not decoded.

    Raises:
        ImageFileError: as `open_raster`.
    """
    path = Path(path)
    if path.suffix.lower() in (".jpg", ".jpeg", ".webp", ".bmp") or (
        path.suffix.lower() == ".png" and path.is_file() and not pillow.is_16_bit_png(path)
    ):
        return np.dtype(np.uint8)
    with closing(open_raster(path)) as raster:
        return raster.info.dtype


def stored_size(path: str | os.PathLike) -> tuple[int, int]:
    """(H, W) of the image in a file, as `open_raster` gives it; pictures are not decoded.

    Raises:
        ImageFileError: as `open_raster`.
    """
    if Path(path).suffix.lower() in PILLOW_SUFFIXES:
        return image_size(path)
    with closing(open_raster(path)) as raster:
        return raster.info.size


def has_georeference(info: RasterInfo) -> bool:
    """Whether an image, or a file beside it, places it on the ground, be that read (rasterio) or not."""
    placed = info.geo is not None and info.geo.placed
    return placed or (isinstance(info.path, Path) and pillow.georeference_beside(info.path))


def output_suffix(path: str | os.PathLike) -> str:
    """The suffix of the upscaled image: the same where it can be written, else a lossless kind."""
    suffix = Path(path).suffix.lower()
    if suffix in OUTPUT_SUFFIXES:
        return Path(path).suffix
    return ".tif" if suffix in GDAL_SUFFIXES else ".png"


def check_output(path: str | os.PathLike, info: RasterInfo, *, scale: int, cog: bool = False) -> None:
    """Refuse before the work what could not be written after it.

    Raises:
        ValueError: the kind of file that `path` names cannot hold the upscaled image, or `cog` is set for another
            kind than TIFF.
        ImageFileError: rasterio is needed, as for every georeference, and not installed.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in OUTPUT_SUFFIXES:
        raise ValueError(f"output {path}: '{suffix}' cannot be written, choose one of {', '.join(OUTPUT_SUFFIXES)}.")
    is_tiff = suffix in (".tif", ".tiff")
    if cog and not is_tiff:
        raise ValueError(f"output {path}: a Cloud-Optimised GeoTIFF needs a name in .tif.")
    if cog or is_tiff and (info.geo is not None or has_georeference(info)):
        gdal.require(path)
    if not _through_gdal(path, info, cog=cog):
        pillow.check_picture(path, info, scale=scale)


def write_raster(
    path: Path, target: Path, rows: Path, info: RasterInfo, *, scale: int, fingerprint: str, cog: bool = False
) -> None:
    """Write the upscaled image at `path`.

    Args:
        target: the name that it will have in the end, for messages and for the choice of format.
        rows: file of raw pixels, (s*H, planes, s*W) in the machine's byte order.
        info: of the image that was upscaled.
        fingerprint: text that is kept in the file, see `written_by`.
        cog: as a Cloud-Optimised GeoTIFF with overviews.

    Raises:
        ImageFileError: it cannot be written.
    """
    if _through_gdal(target, info, cog=cog):
        gdal_write.write(path, rows, info, scale=scale, fingerprint=fingerprint, cog=cog)
    else:
        pillow.write(path, rows, info, scale=scale, fingerprint=fingerprint)


def written_by(path: str | os.PathLike) -> str | None:
    """The fingerprint that `write_raster` left in a file, None where there is none."""
    path, found = Path(path), None
    if path.suffix.lower() in (".tif", ".tiff") and gdal.available():
        found = gdal.fingerprint_of(path)  # Pillow opens no TIFF of many bands
    return found or pillow.fingerprint_of(path)


def _through_gdal(path: Path, info: RasterInfo, *, cog: bool) -> bool:
    if path.suffix.lower() in (".tif", ".tiff"):
        return cog or gdal.available()
    return path.suffix.lower() == ".png" and info.dtype == np.uint16 and info.planes > 1 and gdal.available()
