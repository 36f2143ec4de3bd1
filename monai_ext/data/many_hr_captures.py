"""Which tiles show one place at several dates: told by a table, or by file names that differ in their date alone."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from monai_ext.data.isic import DatasetLayoutError
from monai_ext.files import table_rows

__all__ = ["add_captures", "capture_groups", "footprint_and_date"]

YEAR, MONTH, DAY = r"(?:19|20)\d\d", r"(?:0[1-9]|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])"
DATE = re.compile(rf"(?<![A-Za-z0-9])({YEAR}(?:{MONTH}{DAY}|-{MONTH}(?:-{DAY})?)?)(?![A-Za-z0-9])")
ADDRESS = re.compile(r"(\d+[_/])?\d+[_/]\d+(@\dx)?")  # of a map tile: its numbers are no years
COLUMNS = ("file", "footprint", "date")


def footprint_and_date(name: str) -> tuple[str, str]:
    """What is left of a tile's name without its date, and the date: a year, YYYY-MM, YYYY-MM-DD or YYYYMMDD.

    The first such token between characters that are no letters or digits counts. Names without one have the date "";
    addresses of map tiles (`Z_X_Y`, `X_Y`) and names that are nothing but a date have none either.

    >>> footprint_and_date("2017_SJER_002"), footprint_and_date("SJER_002")
    (('SJER_002', '2017'), ('SJER_002', ''))
    >>> footprint_and_date("m_4709963_se_14_1_20090818_r0c0")
    ('m_4709963_se_14_1_r0c0', '20090818')
    >>> footprint_and_date("16_2017_2018")
    ('16_2017_2018', '')
    """
    match = None if ADDRESS.fullmatch(name) else DATE.search(name)
    if match is None:
        return name, ""
    rest = [part.strip("_-. ") for part in (name[: match.start()], name[match.end() :])]
    footprint = "_".join(part for part in rest if part)
    return (footprint, match.group(1)) if footprint else (name, "")


def add_captures(items: Sequence[Mapping], table: str | os.PathLike | None = None) -> list[dict]:
    """Items of `tile_items` with "footprint" and "date", by `footprint_and_date` of their ids or by a table.

    Args:
        items: with "id" and "image".
        table: csv file with the columns file (as in the folder of the csv, or a name alone), footprint and date. Tiles
            that it does not list are each a footprint of their own.

    Raises:
        DatasetLayoutError: the table is missing, or lacks a column.
    """
    if table is None:
        named = (footprint_and_date(item["id"]) for item in items)
    else:
        listed = _read_table(Path(table))
        named = (
            listed.get(os.path.abspath(item["image"]), listed.get(Path(item["image"]).name, (item["id"], "")))
            for item in items
        )
    return [
        {**item, "footprint": footprint, "date": date}
        for item, (footprint, date) in zip(items, named, strict=True)
    ]  # fmt: skip


def capture_groups(items: Sequence[Mapping]) -> dict[str, list[int]]:
    """Positions of the items of each footprint that has several dates, in order of the dates; one for each date.

    Args:
        items: see `add_captures`; the first item of a date counts.
    """
    dates: dict[str, dict[str, int]] = defaultdict(dict)
    for position, item in enumerate(items):
        dates[item["footprint"]].setdefault(item["date"], position)
    return {name: [own[date] for date in sorted(own)] for name, own in dates.items() if len(own) > 1}


def _read_table(table: Path) -> dict[str, tuple[str, str]]:
    if not table.is_file():
        raise DatasetLayoutError(f"the table of dates {table} does not exist.")
    listed: dict[str, tuple[str, str]] = {}
    way_out = "save the table of dates as CSV in UTF-8"
    for _, row in table_rows(table, needed=COLUMNS, error=DatasetLayoutError, way_out=way_out):
        named = row["footprint"], row["date"]
        listed[os.path.abspath(table.parent / row["file"])] = named
        if os.path.basename(row["file"]) == row["file"]:
            listed[row["file"]] = named
    return listed
