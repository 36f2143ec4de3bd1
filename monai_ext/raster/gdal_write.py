"""Raw rows written as GeoTIFF, Cloud-Optimised GeoTIFF or PNG through rasterio."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

from monai_ext.raster.gdal import TYPES, gdal, open_dataset
from monai_ext.raster.images import ImageFileError
from monai_ext.raster.info import GeoTags, RasterInfo, picture_tags
from monai_ext.raster.pillow import FINGERPRINT

__all__ = ["write"]

PIECE = 2048  # rows and columns that are compared at a time, whole tiles of any size that GDAL chooses
PIXEL_INTERLEAVED = 8  # beyond this many bands each is stored by itself, so that few can be read alone
COLOURS = {"gray": "Gray", "grey": "Gray", "red": "Red", "green": "Green", "blue": "Blue", "alpha": "Alpha"}
COLOURS |= {"cyan": "Cyan", "magenta": "Magenta", "yellow": "Yellow", "black": "Black"}


def write(path: Path, rows: Path, info: RasterInfo, *, scale: int, fingerprint: str, cog: bool) -> None:
    """Write raw rows as GeoTIFF, Cloud-Optimised GeoTIFF or PNG (by the suffix of `path`); see `write_raster`.

    Lossless (deflate), tiled, BigTIFF where it must be; GDAL copies piece by piece from the raw rows, which a virtual
    raster beside them describes. A Cloud-Optimised GeoTIFF keeps either metadata domains or tags of bands; where there
    are both, the bands' are kept.
    """
    virtual = rows.with_name(rows.name + ".vrt")
    geo = info.geo or picture_tags(info)
    geo = replace(geo, tags={domain: FINER.get(domain, _as_it_is)(tags, scale) for domain, tags in geo.tags.items()})
    options = {"COMPRESS": "DEFLATE", "BIGTIFF": "IF_SAFER", "NUM_THREADS": "ALL_CPUS"}
    if path.suffix.lower() == ".png":
        driver, options = "PNG", {}
    elif cog:
        driver, options = "COG", options | {"PREDICTOR": "YES"}
    else:
        driver, options = "GTiff", options | {"PREDICTOR": "2" if info.dtype.kind in "iu" else "3", "TILED": "YES"}
        if info.planes > PIXEL_INTERLEAVED:
            options["INTERLEAVE"] = "BAND"
    domains = {domain: tags for domain, tags in geo.tags.items() if domain not in ("", "RPC")}
    # GDAL copies either the domains or the tags of the bands.
    if domains and driver != "PNG" and not any(band.tags for band in geo.bands):
        options["COPY_SRC_MDD"] = "YES"
    try:
        virtual.write_bytes(_virtual_raster(rows.name, info, geo, scale=scale, fingerprint=fingerprint))
        with gdal(path, "write") as rasterio:
            rasterio.shutil.copy(virtual, path, driver=driver, **options)
            if domains and driver == "GTiff" and "COPY_SRC_MDD" not in options:
                with open_dataset(rasterio, path, "r+") as dataset:
                    for domain, tags in domains.items():
                        dataset.update_tags(ns=domain, **tags)
            if driver != "PNG":
                _read_again(rasterio, path, virtual)
    finally:
        virtual.unlink(missing_ok=True)


def _read_again(rasterio: ModuleType, path: Path, virtual: Path) -> None:
    """Compare the file with its source: GDAL reports no error where the disk is full when a TIFF is closed."""
    with open_dataset(rasterio, path) as written, open_dataset(rasterio, virtual) as wanted:
        for top in range(0, wanted.height, PIECE):
            for left in range(0, wanted.width, PIECE):
                size = min(PIECE, wanted.width - left), min(PIECE, wanted.height - top)
                window = rasterio.windows.Window(left, top, *size)
                if written.read(window=window).tobytes() != wanted.read(window=window).tobytes():
                    raise ImageFileError(f"cannot write image {path}: it reads otherwise than it was written.")


def _virtual_raster(rows: str, info: RasterInfo, geo: GeoTags, *, scale: int, fingerprint: str) -> bytes:
    """GDAL's XML description (VRT) of the raw rows with the metadata of `info`."""
    height, width = scale * info.size[0], scale * info.size[1]
    root = ElementTree.Element("VRTDataset", rasterXSize=str(width), rasterYSize=str(height))
    if geo.crs:
        _add(root, "SRS", geo.crs, dataAxisToSRSAxisMapping="1,2")
    if geo.transform:
        a, b, c, d, e, f = geo.transform
        finer = (c, a / scale, b / scale, f, d / scale, e / scale)
        _add(root, "GeoTransform", ", ".join(map(repr, finer)))
    if geo.gcps:
        points = _add(root, "GCPList", Projection=geo.gcp_crs or "", dataAxisToSRSAxisMapping="1,2")
        for number, (row, column, x, y, z) in enumerate(geo.gcps, 1):
            position = {"Pixel": column * scale, "Line": row * scale, "X": x, "Y": y, "Z": z}
            _add(points, "GCP", Id=str(number), **{key: repr(float(value)) for key, value in position.items()})
    for domain, tags in (geo.tags | {"": geo.tags.get("", {}) | {FINGERPRINT: fingerprint}}).items():
        _add_metadata(root, tags, domain)
    for number, band in enumerate(geo.bands, 1):
        element = _raw_band(root, rows, info, band.plane, width, band=str(number))
        if band.description:
            _add(element, "Description", band.description)
        if band.plane < info.bands and info.nodata[band.plane] is not None:
            _add(element, "NoDataValue", repr(info.nodata[band.plane]))
        if band.unit:
            _add(element, "UnitType", band.unit)
        if (band.offset, band.scale) != (0.0, 1.0):
            _add(element, "Offset", repr(band.offset))
            _add(element, "Scale", repr(band.scale))
        _add(element, "ColorInterp", COLOURS.get(band.colour, "Undefined"))
        _add_metadata(element, band.tags)
    if info.alpha == "mask":
        _raw_band(_add(root, "MaskBand"), rows, info, info.bands, width)
    return ElementTree.tostring(root)


