"""Photographs read as upright uint8 tensors, with one defined conversion for every bit depth and colour mode.

A file that cannot be read, or could be read in more than one way, raises `ImageFileError`, which names it.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from PIL import ExifTags, Image, TiffImagePlugin
from torch import Tensor

from monai_ext.raster.dicom import is_dicom
from monai_ext.raster.errors import ImageFileError
from monai_ext.raster.nifti import is_volume_file
from monai_ext.raster.volume_pictures import picture_in_volume
from monai_ext.runtime.errors import one_line

__all__ = [
    "DECODING_ERRORS",
    "FORMATS",
    "PNG_SIGNATURE",
    "SIXTEEN_TO_EIGHT",
    "TURNS",
    "ImageFile",
    "ImageFileError",
    "checked_size",
    "decode_image",
    "float_range",
    "further_pages",
    "grey_values",
    "image_size",
    "is_deep_negative",
    "orientation_of",
    "read_image",
    "reading",
    "upright_size",
]

# What Pillow's readers raise on damaged files; DecompressionBombError guards against more than 179 million pixels.
DECODING_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, TypeError, LookupError, ArithmeticError, AttributeError, AssertionError,
    MemoryError, NotImplementedError, struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip
# No other reader of Pillow's is used, whatever the name of a file: the one for EPS starts another program.
FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP")
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
BLOCK = 2**20  # bytes
KIND_OF_PAGE, SMALLER_COPY, PAGE_IS_MASK = 254, 1, 4  # tag of a TIFF, and bits of its value
MOST_PAGES = 1000
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0  # tag of a TIFF, and its value for negatives
SIXTEEN_TO_EIGHT = 257  # 65535 / 255
REDUCING_GAP = 3.0  # block averages take an image down to 3 times the target, the bilinear filter the rest


def read_image(path: str | os.PathLike, *, spatial_size: Sequence[int] | None = None, draft: bool = False) -> Tensor:
    """The RGB photograph in a file, uint8 (3, H, W), upright by its EXIF orientation.

    Grey is repeated; palettes and CMYK are converted (colour profiles are ignored); transparency is laid over black,
    the surround of a dermatoscope's field. 16-bit values v become v / 257: grey rounded, colour as Pillow cuts it.
    1-bit becomes 0/255; grey TIFFs whose 0 is white are inverted. Float images must lie in [0, 1] (scaled by 255) or,
    if anything exceeds 1, in [0, 255]; 32-bit integers have no known range and are refused. Of several frames or
    pages, the first is read.

    Args:
        spatial_size: (H, W) to resize to (bilinear, antialiased); None keeps the size of the file.
        draft: let the JPEG decoder shrink by 2, 4 or 8 while decoding, never below `spatial_size`. 2 to 4 times faster
            on photographs of 600 x 450 to 4000 x 3000, and about 1/255 different on average: choose it once, for
            training and evaluation.

    Raises:
        ImageFileError: the file cannot be read, or its values have no defined range.
        ValueError: `spatial_size` is not two positive integers, or `draft` has no `spatial_size`.
    """
    return decode_image(path, checked_size(spatial_size, draft=draft), draft=draft).pixels


def image_size(path: str | os.PathLike) -> tuple[int, int]:
    """(H, W) of an image file after its EXIF rotation, from the header alone.

    Raises:
        ImageFileError: the header cannot be read.
    """
    with reading(path, header_only=True) as picture:
        return upright_size(picture, orientation_of(picture))


def checked_size(spatial_size: Sequence[int] | None, *, draft: bool = False) -> tuple[int, int] | None:
    """`spatial_size` as a pair, None for None.

    Raises:
        ValueError: it is not two positive integers, or None with `draft`.
    """
    if spatial_size is None:
        if draft:
            raise ValueError("draft=True needs a spatial_size, below which the decoder never shrinks.")
        return None
    size = tuple(int(s) for s in spatial_size) if not isinstance(spatial_size, (int, str)) else ()
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"spatial_size is {spatial_size!r}: give (height, width), two positive integers.")
    return size[0], size[1]


@contextmanager
def reading(path: str | os.PathLike, *, header_only: bool = False) -> Iterator[Image.Image]:
    """The picture in a file, open; whatever goes wrong with it inside the block becomes an `ImageFileError`.

    A volume file (NIfTI, NRRD, MetaImage) of one slice is a picture too, as clients of radiology send them.

    The checksums of a PNG are checked first, unless its header alone is to be read: Pillow leaves out those of the
    pixels. The other formats have none, but for compressed TIFFs, whose decoders check them.
    """
    try:
        if is_volume_file(path):
            yield picture_in_volume(path)
            return
        # An open file, not its name: from a name Pillow 13 maps uncompressed TIFFs into memory and mixes up the pixels
        # of those that are to be turned.
        with open(path, "rb") as file:
            if not header_only:
                _check_png(file, path)
                file.seek(0)
            with Image.open(file, formats=FORMATS) as picture:
                if min(picture.size) < 1:
                    raise ImageFileError(f"image {path} has no pixels: its size is {picture.size}.")
                yield picture
    except ImageFileError:
        raise
    except FileNotFoundError as error:
        raise ImageFileError(f"image file {path} does not exist.") from error
    except Image.UnidentifiedImageError as error:
        raise ImageFileError(f"cannot read image {path}: {_reason_for_no_reader(path)}.") from error
    except Image.DecompressionBombError as error:
        raise ImageFileError(
            f"cannot read image {path}: it has more pixels than are decoded at once ({one_line(error)}). Cut it into "
            "tiles; to upscale it, convert it to a GeoTIFF, which is read by rows (gdal_translate IN OUT.tif)."
        ) from error
    except DECODING_ERRORS as error:
        way_out = "" if getattr(error, "errno", None) else ": copy it again, or save it anew by another program"
        raise ImageFileError(f"cannot read image {path}: {one_line(error)}{way_out}.") from error


def _reason_for_no_reader(path: str | os.PathLike) -> str:
    """Why no reader takes a file, by its first bytes, and the way out."""
    with open(path, "rb") as file:
        start = file.read(8)
    if not start:
        return "it is empty, copy it again or take it away"
    if start[4:8] == b"ftyp":
        return "it is HEIC, AVIF or a film, convert it to JPEG or PNG"
    if start[:4] in TIFF_SIGNATURES:
        return (
            "it is a TIFF of a kind that is no photograph (its bands, their type or compression), convert it to PNG, "
            "or to a TIFF of 8 bits in red, green and blue"
        )
    if is_dicom(Path(path)):
        return "it is DICOM, export it as PNG"
    return f"its {Path(path).stat().st_size} bytes are no image of a known format, convert it to JPEG or PNG"


def _check_png(file: BinaryIO, path: str | os.PathLike) -> None:
    """Check the sums of all chunks of a PNG; a file of another format passes. The file is read from its beginning.

    Raises:
        ImageFileError: a sum is wrong, or a chunk is cut short.
    """
    file.seek(0)
    if file.read(len(PNG_SIGNATURE)) != PNG_SIGNATURE:
        return
    kind = b""
    while kind != b"IEND" and (head := file.read(8)):
        kind, left = head[4:], int.from_bytes(head[:4], "big")
        checksum = zlib.crc32(kind)
        while left and (block := file.read(min(left, BLOCK))):
            checksum, left = zlib.crc32(block, checksum), left - len(block)
        if left or len(stored := file.read(4)) < 4:
            raise ImageFileError(f"cannot read image {path}: it is cut short.")
        if int.from_bytes(stored, "big") != checksum:
            raise ImageFileError(f"cannot read image {path}: it is damaged, a checksum in it is wrong.")


def orientation_of(picture: Image.Image) -> int:
    """EXIF orientation 1 ... 8 that is still to be applied; to be called before the pixels are decoded."""
    if picture.format == "TIFF":
        return 1  # Pillow turns these itself, both size and pixels
    if picture.format == "PNG" and not {"exif", "Raw profile type exif"} & picture.info.keys():
        return 1  # getexif would decode the whole file to look behind the pixels
    return picture.getexif().get(ExifTags.Base.Orientation, 1)


def is_deep_negative(picture: Image.Image) -> bool:
    """Whether 0 is white in 16 bits of grey: Pillow inverts such TIFFs of up to 8 bits only."""
    if not isinstance(picture, TiffImagePlugin.TiffImageFile) or not picture.mode.startswith("I;16"):
        return False
    return picture.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO


def grey_values(picture: Image.Image) -> np.ndarray:
    """Values (H, W) of a picture of one band, as it looks."""
    values = np.asarray(picture)
    return np.iinfo(values.dtype).max - values if is_deep_negative(picture) else values


def upright_size(picture: Image.Image, orientation: int) -> tuple[int, int]:
    """(H, W) of a picture once it is turned."""
    width, height = picture.size
    return (width, height) if orientation >= 5 else (height, width)


class ImageFile(NamedTuple):
    """A photograph and how it lay in its file."""

    pixels: Tensor  # uint8 (3, H, W)
    size: tuple[int, int]  # upright (H, W) in the file
    orientation: int  # EXIF, 1 ... 8
    further_pages: int  # that are not read


def further_pages(picture: Image.Image) -> int:
    """How many pages or frames of the picture's own size follow the first; to be called before it is decoded.

    Smaller copies and masks of a TIFF are none, nor are the second pictures that cameras put into a JPEG.
    """
    if picture.format not in ("TIFF", "GIF", "WEBP", "PNG"):
        return 0
    count = getattr(picture, "n_frames", 1) - 1
    if count < 1 or not isinstance(picture, TiffImagePlugin.TiffImageFile):
        return max(0, count)
    kinds = []
    for page in range(1, min(count, MOST_PAGES) + 1):
        picture.seek(page)
        kinds.append(int(picture.tag_v2.get(KIND_OF_PAGE, 0)))
    picture.seek(0)
    return sum(not kind & (SMALLER_COPY | PAGE_IS_MASK) for kind in kinds)


def decode_image(path: str | os.PathLike, spatial_size: tuple[int, int] | None, *, draft: bool) -> ImageFile:
    """The photograph in a file; see `read_image`, for arguments that are checked already."""
    with reading(path) as picture:
        pages = further_pages(picture)
        orientation = orientation_of(picture)
        size = upright_size(picture, orientation)
        target = None  # (width, height) before turning, as Pillow has it
        if spatial_size is not None and spatial_size != size:
            target = spatial_size if orientation >= 5 else spatial_size[::-1]
            if draft:
                picture.draft(None, target)
        picture = _to_8bit(picture, path)
        if target is not None:
            picture = picture.resize(target, Image.Resampling.BILINEAR, reducing_gap=REDUCING_GAP)
        if orientation in TURNS:
            picture = picture.transpose(TURNS[orientation])
        pixels = torch.from_numpy(np.array(picture))
    if pixels.ndim == 2:
        return ImageFile(pixels.expand(3, -1, -1).contiguous(), size, orientation, pages)
    return ImageFile(pixels.permute(2, 0, 1).contiguous(), size, orientation, pages)


def _to_8bit(picture: Image.Image, path: str | os.PathLike) -> Image.Image:
    """The picture in mode L or RGB."""
    if picture.mode.startswith("I;16"):
        return Image.fromarray(((grey_values(picture).astype(np.uint32) + 128) // SIXTEEN_TO_EIGHT).astype(np.uint8))
    if picture.mode == "I":
        raise ImageFileError(f"image {path} holds 32-bit integers of unknown range: save it with 8 or 16 bits.")
    if picture.mode == "F":
        values = np.asarray(picture)
        highest = float_range(values, path)
        return Image.fromarray((values * (255 / highest) + 0.5).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "black"), picture).convert("RGB")
    if picture.mode == "1":
        return picture.convert("L")
    return picture if picture.mode in ("L", "RGB") else picture.convert("RGB")


def float_range(values: np.ndarray, path: str | os.PathLike) -> int:
    """1 or 255: the upper end of the range that float pixels are given in."""
    lowest, highest = float(values.min()), float(values.max())
    if not (0 <= lowest and highest <= 255):  # NaN fails this as well
        raise ImageFileError(
            f"image {path} holds floats from {lowest:g} to {highest:g}: only [0, 1] and [0, 255] have a meaning."
        )
    return 1 if highest <= 1 else 255
