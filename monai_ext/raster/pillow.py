"""Pictures read and written as a whole by Pillow, as rasters of rows; their headers, and the files beside them."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin, TiffImagePlugin

from monai_ext.raster.images import PNG_SIGNATURE, TURNS, ImageFileError, is_deep_negative, orientation_of, reading
from monai_ext.raster.info import RasterInfo
from monai_ext.raster.png_rows import write_png
from monai_ext.raster.remote import Source
from monai_ext.storage.pictures import save_picture

__all__ = [
    "FINGERPRINT",
    "PillowRaster",
    "check_picture",
    "chosen_planes",
    "fingerprint_of",
    "georeference_beside",
    "is_16_bit_png",
    "is_deep_png",
    "is_plain_tiff",
    "sidecars",
    "tiff_orientation",
    "write",
]

FINGERPRINT = "monai_ext_upscale"
GEO_TAGS = (33550, 33922, 34264, 34735, 50844)  # pixel scale, tie points, transformation, geo keys, RPC
GEO_WORDS = (b"<SRS", b"<GeoTransform", b"<GCPList", b"<GeodataXform")  # what makes an .aux.xml a georeference
BITS_PER_SAMPLE = 258
ORIENTATION = 274
SAMPLES_PER_PIXEL = 277
SOFTWARE = 305
XMP = 700
XMP_ORIENTATION = rb'tiff:Orientation(?:="|>)([0-9])'
BIG_TIFF = 43
MOST_TAGS = 65535
LONGEST_TEXT = 2**20  # bytes of a text beside the pixels that are looked through
JPEG_QUALITY = 95
STRIP_BYTES = 8 * 2**20  # of raw rows at a time
LONGEST = {".jpg": 65500, ".jpeg": 65500}  # pixels per side


class PillowRaster:
    """A picture, decoded as a whole when it is opened; see `Raster` and `open_raster`.

    Attributes:
        orientation: EXIF orientation 1 ... 8 of the file's pixels, by which they were turned.

    Raises:
        ImageFileError: it cannot be read, or has no such band.
    """

    def __init__(self, path: Path, *, bands: Sequence[int] | None = None):
        with reading(path) as picture:
            self.orientation = orientation_of(picture)
            keep = _kept_beside_the_pixels(picture)
            negative = is_deep_negative(picture)
            picture = _plain(picture, path)
            if self.orientation in TURNS:
                picture = picture.transpose(TURNS[self.orientation])
            pixels = np.array(picture)
        if negative:
            pixels = np.iinfo(pixels.dtype).max - pixels
        pixels = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
        pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
        has_alpha = picture.mode in ("LA", "RGBA")
        count = len(pixels) - has_alpha
        if bands is not None:
            pixels = pixels[chosen_planes(path, bands, count, alpha=count if has_alpha else None)]
            count = len(bands)
        self._pixels = pixels
        self.info = RasterInfo(
            path=path,
            size=pixels.shape[1:],
            bands=count,
            dtype=pixels.dtype,
            nodata=(None,) * count,
            alpha="soft" if has_alpha else None,
            picture=keep,
        )

    def rows(self, top: int, bottom: int) -> np.ndarray:
        return self._pixels[:, top:bottom]

    def close(self) -> None:
        pass


def chosen_planes(path: Source, bands: Sequence[int], count: int, *, alpha: int | None) -> list[int]:
    """Positions of the bands numbered `bands` (from 1), then that of alpha.

    Raises:
        ImageFileError: there is no such band.
    """
    if not bands or min(bands) < 1 or max(bands) > count:
        chosen = ",".join(map(str, bands))
        raise ImageFileError(
            f"image {path} has no bands {chosen}: it has {count}, alpha not counted; number them from 1."
        )
    return [number - 1 for number in bands] + ([] if alpha is None else [alpha])


def _plain(picture: Image.Image, path: Path) -> Image.Image:
    """The picture in mode L, LA, RGB, RGBA, I;16 or F."""
    if picture.mode == "I":
        values = np.asarray(picture)
        if values.min() < 0 or values.max() > 65535:
            raise ImageFileError(f"image {path} holds 32-bit integers: save it with 8 or 16 bits or as float TIFF.")
        return Image.fromarray(values.astype(np.uint16))
    if picture.mode.startswith("I;16") or picture.mode == "F":
        return picture
    if picture.has_transparency_data:
        return picture.convert("LA" if picture.mode in ("L", "LA", "La", "1") else "RGBA")
    if picture.mode == "1":
        return picture.convert("L")
    return picture if picture.mode in ("L", "RGB") else picture.convert("RGB")


def _kept_beside_the_pixels(picture: Image.Image) -> dict[str, Any]:
    keep: dict[str, Any] = {key: picture.info[key] for key in ("icc_profile", "dpi") if picture.info.get(key)}
    if picture.mode == "CMYK":
        keep.pop("icc_profile", None)  # it describes inks, the output has colours
    if picture.format in ("JPEG", "PNG", "WEBP") and "exif" in picture.info:
        exif = picture.getexif()
        exif.pop(ExifTags.Base.Orientation, None)
        if exif:
            keep["exif"] = exif.tobytes()
    return keep


def is_deep_png(path: Path) -> bool:
    """Whether the file is a PNG of 16 bits with more than one channel, which Pillow would cut to 8."""
    return is_16_bit_png(path) and _png_header(path)[25] in (2, 4, 6)


def is_16_bit_png(path: Path) -> bool:
    """Whether the file is a PNG of 16 bits."""
    header = _png_header(path)
    return header[:8] == PNG_SIGNATURE and len(header) == 26 and header[24] == 16


def _png_header(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(26)


def is_plain_tiff(path: Path) -> bool:
    """Whether a file is a TIFF whose pixels and meaning Pillow keeps: no georeference, 16-bit colour or more bands.

    A georeference beside it does not matter unless the pixels are to be turned, as georeferenced ones are not.
    """
    try:
        with reading(path) as picture:
            if not isinstance(picture, TiffImagePlugin.TiffImageFile):
                return False
            if any(tag in picture.tag_v2 for tag in GEO_TAGS):
                return False
            if georeference_beside(path) and tiff_orientation(path) != 1:
                return False
            bits = picture.tag_v2.get(BITS_PER_SAMPLE, (1,))
            all_bands = picture.tag_v2.get(SAMPLES_PER_PIXEL, 1) == len(picture.getbands()) and picture.mode != "RGBX"
            return all_bands and (len(bits) == 1 or max(bits) <= 8)
    except ImageFileError:
        return False


def tiff_orientation(path: Path) -> int:
    """The orientation 1 ... 8 of a TIFF's first page, by its tag or else its XMP, as Pillow turns it.

    1 where there is none, or none that can be read. Only the list of tags is read, and an XMP of up to 1 MiB, so that
    the file may be of any size; Pillow opens no TIFF of many bands or pixels.
    """
    try:
        with path.open("rb") as file:
            found = _orientation_in(file)
    except (OSError, ValueError, OverflowError, struct.error):
        return 1
    return found if found in TURNS else 1


def _orientation_in(file: BinaryIO) -> int:
    head = file.read(16)
    order = ">" if head[:2] == b"MM" else "<"
    big = struct.unpack_from(f"{order}H", head, 2)[0] == BIG_TIFF
    offset, number, entry = ("Q", "Q", "HHQ8s") if big else ("L", "H", "HHL4s")
    file.seek(struct.unpack_from(order + offset, head, 8 if big else 4)[0])
    count = struct.unpack(order + number, file.read(struct.calcsize(order + number)))[0]
    found: dict[int, tuple[int, int, bytes]] = {}
    for _ in range(min(count, MOST_TAGS)):
        tag, kind, length, value = struct.unpack(order + entry, file.read(struct.calcsize(order + entry)))
        found.setdefault(tag, (kind, length, value))
    if ORIENTATION in found:
        kind, length, value = found[ORIENTATION]
        code = {3: "H", 4: "L"}.get(kind)
        return struct.unpack_from(order + code, value)[0] if code and length == 1 else 1
    _, length, value = found.get(XMP, (0, 0, b""))
    if not len(value) < length <= LONGEST_TEXT:
        return 1
    file.seek(struct.unpack_from(order + offset, value)[0])
    match = re.search(XMP_ORIENTATION, file.read(length))
    return int(match[1]) if match else 1


def sidecars(path: Path) -> list[Path]:
    """World files and GDAL's .aux.xml that lie beside an image."""
    kind = path.suffix[1:]
    worlds = (f"{kind[:1]}{kind[-1:]}w", f"{kind}w", "wld")
    names = [path.with_suffix(f".{each}") for world in worlds for each in {world.lower(), world.upper()}]
    return [name for name in (*names, path.with_name(f"{path.name}.aux.xml")) if name.is_file()]


