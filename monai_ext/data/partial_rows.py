"""Rows of an image on their way to a file, kept on disk as they come, so that a run that was killed can go on."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from monai_ext.files import write_text

__all__ = ["PartialRows"]


class PartialRows:
    """Finished strips of an image, appended to the file `.NAME.partial` beside its final name.

    The file holds raw pixels row by row, all bands of a row together (BIL). `.NAME.partial.json` says how many strips
    are safely on disk and which work they belong to. Use it as a context manager: it holds a lock.

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
    """

    def __init__(
        self, target: Path, *, planes: int, width: int, dtype: np.dtype, fingerprint: str, resume: bool = False
    ):
        self.path = target.with_name(f".{target.name}.partial")
        self._record = target.with_name(f".{target.name}.partial.json")
        self._shape, self._dtype, self._fingerprint = (planes, width), np.dtype(dtype), fingerprint
        target.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("a+b")
        try:
            _lock(self._file, target)
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
            record = json.loads(self._record.read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return 0, 0
        size = os.fstat(self._file.fileno()).st_size
        if record.get("fingerprint") != self._fingerprint or size < record["rows"] * self._row_bytes:
            return 0, 0
        return record["strips"], record["rows"]

    def append(self, strip: np.ndarray, *, last: bool = False) -> None:
        """Add the next rows, (planes, rows, W); after this they survive a kill, unless they are the `last`.

        Raises:
            ValueError: the strip has another shape or type.
            OSError: the disk is full.
        """
        if strip.ndim != 3 or (strip.shape[0], strip.shape[2]) != self._shape or strip.dtype != self._dtype:
            raise ValueError(
                f"strip of shape {strip.shape} and type {strip.dtype}: expected ({self._shape[0]}, rows, "
                f"{self._shape[1]}) of {self._dtype}."
            )
        self._file.write(np.ascontiguousarray(strip.transpose(1, 0, 2)).data)
        self._file.flush()
        self.strips += 1
        self.rows += strip.shape[1]
        if not last:
            os.fsync(self._file.fileno())
            record = {"fingerprint": self._fingerprint, "strips": self.strips, "rows": self.rows}
            write_text(self._record, json.dumps(record))

    def discard(self) -> None:
        """Remove the files."""
        self.path.unlink(missing_ok=True)
        self._record.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the files; strips stay for another run."""
        self._file.close()
        if self.strips == 0:
            self.discard()

    def __enter__(self) -> PartialRows:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _lock(file, target: Path) -> None:
    try:
        import fcntl  # POSIX only
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BlockingIOError(f"another run is writing {target}: wait for it, or choose another output.") from None
