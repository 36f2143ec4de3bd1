"""Split files: the fold or the part of each case, and what belongs together, as a table beside the data.

A CSV has a row for each case: `id`, and `fold` (0, 1, ...), or `part` (training, validation or test), and perhaps
`group`. A JSON file is a list of such rows; {"training": [id, ...], "validation": [...]}; or a list of these, one for
each fold, as nnU-Net's splits_final.json.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from monai_ext.runtime.errors import one_line, some_of
from monai_ext.storage.files import table_rows

__all__ = ["SplitFile", "groups_in", "read_split_file"]

PARTS = {"train": "training", "training": "training", "val": "validation", "valid": "validation",
         "validation": "validation", "test": "test", "testing": "test"}  # fmt: skip
IDS = ("id", "image_id", "case")  # names of the column of the cases


class SplitFile(msgspec.Struct, frozen=True):
    """Which cases train and validate: `folds`, id -> fold, or `parts`, fold -> id -> part ("all" for every fold)."""

    path: str
    folds: Mapping[str, int] | None = None
    parts: Mapping[int | Literal["all"], Mapping[str, str]] | None = None

    def divide(self, items: Sequence[Mapping], fold: int | Literal["all"]) -> dict[str, list[Mapping]]:
        """The items of "training" and "validation", in their order; those of the test part are in neither.

        An item is named by its id, or by the name of its case (slices, tasks).

        Raises:
            ValueError: an item, or the fold, is not in the file; nothing is left to train or to validate on.
        """
        parts = self._parts_of(fold)
        divided: dict[str, list[Mapping]] = {"training": [], "validation": [], "test": []}
        unknown = []
        for item in items:
            name = next((name for name in _names(item) if name in parts), None)
            if name is None:
                unknown.append(str(item["id"]))
            else:
                divided[parts[name]].append(item)
        if unknown:
            raise ValueError(
                f"{self.path} does not have {len(unknown)} of the {len(items)} cases ({some_of(unknown)}): add them, "
                "as part test where they are to be left out."
            )
        for part in ("training", "validation"):
            if not divided[part] and not (fold == "all" and part == "validation"):
                raise ValueError(f"{self.path} leaves no case for {part} in fold {fold}.")
        return {part: divided[part] for part in ("training", "validation")}

    def _parts_of(self, fold: int | Literal["all"]) -> Mapping[str, str]:
        if self.folds is not None:
            if fold == "all":
                return dict.fromkeys(self.folds, "training")
            if fold not in (known := sorted(set(self.folds.values()))):
                raise ValueError(f"{self.path} has the folds {some_of(known)}, and no fold {fold}.")
            return {name: "validation" if own == fold else "training" for name, own in self.folds.items()}
        assert self.parts is not None  # one of both is there
        if "all" in self.parts:
            return self.parts["all"]
        if fold == "all":
            return {name: "training" for parts in self.parts.values() for name in parts}
        if fold not in self.parts:
            raise ValueError(f"{self.path} has the folds {some_of(sorted(map(str, self.parts)))}, and no fold {fold}.")
        return self.parts[fold]


def read_split_file(path: str | os.PathLike) -> SplitFile:
    """The split in a .csv or .json file.

    Raises:
        ValueError: it cannot be read, has no column of folds or parts, an unknown part, or a case in two of them.
    """
    text = os.fspath(path)
    if Path(path).suffix.lower() != ".json":
        return _of_rows(text, _rows(path))
    content = _json(path)
    if isinstance(content, Mapping):
        return SplitFile(text, parts={"all": _of_lists(text, content)})
    if isinstance(content, list) and content and all(_has_lists(entry) for entry in content):
        return SplitFile(text, parts={fold: _of_lists(text, entry) for fold, entry in enumerate(content)})
    if isinstance(content, list) and content and all(isinstance(entry, Mapping) for entry in content):
        return _of_rows(text, content)
    raise ValueError(
        f"{path} is no split file: give a list of rows with id and fold or part, or lists of ids as training and "
        "validation."
    )


def groups_in(path: str | os.PathLike, column: str) -> dict[str, str]:
    """id -> what it belongs to, from two columns of a CSV, such as lesion_id of HAM10000_metadata.csv.

    Raises:
        ValueError: it cannot be read, or has no such column, or none of the ids.
    """
    rows = _rows(path)
    if not rows or column not in rows[0]:
        there = some_of(list(rows[0])) if rows else "no rows"
        raise ValueError(f"{path} has no column {column!r}: there are {there}.")
    return {_id_of(os.fspath(path), row): str(row[column]) for row in rows}


def _names(item: Mapping) -> Iterable[str]:
    yield str(item["id"])
    if "case" in item:
        yield str(item["case"])


def _rows(path: str | os.PathLike) -> list[dict[str, str]]:
    try:
        rows = table_rows(Path(path), needed=(), error=ValueError, way_out="save it as CSV in UTF-8")
        return [row for _, row in rows]
    except OSError as error:
        raise ValueError(f"cannot read {path} ({error.strerror}): give a CSV or JSON file.") from error


def _json(path: str | os.PathLike) -> Any:
    try:
        return msgspec.json.decode(Path(path).read_bytes())
    except OSError as error:
        raise ValueError(f"cannot read {path} ({error.strerror}): give a CSV or JSON file.") from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON ({one_line(error)}).") from error


def _has_lists(entry: Any) -> bool:
    return isinstance(entry, Mapping) and any(str(key).lower() in PARTS for key in entry) and "id" not in entry


def _of_lists(path: str, entry: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, names in entry.items():
        part = PARTS.get(str(key).lower())
        if part is None or not isinstance(names, list):
            raise ValueError(f"{path} has the part {key!r}: choose training, validation or test, each a list of ids.")
        for name in map(str, names):
            if found.setdefault(name, part) != part:
                raise ValueError(f"{path} has {name} in two parts, {found[name]} and {part}.")
    return found


def _of_rows(path: str, rows: Sequence[Mapping[str, Any]]) -> SplitFile:
    if not rows:
        raise ValueError(f"{path} has no rows.")
    column = next((name for name in ("fold", "part", "split") if name in rows[0]), None)
    if column is None:
        raise ValueError(f"{path} has no column fold or part, only {some_of(list(rows[0]))}.")
    found: dict[str, str] = {}
    for row in rows:
        name, value = _id_of(path, row), str(row.get(column, "")).strip()
        if found.setdefault(name, value) != value:
            raise ValueError(f"{path} has {name} twice, with {column} {found[name]} and {value}.")
    if column == "fold":
        wrong = [name for name, value in found.items() if not value.isdigit()]
        if wrong:
            raise ValueError(f"{path} has the fold {found[wrong[0]]!r} for {wrong[0]}: give whole numbers from 0 on.")
        return SplitFile(path, folds={name: int(value) for name, value in found.items()})
    wrong = [name for name, value in found.items() if value.lower() not in PARTS]
    if wrong:
        raise ValueError(
            f"{path} has the {column} {found[wrong[0]]!r} for {wrong[0]}: choose training, validation or test."
        )
    return SplitFile(path, parts={"all": {name: PARTS[value.lower()] for name, value in found.items()}})


def _id_of(path: str, row: Mapping[str, Any]) -> str:
    name = next((name for name in IDS if name in row), None)
    if name is None:
        raise ValueError(f"{path} has no column of the cases: name it id.")
    return str(row[name])