def georeference_beside(path: Path) -> bool:
    """Whether a file beside an image places it on the ground; an .aux.xml may hold no more than statistics."""
    for sidecar in sidecars(path):
        if sidecar.suffix != ".xml":
            return True
        with suppress(OSError), sidecar.open("rb") as file:
            text = file.read(LONGEST_TEXT)
            if any(word in text for word in GEO_WORDS):
                return True
    return False


def check_picture(path: Path, info: RasterInfo, *, scale: int) -> None:
    """Refuse what Pillow could not write at `path`.

    Raises:
        ValueError: the format cannot hold so many pixels, such bands or such values.
    """
    suffix = path.suffix.lower()
    longest = LONGEST.get(suffix)
    if longest and scale * max(info.size) > longest:
        raise ValueError(
            f"output {path}: {scale * info.size[0]} x {scale * info.size[1]} pixels are more than a JPEG can hold "
            f"({longest} per side): choose .png or .tif."
        )
    deep = info.dtype != np.uint8
    if suffix in (".jpg", ".jpeg"):
        fits = not deep and info.planes in (1, 3) and info.alpha is None
    else:
        depths = (np.uint8, np.uint16, np.float32) if suffix.startswith(".tif") else (np.uint8, np.uint16)
        fits = info.dtype in depths and info.bands in (1, 3) and (not deep or info.planes == 1)
    if not fits:
        with_alpha = " and alpha" if info.alpha else ""
        raise ValueError(
            f"output {path}: '{suffix}' cannot hold {info.bands} band(s){with_alpha} of {info.dtype}, as in "
            f"{info.path}: choose .tif with rasterio (pip install rasterio)."
        )


