"""A decoded data set as one memory-mapped file: a JSON header, then the tensors as they are in memory.

Layout: 8 bytes of magic, length and CRC-32 of the header (unsigned, little endian, 8 bytes each), the header in UTF-8,
then each tensor at a multiple of 64 bytes. Nothing in it is executed when it is read.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from monai_ext.data.device.decoded_set import DecodedSet
from monai_ext.runtime.errors import one_line
from monai_ext.storage.files import atomic_path, remove_leftovers
from monai_ext.storage.object_key import describe

MAGIC = b"DECODED1"
PREFIX = struct.Struct("<8sQQ")
ALIGNMENT = 64
TYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32,
        torch.uint64, torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128,
    )
}  # fmt: skip


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
    if path.parent.is_dir():
        remove_leftovers(path.parent, path.stem)
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
    start = _aligned(PREFIX.size + length)
    try:
        content = json.loads(header)
        if size != start + content["nbytes"] or content["byteorder"] != sys.byteorder:
            raise DecodedFileError(f"{path} is damaged: it has {size} bytes, not {start + content['nbytes']}.")
        if content["fingerprint"] != fingerprint:
            raise DecodedFileError(f"{path} is stale: its source files have changed.")
        mapped = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8)[start:]
        return _decoded_set(content, mapped)
    except DecodedFileError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
        raise DecodedFileError(f"{path} is damaged: its header has no meaning ({one_line(error)}).") from None


def _decoded_set(content: Mapping, mapped: Tensor) -> DecodedSet:
    """The set that a header describes; what contradicts itself raises an error of any of the common kinds."""
    ids, kept = content["ids"], content["kept"]
    members = [group["members"] for group in content["groups"]]
    if len(ids) != len(kept) or not all(isinstance(name, str) for name in ids):
        raise ValueError("as many ids as positions are needed")
    if sorted(index for group in members for index in group) != list(range(len(ids))) or min(kept) < 0:
        raise ValueError("every item must be in one group")
    groups = [{key: _view(mapped, **e) for key, e in group["tensors"].items()} for group in content["groups"]]
    for group, rows in zip(groups, members, strict=True):
        if any(len(tensor) != len(rows) for tensor in group.values()) or not group:
            raise ValueError("every tensor must have a row for each item")
    return DecodedSet(ids, kept, groups, members)


def _view(mapped: Tensor, dtype: str, shape: list[int], offset: int) -> Tensor:
    kind = TYPES[dtype]
    nbytes = math.prod(shape) * kind.itemsize
    if min(shape) < 0 or offset < 0 or offset % ALIGNMENT or offset + nbytes > len(mapped):
        raise ValueError("a tensor lies outside the file")
    return mapped[offset : offset + nbytes].view(kind).view(shape)


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT
