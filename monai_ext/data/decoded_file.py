"""A decoded data set as one memory-mapped file: a JSON header, then the tensors as they are in memory.

Layout: 8 bytes of magic, length and CRC-32 of the header (unsigned, little endian, 8 bytes each), the header in UTF-8,
then each tensor at a multiple of 64 bytes. Nothing in it is executed when it is read.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from monai_ext.data.decoded_set import DecodedSet
from monai_ext.data.settings_key import describe
from monai_ext.files import atomic_path

MAGIC = b"DECODED1"
PREFIX = struct.Struct("<8sQQ")
ALIGNMENT = 64


class DecodedFileError(ValueError):
    """A decoded-set file is damaged or belongs to other data or settings."""


@dataclass(frozen=True)
class FileKey:
    """Which file (`name`) holds some items decoded with some settings, and of which state of their sources."""

    name: str
    fingerprint: str


def file_key(items: Sequence[Mapping], transform: object) -> FileKey:
    """The key of `items` decoded by `transform`.

    The name depends on the items and the settings of the transform, the fingerprint also on sizes and modification
    times of all files that the items name, so that a changed source makes the file stale.

    Raises:
        ValueError: the settings of `transform` cannot be told from its attributes; see `describe`.
    """
    names, states = hashlib.sha256(describe(transform).encode()), hashlib.sha256()
    for item in items:
        names.update(describe(dict(item)).encode())
        for value in item.values():
            for path in value if isinstance(value, (list, tuple)) else (value,):
                states.update(_file_state(path).encode())
    states.update(names.digest())
    return FileKey(f"decoded-{names.hexdigest()[:24]}.bin", states.hexdigest())


def _file_state(path: object) -> str:
    if not isinstance(path, (str, os.PathLike)):
        return "-"
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # a string that is no path, such as the id
        return "-"
    return f"{status.st_size}:{status.st_mtime_ns};"


def write_decoded(path: Path, fingerprint: str, decoded: DecodedSet) -> None:
    """Write `decoded` to `path`, whole or not at all; several writers do not disturb each other.

    Raises:
        OSError: no room, or no right to write there.
    """
    offset, groups = 0, []
    for members, group in zip(decoded.members, decoded.groups, strict=True):
        entries = {}
        for key, tensor in group.items():
            entries[key] = {"dtype": str(tensor.dtype).removeprefix("torch."), "shape": tensor.shape, "offset": offset}
            offset += _aligned(tensor.nbytes)
        groups.append({"members": members, "tensors": entries})
    header = json.dumps(
        {
            "fingerprint": fingerprint,
            "byteorder": sys.byteorder,
            "ids": decoded.ids,
            "kept": decoded.kept,
            "groups": groups,
            "nbytes": offset,
        }
    ).encode()
    start = _aligned(PREFIX.size + len(header))
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(PREFIX.pack(MAGIC, len(header), zlib.crc32(header)))
        file.write(header)
        file.truncate(start + offset)
        for entry, group in zip(groups, decoded.groups, strict=True):
            for key, tensor in group.items():
                file.seek(start + entry["tensors"][key]["offset"])
                for rows in tensor.split(max(1, 2**26 // max(1, tensor[0].nbytes))):  # 64 MiB of the device at a time
                    file.write(rows.cpu().contiguous().flatten().view(torch.uint8).numpy())


def read_decoded(path: Path, fingerprint: str) -> DecodedSet:
    """The data set of `path`, mapped into memory (private: writing to the tensors leaves the file as it is).

    Raises:
        FileNotFoundError: there is none yet.
        DecodedFileError: it is damaged, or stale because its sources have changed.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(PREFIX.size)
        if len(prefix) < PREFIX.size:
            raise DecodedFileError(f"{path} is damaged: it is cut off.")
        magic, length, checksum = PREFIX.unpack(prefix)
        header = file.read(length) if magic == MAGIC and length < size else b""
    if not header or zlib.crc32(header) != checksum:
        raise DecodedFileError(f"{path} is damaged: its header does not check.")
    content = json.loads(header)
    start = _aligned(PREFIX.size + length)
    if size != start + content["nbytes"] or content["byteorder"] != sys.byteorder:
        raise DecodedFileError(f"{path} is damaged: it has {size} bytes, not {start + content['nbytes']}.")
    if content["fingerprint"] != fingerprint:
        raise DecodedFileError(f"{path} is stale: its source files have changed.")
    mapped = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8)[start:]
    groups = [{key: _view(mapped, **e) for key, e in group["tensors"].items()} for group in content["groups"]]
    return DecodedSet(content["ids"], content["kept"], groups, [group["members"] for group in content["groups"]])


def _view(mapped: Tensor, dtype: str, shape: list[int], offset: int) -> Tensor:
    kind = getattr(torch, dtype)
    nbytes = torch.Size(shape).numel() * kind.itemsize
    return mapped[offset : offset + nbytes].view(kind).view(shape)


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT
