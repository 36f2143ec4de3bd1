"""The files of a one-LR-many-HR data set: shards of plain .npy arrays, tables of JSON lines, one index with checksums.

    index.json                  settings, tiles, and every other file with bytes and sha256; written last
    records.jsonl               a line for each low-resolution image
    answers.jsonl               a line for each high-resolution image
    operator.npy                M, float64 (h, H): a low-resolution image is M x M^T of any of its answers
    shards/00000.low_res.npy    uint8 (n, C, h, w)
    shards/00000.high_res.npy   uint8 (m, C, H, W), the answers of the first record, of the second ...
    shards/00000.json           lines of the shard's records; written last, it says that the shard is whole
    croissant.json, README.md   descriptions, for machines and for people

Equal inputs give equal bytes: no file holds a time or the name of a computer.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from monai_ext.runtime.errors import one_line
from monai_ext.storage.files import atomic_path, inside, read_json, write_text

__all__ = [
    "ANSWER_FILE",
    "INDEX_FILE",
    "KINDS",
    "ManyHrError",
    "OPERATOR_FILE",
    "RECORD_FILE",
    "Shard",
    "file_entry",
    "json_lines",
    "read_index",
    "read_lines",
    "read_shard",
    "shard_files",
    "write_index",
    "write_shard",
]

FORMAT = "many-hr 1"
KINDS = ("original", "texture", "mined", "sampled", "capture")
INDEX_FILE, RECORD_FILE, ANSWER_FILE, OPERATOR_FILE = "index.json", "records.jsonl", "answers.jsonl", "operator.npy"
SHARD_FOLDER = "shards"
BLOCK = 1 << 20
WAY_OUT = "build the data set again, whole shards are kept"

# Table -> its name in a shard's .json, and the fields that readers rely on.
NUMBER, MAYBE = (int, float), (int, float, type(None))
TABLES: dict[str, tuple[str, dict[str, type | tuple[type, ...]]]] = {
    RECORD_FILE: (
        "records",
        {
            **dict.fromkeys(("record", "operator", "part", "place", "tile_id", "date"), str),
            **dict.fromkeys(("tile", "top", "left", "turn", "answers", "captures"), int),
            **dict.fromkeys(("shard", "low_res_row", "high_res_row"), int),
            "distance_rms": list,
        },
    ),
    ANSWER_FILE: (
        "answers",
        {
            **dict.fromkeys(("record", "kind"), str),
            **dict.fromkeys(("lr_differing", "shard", "row"), int),
            **dict.fromkeys(("lr_max", "lr_psnr", "borrowed"), NUMBER),
            **dict.fromkeys(("lr_psnr_before", "lr_psnr_fitted", "agreement"), MAYBE),
            "tiles": list,
        },
    ),
}


class ManyHrError(ValueError):
    """A one-LR-many-HR data set is missing, unfinished, damaged, or made with other settings."""


class Shard(NamedTuple):
    """Some consecutive records.

    Attributes:
        number: of the shard, from 0.
        records, answers: their lines in the tables.
        files: name below the data set's folder -> {"bytes", "sha256"}, without the shard's own .json.
    """

    number: int
    records: list[dict]
    answers: list[dict]
    files: dict[str, dict]


def shard_files(number: int) -> dict[str, str]:
    """Names of a shard's files below the data set's folder.

    >>> shard_files(3)["low_res"]
    'shards/00003.low_res.npy'
    """
    stem = f"{SHARD_FOLDER}/{number:05d}"
    return {"low_res": f"{stem}.low_res.npy", "high_res": f"{stem}.high_res.npy", "lines": f"{stem}.json"}


def write_shard(
    folder: Path, number: int, *, fingerprint: str, low_res: Tensor, high_res: Tensor, records: Sequence[Mapping],
    answers: Sequence[Mapping],
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
    shard = Shard(number, list(map(dict, records)), list(map(dict, answers)), files)
    content = {"format": FORMAT, "fingerprint": fingerprint, "files": files}
    lines = {"records": shard.records, "answers": shard.answers}
    write_text(folder / names["lines"], json.dumps(content | lines, sort_keys=True) + "\n")
    return shard


def read_shard(folder: Path, number: int, *, fingerprint: str) -> Shard | None:
    """A shard that is there, or None where there is none or its files are damaged.

    Raises:
        ManyHrError: it was made with other settings or from other tiles.
    """
    path = folder / shard_files(number)["lines"]
    try:
        content = read_json(path, expected=dict)
    except (FileNotFoundError, ValueError):
        return None
    lines = (_are_lines(content.get(name), fields) for name, fields in TABLES.values())
    if not all(lines) or not _are_files(content.get("files"), folder):
        return None
    shard = Shard(number, content["records"], content["answers"], content["files"])
    if content.get("fingerprint") != fingerprint:
        raise ManyHrError(
            f"{folder} holds records made with other settings, tiles or weights: choose another folder, or delete it."
        )
    for name, entry in shard.files.items():
        if not (folder / name).is_file() or file_entry(folder / name) != entry:
            return None
    return shard


def file_entry(path: Path) -> dict[str, int | str]:
    """{"bytes", "sha256"} of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(BLOCK), b""):
            digest.update(block)
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def json_lines(rows: Iterable[Mapping]) -> str:
    """One JSON object a line, keys in order."""
    return "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows)


