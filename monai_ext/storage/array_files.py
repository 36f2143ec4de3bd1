"""Read files of NumPy arrays, damaged ones included: an array, or an error of one sentence."""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np

from monai_ext.runtime.errors import one_line

__all__ = ["DAMAGES", "read_array"]

# What np.load lets out on damaged files.
DAMAGES = (
    OSError, ValueError, TypeError, LookupError, EOFError, ArithmeticError, SyntaxError, RuntimeError, MemoryError,
    zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError,
)  # fmt: skip


def read_array(
    path: str | Path, *, mapped: bool = False, error: type[ValueError] = ValueError, way_out: str = "remove it"
) -> np.ndarray:
    """The array in a .npy file, read without pickles.

    Args:
        mapped: into memory, read-only, instead of reading it whole.
        error: what is raised where it is damaged; the sentence ends in `way_out`.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is damaged, or holds no numbers.
    """
    try:
        array = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
        if not isinstance(array, np.ndarray):  # np.load hands on what is no array
            raise ValueError("no array")
    except FileNotFoundError:
        raise
    except DAMAGES as problem:
        raise error(f"{path} is damaged ({one_line(problem)}): {way_out}.") from None
    return array
