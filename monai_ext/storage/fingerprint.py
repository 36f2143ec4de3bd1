"""Fingerprints of lists of items: a few numbers and one hash, equal wherever the files lie."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = ["content_sha256", "file_sha256", "fingerprint"]

BLOCK = 1 << 20
WHOLE = 256 * 1024  # bytes; of a larger file size, beginning and end are taken
END = 64 * 1024


def fingerprint(items: Iterable[Any]) -> dict[str, int | str]:
    """Number of items and files, bytes, and a SHA-256 of the files' names and contents, the same wherever they lie.

    Names count below the deepest folder that holds all files, so that a data set may move as a whole. Files up to
    256 KiB are hashed whole; of larger ones the size, the first and the last 64 KiB, which finds exchanged and
    truncated files and keeps a thousand volumes to a second. The order of the items does not count.

    Args:
        items: mappings, sequences and texts, nested at will; every text or path that names a file counts as one.

    Returns:
        {"items", "files", "bytes", "sha256"}; for items without files the hash is that of nothing.
    """
    items = list(items)
    files = sorted({os.path.abspath(path) for item in items for path in _files(item)})
    folder = os.path.commonpath([os.path.dirname(path) for path in files]) if files else ""
    digest, nbytes = hashlib.sha256(), 0
    for path in files:
        size = os.path.getsize(path)
        nbytes += size
        name = Path(os.path.relpath(path, folder)).as_posix()
        digest.update(f"{name}\0{size}\0".encode(errors="surrogateescape"))
        digest.update(content_sha256(path))
    return {"items": len(items), "files": len(files), "bytes": nbytes, "sha256": digest.hexdigest()}


def file_sha256(path: str | os.PathLike) -> str:
    """SHA-256 of a whole file, hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(BLOCK), b""):
            digest.update(block)
    return digest.hexdigest()


def _files(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for part in value.values():
            yield from _files(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _files(part)
    elif isinstance(value, (str, os.PathLike)) and "\0" not in (path := os.fspath(value)) and os.path.isfile(path):
        yield path


def content_sha256(path: str | os.PathLike) -> bytes:
    """SHA-256 of a file up to 256 KiB; of a larger one, of its first and its last 64 KiB."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        if size <= WHOLE:
            return hashlib.sha256(file.read(WHOLE)).digest()
        digest = hashlib.sha256(file.read(END))
        file.seek(-END, os.SEEK_END)
        digest.update(file.read(END))
    return digest.digest()