def read_lines(path: Path) -> list[dict]:
    """The objects of a file of JSON lines.

    Raises:
        ManyHrError: the file is missing, or is no such file.
    """
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError as error:
        raise ManyHrError(f"{path} is missing: copy the whole data set, or build it again.") from error
    except (ValueError, RecursionError) as error:
        raise ManyHrError(f"{path} is damaged ({one_line(error)}): {WAY_OUT}.") from error
    if not _are_lines(lines, TABLES[path.name][1]):
        raise ManyHrError(f"{path} is damaged (a line lacks a field, or has one of another type): {WAY_OUT}.")
    return lines


def _are_lines(lines: object, fields: Mapping[str, type | tuple[type, ...]]) -> bool:
    """Whether these are lines of a table with (at least) such fields, numbers of rows not negative."""
    return isinstance(lines, list) and all(
        isinstance(line, dict)
        and all(isinstance(line.get(name, ...), kinds) for name, kinds in fields.items())
        and all(type(line[name]) is int and line[name] >= 0 for name, kinds in fields.items() if kinds is int)
        for line in lines
    )


def _are_files(files: object, folder: Path) -> bool:
    """Whether this is a table of files in the folder, as `file_entry` describes them."""
    try:
        names = [inside(folder, name) for name in files if isinstance(files, dict)]
    except (TypeError, ValueError):
        return False
    return bool(names) and all(isinstance(entry, dict) for entry in files.values())


def write_index(folder: Path, content: Mapping, names: Iterable[str]) -> None:
    """Write index.json: `content`, with bytes and sha256 of the files `names`."""
    files = {name: file_entry(folder / name) for name in sorted(names)}
    write_text(folder / INDEX_FILE, json.dumps({"format": FORMAT, **content, "files": files}, indent=1) + "\n")


def read_index(folder: str | os.PathLike) -> dict:
    """The content of index.json.

    Raises:
        ManyHrError: there is none, it is damaged, or of another format.
    """
    path = Path(folder) / INDEX_FILE
    try:
        content = read_json(path, error=ManyHrError, way_out=WAY_OUT)
    except FileNotFoundError as error:
        raise ManyHrError(
            f"no {INDEX_FILE} in {str(folder)!r}: name the folder of a data set, or run its build again, which goes on "
            "where it ended."
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ManyHrError(f"{path} is not the index of a data set of the format {FORMAT!r}.")
    counted = all(type(content.get(name)) is int for name in ("records", "answers"))
    if not counted or not _are_files(content.get("files"), Path(folder)):
        raise ManyHrError(f"{path} is damaged (it counts no records, answers or files): {WAY_OUT}.")
    return content
