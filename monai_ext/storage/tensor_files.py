"""Files that `torch.save` wrote, damaged and hostile ones included: tensors and plain values, or one sentence."""

from __future__ import annotations

import pickle
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch

from monai_ext.runtime.errors import one_line

__all__ = ["DAMAGES", "read_tensors"]

# What torch.load lets out on damaged and hostile files.
DAMAGES = (
    pickle.UnpicklingError, zipfile.BadZipFile, zlib.error, struct.error, EOFError, LookupError, OSError, RuntimeError,
    ValueError, TypeError, AttributeError, AssertionError, ArithmeticError, ImportError, MemoryError,
)  # fmt: skip


def read_tensors(path: str | Path, *, named: str) -> Any:
    """What `torch.save` wrote to `path`, on the CPU, read with `weights_only=True` and compared with its check sums.

    Args:
        named: what the file is to its user, for the error, such as "checkpoint 'last.pt'".

    Raises:
        ValueError: the file is damaged, cannot be read, or holds more than tensors and plain values.
    """
    try:
        _check_sums(Path(path))
        return torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGES as error:
        raise ValueError(f"{named} is damaged and cannot be read ({one_line(error)}).") from error


def _check_sums(path: Path) -> None:
    """Compare the records with their check sums, which torch.load passes over."""
    if not zipfile.is_zipfile(path):
        return  # PyTorch's older format has none
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
        packed = any(record.compress_type != zipfile.ZIP_STORED for record in records)
        if packed or sum(record.file_size for record in records) > path.stat().st_size:
            raise zipfile.BadZipFile("it would unpack to more than it is, which torch.save does not write")
        if damaged := archive.testzip():
            raise zipfile.BadZipFile(f"the check sum of {damaged} is wrong")
