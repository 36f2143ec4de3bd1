"""A decoded data set as one memory-mapped safetensors file, every byte of which is checked when it is opened.

The metadata hold the ids, the groups and a checksum of each tensor. Nothing in the file is executed when it is read.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from monai_ext.data.device.decoded_set import DecodedSet
from monai_ext.runtime.errors import one_line
from monai_ext.storage.files import atomic_path, remove_leftovers
from monai_ext.storage.folders import files_in
from monai_ext.storage.object_key import describe
from monai_ext.storage.records import Count, json_text

__all__ = ["DecodedFileError", "FileKey", "file_key", "read_decoded", "write_decoded"]

ALIGNMENT = 8  # bytes; also of the number that holds the length of the header
BLOCK = 2**26  # bytes
CONTENT_VERSION = 5  # raise it when decoders give other tensors, or other numbers of a first look
TYPES = {
    torch.bool: "BOOL", torch.uint8: "U8", torch.int8: "I8", torch.int16: "I16", torch.uint16: "U16",
    torch.int32: "I32", torch.uint32: "U32", torch.int64: "I64", torch.uint64: "U64", torch.float16: "F16",
    torch.bfloat16: "BF16", torch.float32: "F32", torch.float64: "F64", torch.complex64: "C64",
}  # fmt: skip


class DecodedFileError(ValueError):
    """A decoded-set file is damaged or belongs to other data or settings."""


@dataclass(frozen=True)
class FileKey:
    """Which file (`name`) holds some items decoded with some settings, and of which state of their sources."""

    name: str
    fingerprint: str


def file_key(items: Sequence[Mapping], transform: object, bit_keys: Sequence[str] = ()) -> FileKey:
    """The key of `items` decoded by `transform`, with `bit_keys` as bits.

    The name depends on the items, the settings of the transform and these keys, the fingerprint also on sizes and
    modification times of all files that the items name, so that a changed source makes the file stale.

    Raises:
        ValueError: the settings of `transform` are not known from its attributes; see `describe`.
    """
    settings = f"{CONTENT_VERSION} {describe(transform)}{sorted(bit_keys) or ''}"
    names, states = hashlib.sha256(settings.encode()), hashlib.sha256()
    for item in items:
        names.update(describe(dict(item)).encode())
        for value in item.values():
            for path in value if isinstance(value, (list, tuple)) else (value,):
                states.update(_file_state(path).encode())
    states.update(names.digest())
    return FileKey(f"decoded-{names.hexdigest()[:24]}.safetensors", states.hexdigest())


def _file_state(path: object) -> str:
    if not isinstance(path, (str, os.PathLike)):
        return "-"
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):  # a DICOM series
            return "".join(map(_file_state, files_in(path)))
    except (OSError, ValueError):  # a string that is no path, such as the id
        return "-"
    return f"{status.st_size}:{status.st_mtime_ns};"


class _Contents(msgspec.Struct, frozen=True):
    """Metadata of the file; the tensor of group 2 for the key "image" is called "2.image"."""

    fingerprint: str
    ids: list[str]
    kept: list[Count]
    members: list[list[Count]]
    checksums: dict[str, Count]


def write_decoded(path: Path, fingerprint: str, decoded: DecodedSet) -> None:
    """Write `decoded` to `path`, whole or not at all; several writers do not disturb each other.

    Raises:
        OSError: no room, or no right to write there.
    """
    named = {f"{n}.{key}": tensor for n, group in enumerate(decoded.groups) for key, tensor in group.items()}
    tensors = dict(sorted(named.items(), key=lambda entry: -entry[1].element_size()))  # so that each is aligned
    checksums = {name: _checksum(tensor) for name, tensor in tensors.items()}
    contents = json_text(_Contents(fingerprint, decoded.ids, decoded.kept, decoded.members, checksums))
    header: dict[str, dict] = {"__metadata__": {"contents": contents, "checksum": str(zlib.crc32(contents.encode()))}}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.nbytes
        header[name] = {"dtype": TYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    packed = json.dumps(header).encode()
    packed += b" " * (-len(packed) % ALIGNMENT)
    if path.parent.is_dir():
        remove_leftovers(path.parent, path.stem)
    # Not by safetensors' own writer: it leaves a file of its own beside ours when it is killed.
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(len(packed).to_bytes(ALIGNMENT, "little") + packed)
        for tensor in tensors.values():
            for block in _blocks(tensor):
                file.write(block)


def read_decoded(path: Path, fingerprint: str) -> DecodedSet:
    """The data set of `path`, mapped into memory (private: writing to the tensors leaves the file as it is).

    Raises:
        FileNotFoundError: there is none yet.
        DecodedFileError: it is damaged, or stale because its sources have changed.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            text = metadata["contents"]
            if metadata["checksum"] != str(zlib.crc32(text.encode())):
                raise ValueError("the checksum of its metadata is wrong")
            contents = msgspec.json.decode(text, type=_Contents)
            if contents.fingerprint != fingerprint:
                raise DecodedFileError(f"{path} is stale: its source files have changed.")
            tensors = {name: file.get_tensor(name) for name in contents.checksums}
        for name, tensor in tensors.items():
            if _checksum(tensor) != contents.checksums[name]:
                raise ValueError(f"the checksum of {name} is wrong")
        return _decoded_set(contents, tensors)
    except DecodedFileError:
        raise
    except (SafetensorError, ValueError, TypeError, LookupError, RuntimeError) as error:
        raise DecodedFileError(f"{path} is damaged ({one_line(error)}).") from None


def _blocks(tensor: Tensor) -> Iterator[memoryview]:
    """The bytes of a tensor, 64 MiB of the device at a time."""
    for rows in tensor.split(max(1, BLOCK // max(1, tensor[0].nbytes))):
        yield rows.cpu().contiguous().flatten().view(torch.uint8).numpy().data


def _checksum(tensor: Tensor) -> int:
    """CRC-32 of type, shape and values."""
    checksum = zlib.crc32(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
    for block in _blocks(tensor):
        checksum = zlib.crc32(block, checksum)
    return checksum


def _decoded_set(contents: _Contents, tensors: Mapping[str, Tensor]) -> DecodedSet:
    """The set that the metadata describe.

    Raises:
        ValueError: they contradict themselves.
    """
    groups: list[dict[str, Tensor]] = [{} for _ in contents.members]
    for name, tensor in tensors.items():
        number, _, key = name.partition(".")
        groups[int(number)][key] = tensor
    rows = sorted(index for members in contents.members for index in members)
    if rows != list(range(len(contents.ids))) or len(contents.kept) != len(contents.ids):
        raise ValueError("every item must be in one group")
    for group, members in zip(groups, contents.members, strict=True):
        if not group or any(len(tensor) != len(members) for tensor in group.values()):
            raise ValueError("every tensor must have a row for each item")
    return DecodedSet(contents.ids, contents.kept, groups, contents.members)
