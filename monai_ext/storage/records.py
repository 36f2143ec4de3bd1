"""Typed records in JSON files, checked against their types when they are read.

A record is a `msgspec.Struct`, a dataclass, or a built-in type such as `dict[str, float]`, defined beside the code that
writes it. Four rules hold:

- Fields that a record does not have are ignored; a field without a default must be there, and every value must have its
  type (no text for a number, no truth value for an integer; an integer is a valid `float`).
- JSON has finite numbers only: NaN and infinities are written as null, and read as null where a file holds them.
- A file is written whole or not at all. Paths, and whatever else JSON has no form for, are written as text.
- A record with fields is written with a checksum of its values, so that a flipped bit or an edit is noticed when it is
  read, unless other programs read the file by its fields. A file without one, such as one written by hand, is read as
  it is.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np

from monai_ext.runtime.errors import one_line
from monai_ext.storage.files import write_text

__all__ = ["Count", "as_record", "json_text", "read_json_lines", "read_record", "write_record"]

CHECKSUM = "checksum"  # last field of a file
LARGEST_FILE = 2**28  # bytes; ours are far smaller
PLACE = re.compile(r"(?P<problem>.*) - at `\$\.?(?P<place>.*)`", re.DOTALL)

Count = Annotated[int, msgspec.Meta(ge=0)]
T = TypeVar("T")


def read_record(
    path: str | Path, kind: type[T], *, way_out: str = "remove it", error: type[ValueError] = ValueError
) -> T:
    """The record in a JSON file.

    Args:
        kind: its type; `dict` or `object` for a file of any content.
        way_out: what the user can do about a damaged file: the end of the sentence.
        error: class of the error for a damaged file.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it is not JSON in UTF-8, is no `kind`, is larger than 256 MiB, or its values are not those of its
            checksum; names file, place and remedy.
    """
    path = Path(path)
    try:
        return as_record(_checked(_loads(_text(path))), kind)
    except (ValueError, RecursionError) as problem:
        raise error(f"{path} is damaged ({one_line(problem)}): {way_out}.") from None


def read_json_lines(
    path: str | Path, kind: type[T], *, way_out: str = "remove it", error: type[ValueError] = ValueError
) -> list[T]:
    """The records in a file of JSON lines, see `read_record`; an error names the line too."""
    path = Path(path)
    records: list[T] = []
    try:
        for text in _text(path).splitlines():
            records.append(as_record(_loads(text), kind))
    except (ValueError, RecursionError) as problem:
        raise error(f"{path} is damaged (line {len(records) + 1}: {one_line(problem)}): {way_out}.") from None
    return records


def as_record(content: object, kind: type[T]) -> T:
    """`content`, as a JSON file holds it, as a `kind`.

    Raises:
        ValueError: it is none; names the place and what was expected there.

    >>> as_record({"seeds": [0, "x"]}, dict[str, list[int]])
    Traceback (most recent call last):
    ...
    ValueError: at *[1]: expected int, got str
    """
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as problem:
        raise ValueError(_place_first(str(problem))) from None


def write_record(path: str | Path, record: object, *, indent: int | None = 1, checksum: bool = True) -> None:
    """Write `record` to `path` as JSON, whole or not at all.

    Args:
        checksum: add the field "checksum", if the record has fields; not for files that others read by their fields.

    Raises:
        WriteError: no room on the disk, or no right to write there.
    """
    content = json.loads(json_text(record))
    if checksum and isinstance(content, dict):
        content[CHECKSUM] = _checksum(content)
    write_text(path, json.dumps(content, indent=indent) + "\n")


def json_text(record: object, *, sort_keys: bool = False) -> str:
    """`record` as JSON, with null for NaN and infinities.

    >>> json_text({"dice": 0.5, "psnr": float("inf"), "file": Path("a.png")})
    '{"dice": 0.5, "psnr": null, "file": "a.png"}'
    """
    plain = msgspec.to_builtins(record, str_keys=True, enc_hook=_plain)
    return json.dumps(_finite(plain), sort_keys=sort_keys, allow_nan=False)


def finite_or_none(value: float) -> float | None:
    """What a record has for a number: None for NaN and infinities.

    >>> finite_or_none(0.5), finite_or_none(float("nan"))
    (0.5, None)
    """
    return float(value) if math.isfinite(value) else None


def _checksum(content: Mapping[str, Any]) -> str:
    """CRC-32 of all values but the checksum's own, in any order of the fields."""
    text = json.dumps({key: value for key, value in content.items() if key != CHECKSUM}, sort_keys=True)
    return f"crc32:{zlib.crc32(text.encode()):08x}"


def _checked(content: Any) -> Any:
    """`content` without its checksum, which has to be right if there is one."""
    if not isinstance(content, dict) or not content:
        return content
    last = str(list(content.values())[-1])  # bits flipped in its name or value do not make a file without a checksum
    if CHECKSUM not in content and sum(map(str.__eq__, last, "crc32:")) < 4:
        return content
    if content.get(CHECKSUM) != _checksum(content):
        raise ValueError(f'its values are not those of its checksum; without the field "{CHECKSUM}" they are taken')
    return {key: value for key, value in content.items() if key != CHECKSUM}


def _text(path: Path) -> str:
    if path.stat().st_size > LARGEST_FILE:
        raise ValueError(f"larger than {LARGEST_FILE >> 20} MiB")
    return path.read_text(encoding="utf-8")


def _loads(text: str) -> Any:
    return json.loads(text, parse_constant=lambda name: None, parse_float=_finite_float)


def _finite_float(text: str) -> float | None:
    return finite_or_none(float(text))


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return finite_or_none(value)
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def _place_first(problem: str) -> str:
    """A message of msgspec as "at areas[0].zoom: expected int, got str"; `*` is any key of a table."""
    found = PLACE.fullmatch(problem)
    if found is None:
        return problem.replace("`", "")
    place = found["place"].replace("[...]", ".*").removeprefix(".")
    what = found["problem"].replace("`", "")
    return f"at {place}: {what[0].lower()}{what[1:]}"
