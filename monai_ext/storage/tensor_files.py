"""Read files of `torch.save`, damaged and hostile ones included: plain values, or an error of one sentence."""

from __future__ import annotations

import pickle
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import torch
from torch.serialization import get_unsafe_globals_in_checkpoint

from monai_ext.runtime.errors import one_line
from monai_ext.runtime.plain_text import printable

__all__ = ["DAMAGES", "read_tensors", "unsafe_globals"]

LARGEST_PICKLE = 64 << 20  # bytes, tensors apart

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
        if names := _names_beyond_tensors(path):
            raise ValueError(
                f"{named} holds more than tensors and plain values ({printable(', '.join(names[:3]))}), and reading "
                "that could run any program: where you trust the file, save its tensors alone, such as "
                "torch.save(torch.load(FILE, weights_only=False)['state_dict'], NEW)."
            ) from error
        if isinstance(error, pickle.UnpicklingError):  # whose message is about the arguments of torch.load
            reason = "it was not written by torch.save, or is not whole: name another file"
        else:
            reason = one_line(error)
        raise ValueError(f"{named} is damaged and cannot be read ({reason}).") from error


def _names_beyond_tensors(path: str | Path) -> list[str]:
    try:
        return unsafe_globals(path)
    except (OSError, ValueError):
        return []


def unsafe_globals(file: str | Path | IO[bytes]) -> list[str]:
    """Names that a file of `torch.save` would import beyond those that `weights_only=True` allows, sorted.

    The pickle is taken apart, not executed. Bare pickles, which `torch.save` wrote before PyTorch 1.6, are refused, and
    so is TorchScript, which is a program.

    Args:
        file: path, or an open file that can seek.

    Raises:
        ValueError: the file is damaged, or no zip of `torch.save`.
    """
    if isinstance(file, (str, Path)):
        with open(file, "rb") as opened:
            return unsafe_globals(opened)
    try:
        _refuse_other_pickles(file)
        return sorted(get_unsafe_globals_in_checkpoint(file))
    except DAMAGES as error:
        raise ValueError(f"it cannot be looked into ({one_line(error)})") from error


def _refuse_other_pickles(file: IO[bytes]) -> None:
    """Raise a ValueError unless the file is a zip of `torch.save`, from its first byte on, with one pickle in it."""
    if file.read(4) != b"PK\3\4" or not zipfile.is_zipfile(file):
        raise ValueError("it is no zip of torch.save, and a bare pickle can run any program when it is read")
    with zipfile.ZipFile(file) as archive:
        pickles = [record for record in archive.infolist() if record.filename.lower().endswith(".pkl")]
    if [Path(record.filename).name for record in pickles] != ["data.pkl"]:
        raise ValueError("a zip of torch.save has one pickle, data.pkl; TorchScript, which has others, is a program")
    if pickles[0].file_size > LARGEST_PICKLE:
        raise ValueError(f"its structure is larger than {LARGEST_PICKLE >> 20} MiB")
    file.seek(0)


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
