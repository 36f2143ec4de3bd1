"""The files of a one-LR-many-HR data set: shards of plain .npy arrays, tables of JSON lines, one index with checksums.

    index.json                  settings, tiles, and every other file with bytes and sha256; written last
    records.jsonl               a line for each low-resolution image
    answers.jsonl               a line for each high-resolution image, the targets
    operator.npy                M, float64 (h, H): a low-resolution image is M x M^T of any of its targets
    shards/00000.low_res.npy    uint8 (n, C, h, w)
    shards/00000.high_res.npy   uint8 (m, C, H, W), the targets of the first record, of the second ...
    shards/00000.json           lines of the shard's records; written last, it marks the shard as whole
    croissant.json, README.md   descriptions, for machines and for people

Equal inputs give equal bytes: no file holds a time or the name of a computer. The files call targets "answers".
Descriptions of the tables' fields become those of croissant.json.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta
from torch import Tensor

from monai_ext.storage.files import atomic_path, inside, write_text
from monai_ext.storage.fingerprint import file_sha256
from monai_ext.storage.records import Count, json_text, read_json_lines, read_record, write_record

__all__ = [
    "FORMAT",
    "INDEX_FILE",
    "KINDS",
    "OPERATOR_FILE",
    "RECORD_FILE",
    "TARGET_FILE",
    "WAY_OUT",
    "FileEntry",
    "Index",
    "ManyHrError",
    "RecordLine",
    "Shard",
    "TargetLine",
    "file_entry",
    "read_index",
    "read_records",
    "read_shard",
    "read_targets",
    "shard_files",
    "write_index",
    "write_shard",
    "write_tables",
]

FORMAT: Literal["many-hr 1"] = "many-hr 1"
KINDS = ("original", "texture", "mined", "sampled", "capture")
INDEX_FILE, RECORD_FILE, TARGET_FILE, OPERATOR_FILE = "index.json", "records.jsonl", "answers.jsonl", "operator.npy"
SHARD_FOLDER = "shards"
WAY_OUT = "build the data set again, whole shards are kept"


class ManyHrError(ValueError):
    """A one-LR-many-HR data set is missing, unfinished, damaged, or made with other settings."""


class FileEntry(msgspec.Struct, frozen=True):
    """Size and digest of a file."""

    bytes: Count
    sha256: str


class RecordLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line of records.jsonl."""

    record: Annotated[str, Meta(description="name of the low-resolution image")]
    operator: Annotated[str, Meta(description="what reduces its targets; operator.npy holds it as a matrix")]
    part: Annotated[str, Meta(description="train, validation or test: whole places; nothing is borrowed across parts")]
    place: Annotated[str, Meta(description="place that the tile shows")]
    tile: Annotated[Count, Meta(description="number in index.json of the tile that the original was cut from")]
    date: Annotated[str, Meta(description="date of that tile, empty where none is known")]
    tile_id: Annotated[str, Meta(description="tile that the original was cut from")]
    top: Annotated[Count, Meta(description="upper row of the window in the tile")]
    left: Annotated[Count, Meta(description="left column of the window in the tile")]
    turn: Annotated[Count, Meta(description="quarter turns (turn modulo 4), then mirrored from 4 on")]
    shard: Annotated[Count, Meta(description="number of the shard")]
    low_res_row: Annotated[Count, Meta(description="row in the shard's low_res.npy")]
    high_res_row: Annotated[Count, Meta(description="first row in the shard's high_res.npy")]
    targets: Annotated[Count, Meta(description="rows that agree exactly, the original first")] = msgspec.field(
        name="answers"
    )
    captures: Annotated[Count, Meta(description="rows after them, of other dates")]
    distance_rms: Annotated[
        list[float],
        Meta(description="root mean square differences of all pairs of rows, in levels: 0-1, 0-2 ... 1-2 ..."),
    ]


class TargetLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line of answers.jsonl."""

    record: Annotated[str, Meta(description="name of the low-resolution image")]
    shard: Annotated[Count, Meta(description="number of the shard")]
    row: Annotated[Count, Meta(description="row in the shard's high_res.npy")]
    kind: Annotated[str, Meta(description="provenance: original, texture, mined, sampled, capture")]
    seed: Annotated[int | None, Meta(description="of its random numbers")] = None
    lr_max: Annotated[float, Meta(description="largest low-resolution difference in levels, before rounding")]
    lr_psnr: Annotated[float, Meta(description="PSNR of that difference in dB, at most 100")]
    lr_psnr_before: Annotated[
        float | None, Meta(description="LR-PSNR in dB before the image was brought onto the input")
    ]
    lr_psnr_fitted: Annotated[
        float | None, Meta(description="of captures: LR-PSNR in dB with gain and offset of each band fitted")
    ]
    lr_differing: Annotated[Count, Meta(description="low-resolution pixels that differ after rounding to 8 bits")]
    borrowed: Annotated[float, Meta(description="share of the image that is borrowed")]
    agreement: Annotated[
        float | None,
        Meta(description="root mean square difference in levels between borrowed patches and image, at low resolution"),
    ]
    tiles: Annotated[list[Count], Meta(description="numbers of the tiles borrowed from, or of the capture's own")]


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """index.json.

    Attributes:
        records, targets: how many.
        kinds, parts: how many targets of each kind, and records of each part.
        model: identity of the network of the kind "sampled", or "".
        credit: origin and licence.
        tiles: the tiles large enough, see `ManyHrPlan.tiles`.
        files: name below the data set's folder -> size and digest.
    """

    format: Literal["many-hr 1"] = FORMAT
    fingerprint: str = ""
    made_with: str = ""
    records: Count
    targets: Count = msgspec.field(name="answers")
    low_res_shape: list[int] = []
    high_res_shape: list[int] = []
    kinds: dict[str, Count] = {}
    parts: dict[str, Count] = {}
    operator: str = ""
    scale: int = 1
    model: str = ""
    settings: dict[str, Any] = {}
    credit: dict[str, str | None] = {}
    tiles: list[dict[str, str]] = []
    files: dict[str, FileEntry]


class _ShardRecord(msgspec.Struct, frozen=True, kw_only=True):
    format: Literal["many-hr 1"] = FORMAT
    fingerprint: str
    files: dict[str, FileEntry]
    records: list[RecordLine]
    targets: list[TargetLine] = msgspec.field(name="answers")


class Shard(NamedTuple):
    """Some consecutive records.

    Attributes:
        number: of the shard, from 0.
        records, targets: their lines in the tables.
        files: name below the data set's folder -> its entry, without the shard's own .json.
    """

    number: int
    records: Sequence[RecordLine]
    targets: Sequence[TargetLine]
    files: Mapping[str, FileEntry]


def shard_files(number: int) -> dict[str, str]:
    """Names of a shard's files below the data set's folder.

    >>> shard_files(3)["low_res"]
    'shards/00003.low_res.npy'
    """
    stem = f"{SHARD_FOLDER}/{number:05d}"
    return {"low_res": f"{stem}.low_res.npy", "high_res": f"{stem}.high_res.npy", "lines": f"{stem}.json"}


def write_shard(
    folder: Path, number: int, *, fingerprint: str, low_res: Tensor, high_res: Tensor, records: Sequence[RecordLine],
    targets: Sequence[TargetLine],
) -> Shard:  # fmt: skip
    """Write one shard; its lines come last and make it whole.

    Raises:
        OSError: no room on the disk.
    """
    names, files = shard_files(number), {}
    for key, tensor in (("low_res", low_res), ("high_res", high_res)):
        with atomic_path(folder / names[key]) as temporary:
            np.save(temporary, tensor.contiguous().numpy())
        files[names[key]] = file_entry(folder / names[key])
    content = _ShardRecord(fingerprint=fingerprint, files=files, records=list(records), targets=list(targets))
    write_text(folder / names["lines"], json_text(content, sort_keys=True) + "\n")
    return Shard(number, records, targets, files)


def read_shard(folder: Path, number: int, *, fingerprint: str) -> Shard | None:
    """A shard that is there, or None where there is none or its files are damaged.

    Raises:
        ManyHrError: it was made with other settings or from other tiles.
    """
    path = folder / shard_files(number)["lines"]
    try:
        content = read_record(path, _ShardRecord)
        _check_names(content.files, path)
    except (FileNotFoundError, ValueError):
        return None
    if content.fingerprint != fingerprint:
        raise ManyHrError(
            f"{folder} holds records made with other settings, tiles or weights: choose another folder, or delete it."
        )
    for name, entry in content.files.items():
        if not (folder / name).is_file() or file_entry(folder / name) != entry:
            return None
    return Shard(number, content.records, content.targets, content.files)


def file_entry(path: Path) -> FileEntry:
    """Size and digest of a file."""
    return FileEntry(path.stat().st_size, file_sha256(path))


def write_tables(folder: Path, records: Iterable[RecordLine], targets: Iterable[TargetLine]) -> None:
    """Write both tables, one JSON object a line."""
    for name, lines in ((RECORD_FILE, records), (TARGET_FILE, targets)):
        write_text(folder / name, "".join(json_text(line, sort_keys=True) + "\n" for line in lines))


def read_records(folder: Path) -> list[RecordLine]:
    """The lines of records.jsonl.

    Raises:
        ManyHrError: the file is missing, or is no such file.
    """
    return _read_lines(folder / RECORD_FILE, RecordLine)


def read_targets(folder: Path) -> list[TargetLine]:
    """The lines of answers.jsonl, see `read_records`."""
    return _read_lines(folder / TARGET_FILE, TargetLine)


def write_index(folder: Path, index: Index, names: Iterable[str]) -> Index:
    """Write index.json with size and digest of the files `names`, and return it."""
    index = msgspec.structs.replace(index, files={name: file_entry(folder / name) for name in sorted(names)})
    write_record(folder / INDEX_FILE, index)
    return index


def read_index(folder: str | os.PathLike) -> Index:
    """The content of index.json.

    Raises:
        ManyHrError: there is none, it is damaged, or of another format.
    """
    path = Path(folder) / INDEX_FILE
    try:
        index = read_record(path, Index, error=ManyHrError, way_out=WAY_OUT)
    except FileNotFoundError as error:
        raise ManyHrError(
            f"no {INDEX_FILE} in {str(folder)!r}: name the folder of a data set, or run its build again, which goes on "
            "where it ended."
        ) from error
    _check_names(index.files, path)
    return index


def _read_lines(path: Path, kind: type[Any]) -> list[Any]:
    try:
        return read_json_lines(path, kind, error=ManyHrError, way_out=WAY_OUT)
    except FileNotFoundError as error:
        raise ManyHrError(f"{path} is missing: copy the whole data set, or build it again.") from error


def _check_names(files: Mapping[str, FileEntry], path: Path) -> None:
    """Refuse a list of files that is empty or leads out of the data set."""
    try:
        names = [inside(path.parent, name) for name in files]
    except ValueError as error:
        raise ManyHrError(f"{path} is damaged ({error}): {WAY_OUT}.") from None
    if not names:
        raise ManyHrError(f"{path} is damaged (it lists no files): {WAY_OUT}.")
