"""Rows of an unfinished image, kept on disk strip by strip, so that a run that was killed can be resumed."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np

from monai_ext.storage.files import make_folder, remove_leftovers, writing
from monai_ext.storage.locks import try_lock
from monai_ext.storage.records import Count, read_record, write_record

__all__ = ["PartialRows"]


class _Record(msgspec.Struct):
    fingerprint: str
    strips: Count
    rows: Count


class PartialRows:
    """Finished strips of an image, appended to the file `.NAME.partial` beside its final name.

    The file holds raw pixels row by row, all bands of a row together (BIL). `.NAME.partial.json` records how many
    strips are safely on disk and which work they belong to. Use it as a context manager: it holds a lock.

    Args:
        target: final name of the image; its folder is made if need be.
        planes, width: shape of a row.
        dtype: of the pixels.
        fingerprint: names the work; strips of other work are thrown away.
        resume: go on with strips of the same work; False: begin anew.

    Attributes:
        strips: number of strips that are there.

    Raises:
        BlockingIOError: another process writes the same image.
        WriteError: the folder cannot be written to.
    """

    def __init__(
        self, target: Path, *, planes: int, width: int, dtype: np.dtype, fingerprint: str, resume: bool = False
    ):
        self.path, self._record = _files_of(target)
        self._shape, self._dtype, self._fingerprint = (planes, width), np.dtype(dtype), fingerprint
        make_folder(target.parent)
        self._target = target
        with writing(target):
            self._file = self.path.open("a+b")
        try:
            if not try_lock(self._file):
                raise BlockingIOError(f"another run is writing {target}: wait for it, or choose another output.")
            if os.fstat(self._file.fileno()).st_size:  # of a run that was killed, perhaps while it wrote the image
                for path in (target, self._record):
                    remove_leftovers(path.parent, path.stem)
            self.strips, self.rows = self._safe() if resume else (0, 0)
            self._file.truncate(self.rows * self._row_bytes)
        except BaseException:
            self._file.close()
            raise

    @property
    def _row_bytes(self) -> int:
        return self._shape[0] * self._shape[1] * self._dtype.itemsize

    def _safe(self) -> tuple[int, int]:
        """(strips, rows) that are on disk and belong to this work."""
        try:
            record = read_record(self._record, _Record)
        except (FileNotFoundError, ValueError):
            return 0, 0
        size = os.fstat(self._file.fileno()).st_size
        usable = record.fingerprint == self._fingerprint and record.rows * self._row_bytes <= size
        return (record.strips, record.rows) if usable else (0, 0)

    def keep(self, strips: int, rows: int) -> None:
        """Of the strips that are there, keep the first `strips`, which have `rows` rows."""
        if strips != self.strips:
            self._file.truncate(rows * self._row_bytes)
            self.strips, self.rows = strips, rows
            self._remember()

    def append(self, strip: np.ndarray, *, last: bool = False) -> None:
        """Add the next rows, (planes, rows, W); after this they survive a kill, unless they are the `last`.

        Raises:
            ValueError: the strip has another shape or type.
            WriteError: the disk is full.
        """
        if strip.ndim != 3 or (strip.shape[0], strip.shape[2]) != self._shape or strip.dtype != self._dtype:
            raise ValueError(
                f"strip of shape {strip.shape} and type {strip.dtype}: expected ({self._shape[0]}, rows, "
                f"{self._shape[1]}) of {self._dtype}."
            )
        with writing(self._target):
            self._file.write(np.ascontiguousarray(strip.transpose(1, 0, 2)).data)
            self._file.flush()
        self.strips += 1
        self.rows += strip.shape[1]
        if not last:
            self._remember()

    def _remember(self) -> None:
        with writing(self._target):
            os.fsync(self._file.fileno())
        write_record(self._record, _Record(self._fingerprint, self.strips, self.rows), indent=None)

    @staticmethod
    def forget(target: Path) -> None:
        """Remove the files of an image that is finished: a run killed at the last moment left them."""
        for path in _files_of(target):
            path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove the files."""
        self.path.unlink(missing_ok=True)
        self._record.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the files; strips stay for another run."""
        with suppress(OSError):  # a failed write has been reported, and its strip does not count
            self._file.close()
        if self.strips == 0:
            self.discard()

    def __enter__(self) -> PartialRows:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _files_of(target: Path) -> tuple[Path, Path]:
    """The files of the rows and of their record."""
    return target.with_name(f".{target.name}.partial"), target.with_name(f".{target.name}.partial.json")
