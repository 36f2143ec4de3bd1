"""PNG written row by row: memory for some rows, whatever the size of the picture."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from monai_ext.raster.images import PNG_SIGNATURE

__all__ = ["write_png"]

PIECE = 2**18  # bytes of compressed data in a chunk
LEVEL = 6  # of zlib, as in Pillow
SUB, UP, PAETH = 1, 2, 4  # how a row is predicted: from the left, from above, from both


def write_png(path: Path, strips: Iterable[np.ndarray], *, size: tuple[int, int], **options: Any) -> None:
    """Write a picture of `size` (H, W) from strips of its rows, (n, W, planes), uint8 or uint16, one after the other.

    Args:
        options: as for Pillow: pnginfo, icc_profile, dpi, exif.

    Raises:
        OSError: no room on the disk.
    """
    waiting = iter(strips)
    first = next(waiting)
    before, after = _chunks(first, size, options)
    with path.open("wb") as file:
        file.write(PNG_SIGNATURE + before)
        packer, packed = zlib.compressobj(LEVEL), b""
        above = np.zeros((1, first.shape[1] * first.shape[2] * first.itemsize), np.uint8)
        for strip in _all(first, waiting):
            lines = np.ascontiguousarray(strip.astype(strip.dtype.newbyteorder(">"), copy=False))
            rows = lines.view(np.uint8).reshape(len(strip), -1)
            packed += packer.compress(_filtered(rows, above, strip.shape[2] * strip.itemsize).tobytes())
            above = rows[-1:].copy()
            if len(packed) >= PIECE:
                _write_chunk(file, b"IDAT", packed)
                packed = b""
        _write_chunk(file, b"IDAT", packed + packer.flush())
        file.write(after)


def _all(first: np.ndarray, rest: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    yield first
    yield from rest


def _filtered(rows: np.ndarray, above: np.ndarray, pixel: int) -> np.ndarray:
    """Rows of bytes, each as the difference to the prediction that leaves least, behind its number."""
    upper = np.concatenate([above, rows[:-1]])
    left = np.zeros_like(rows)
    left[:, pixel:] = rows[:, :-pixel]
    corner = np.zeros_like(rows)
    corner[:, pixel:] = upper[:, :-pixel]
    found = np.stack([rows - left, rows - upper, rows - _paeth(left, upper, corner)])
    costs = np.abs(found.view(np.int8).astype(np.int16)).sum(axis=2, dtype=np.int64)
    best = costs.argmin(axis=0)
    lines = np.empty((len(rows), rows.shape[1] + 1), np.uint8)
    lines[:, 0] = np.array([SUB, UP, PAETH], np.uint8)[best]
    lines[:, 1:] = found[best, np.arange(len(rows))]
    return lines


def _paeth(left: np.ndarray, upper: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """Of left, upper and corner the one next to left + upper - corner, in this order where they are alike."""
    a, b, c = (each.astype(np.int16) for each in (left, upper, corner))
    to_left, to_upper = np.abs(b - c), np.abs(a - c)
    to_corner = np.abs(a + b - 2 * c)
    nearest = np.where((to_left <= to_upper) & (to_left <= to_corner), left, upper)
    return np.where((to_corner < to_left) & (to_corner < to_upper), corner, nearest)


def _chunks(strip: np.ndarray, size: tuple[int, int], options: dict[str, Any]) -> tuple[bytes, bytes]:
    """What stands before and behind the pixels: written by Pillow for a picture of one pixel, but for the size."""
    pixel = np.ascontiguousarray(strip[:1, :1])
    buffer = io.BytesIO()
    Image.fromarray(pixel[..., 0] if strip.shape[2] == 1 else pixel).save(buffer, "PNG", **options)
    data, position = buffer.getvalue(), len(PNG_SIGNATURE)
    parts: tuple[io.BytesIO, io.BytesIO] = (io.BytesIO(), io.BytesIO())
    behind = 0
    while position < len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        content = data[position + 8 : position + 8 + length]
        position += length + 12
        if kind == b"IHDR":
            content = struct.pack(">II", size[1], size[0]) + content[8:]
        if kind == b"IDAT":
            behind = 1
        else:
            _write_chunk(parts[behind], kind, content)
    return parts[0].getvalue(), parts[1].getvalue()


def _write_chunk(file: BinaryIO, kind: bytes, content: bytes) -> None:
    file.write(struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content)))