def _raw_band(
    parent: ElementTree.Element, rows: str, info: RasterInfo, plane: int, width: int, **attributes: str
) -> ElementTree.Element:
    item = info.dtype.itemsize
    band = _add(parent, "VRTRasterBand", dataType=TYPES[info.dtype.name], subClass="VRTRawRasterBand", **attributes)
    _add(band, "SourceFilename", rows, relativetoVRT="1")
    _add(band, "ByteOrder", "LSB" if sys.byteorder == "little" else "MSB")
    _add(band, "ImageOffset", str(plane * width * item))
    _add(band, "PixelOffset", str(item))
    _add(band, "LineOffset", str(info.planes * width * item))
    return band


def _add(parent: ElementTree.Element, name: str, text: str | None = None, **attributes: str) -> ElementTree.Element:
    element = ElementTree.SubElement(parent, name, attributes)
    element.text = text
    return element


def _add_metadata(parent: ElementTree.Element, tags: dict[str, str], domain: str = "") -> None:
    if tags:
        metadata = _add(parent, "Metadata", **({"domain": domain} if domain else {}))
        for key, text in tags.items():
            _add(metadata, "MDI", text, key=key)


def _finer_geolocation(tags: dict[str, str], scale: int) -> dict[str, str]:
    """Arrays of coordinates whose first value is at pixel OFFSET, the next one STEP pixels on, from pixel corners."""
    finer = dict(tags)
    shift = 0.5 if tags.get("GEOREFERENCING_CONVENTION") == "PIXEL_CENTER" else 0.0
    with suppress(ValueError):
        for axis in ("PIXEL", "LINE"):
            finer[f"{axis}_STEP"] = repr(float(tags.get(f"{axis}_STEP", 1)) * scale)
            finer[f"{axis}_OFFSET"] = repr((float(tags.get(f"{axis}_OFFSET", 0)) + shift) * scale - shift)
    return finer


def _finer_rpc(tags: dict[str, str], scale: int) -> dict[str, str]:
    """Rational polynomial coefficients count pixels from the centre of the first one."""
    finer = dict(tags)
    for axis in ("LINE", "SAMP"):
        if f"{axis}_OFF" in tags and f"{axis}_SCALE" in tags:
            finer[f"{axis}_OFF"] = repr((float(tags[f"{axis}_OFF"]) + 0.5) * scale - 0.5)
            finer[f"{axis}_SCALE"] = repr(float(tags[f"{axis}_SCALE"]) * scale)
    return finer


def _as_it_is(tags: dict[str, str], scale: int) -> dict[str, str]:
    return tags


FINER = {"RPC": _finer_rpc, "GEOLOCATION": _finer_geolocation}  # domains that count pixels