def write(path: Path, rows: Path, info: RasterInfo, *, scale: int, fingerprint: str) -> None:
    """Write raw rows as a picture in the format of the suffix of `path`; see `write_raster`. JPEG with quality 95.

    PNG takes memory for some rows, JPEG and TIFF for the whole picture.
    """
    size = scale * info.size[0], scale * info.size[1]
    options, suffix = dict(info.picture), path.suffix.lower()
    strips = _strips(rows, info, size)
    if suffix == ".png":
        text = PngImagePlugin.PngInfo()
        text.add_text(FINGERPRINT, fingerprint)
        write_png(path, strips, size=size, **options, pnginfo=text)
        return
    if suffix in (".jpg", ".jpeg"):
        options |= {"quality": JPEG_QUALITY, "subsampling": 0, "comment": f"{FINGERPRINT}={fingerprint}"}
    else:
        options.pop("exif", None)
        options |= {"compression": "tiff_adobe_deflate", "tiffinfo": {SOFTWARE: f"{FINGERPRINT}={fingerprint}"}}
    save_picture(_whole(strips, info, size), path, **options)


def _strips(rows: Path, info: RasterInfo, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """Raw rows as strips (n, W, planes)."""
    height, width = size
    step = max(1, STRIP_BYTES // (width * info.planes * info.dtype.itemsize))
    with rows.open("rb") as file:
        for top in range(0, height, step):
            count = min(step, height - top)
            strip = np.fromfile(file, info.dtype, count * info.planes * width)
            yield np.ascontiguousarray(strip.reshape(count, info.planes, width).transpose(0, 2, 1))


def _whole(strips: Iterator[np.ndarray], info: RasterInfo, size: tuple[int, int]) -> Image.Image:
    """The picture, once in memory."""
    if info.dtype != np.uint8:
        planes = np.concatenate(list(strips))
        return Image.fromarray(planes[..., 0] if info.planes == 1 else planes)
    picture: Image.Image | None = None
    top = 0
    for strip in strips:
        part = Image.fromarray(strip[..., 0] if info.planes == 1 else strip)
        picture = picture or Image.new(part.mode, size[::-1])
        picture.paste(part, (0, top))
        top += len(strip)
    assert picture is not None
    return picture


def fingerprint_of(path: Path) -> str | None:
    """The fingerprint that `write` here or in `gdal_write` put into the file, or None."""
    try:
        with reading(path) as picture:
            if FINGERPRINT in picture.info:
                return picture.info[FINGERPRINT]
            text = picture.info.get("comment", b"")
            if isinstance(picture, TiffImagePlugin.TiffImageFile):
                # GDAL keeps its metadata in tag 42112 as XML.
                text = f"{picture.tag_v2.get(SOFTWARE, '')} {picture.tag_v2.get(42112, '')}"
    except ImageFileError:
        return None
    text = text.decode("latin-1") if isinstance(text, bytes) else str(text)
    found = re.search(rf"{FINGERPRINT}(?:=|\">)([0-9a-f]+)", text)
    return found[1] if found else None
