"""Find tiles of one place at several dates: by a table, or by file names that differ in their date alone.

Numbers of tiles may look like years. So a year alone in a name counts as a date only where no other name has a number
at that place which is no date (beside `tile_8`, `tile_1998` is a number), and where the pictures of the footprint
are alike (`without_chance_years`). Full dates, and those of a table, are accepted as they are.
"""

from __future__ import annotations

import logging
import os
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from monai_ext.data.isic import DatasetLayoutError
from monai_ext.runtime.errors import some_of
from monai_ext.storage.files import table_rows

__all__ = ["add_captures", "capture_groups", "footprint_and_date", "numbered_places", "without_chance_years"]

YEAR, MONTH, DAY = r"(?:19|20)\d\d", r"(?:0[1-9]|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])"
DATE = re.compile(rf"(?<![A-Za-z0-9])({YEAR}(?:{MONTH}{DAY}|-{MONTH}(?:-{DAY})?)?)(?![A-Za-z0-9])")
NUMBER = re.compile(r"(?<![A-Za-z0-9])\d+(?![A-Za-z0-9])")
ADDRESS = re.compile(r"(\d+[_/])?\d+[_/]\d+(@\dx)?")  # of a map tile: its numbers are no years
COLUMNS = ("file", "footprint", "date")
YEAR_ALONE = "year_alone"  # key of items whose date is a year in their name
CELLS = 32  # along a side of the reduced pictures that are compared
AROUND = 5  # cells along a side of the square whose mean is taken for the light
ALIKE = 0.12  # of 36 real pairs of captures all are above 0.18; of 329,230 pairs of other tiles 99 % below 0.11
FLAT = 1e-6  # levels; rounding of means is far below

logger = logging.getLogger(__name__)


def footprint_and_date(name: str, numbered: Collection[tuple[str, str]] = ()) -> tuple[str, str]:
    """What is left of a tile's name without its date, and the date: a year, YYYY-MM, YYYY-MM-DD or YYYYMMDD.

    The first such token between characters that are no letters or digits counts; years alone at places that are
    `numbered` are passed over. Names without one have the date ""; addresses of map tiles (`Z_X_Y`, `X_Y`) and names
    that are nothing but a date have none either.

    Args:
        numbered: what stands before and after numbers that are no years, see `numbered_places`.

    >>> footprint_and_date("2017_SJER_002"), footprint_and_date("SJER_002")
    (('SJER_002', '2017'), ('SJER_002', ''))
    >>> footprint_and_date("m_4709963_se_14_1_20090818_r0c0")
    ('m_4709963_se_14_1_r0c0', '20090818')
    >>> footprint_and_date("16_2017_2018")
    ('16_2017_2018', '')
    >>> footprint_and_date("tile_1998", numbered_places(["tile_8", "tile_1998"]))
    ('tile_1998', '')
    """
    for match in () if ADDRESS.fullmatch(name) else DATE.finditer(name):
        before, after = name[: match.start()], name[match.end() :]
        if _is_year(match.group(1)) and (before, after) in numbered:
            continue
        footprint = "_".join(part for part in (before.strip("_-. "), after.strip("_-. ")) if part)
        return (footprint, match.group(1)) if footprint else (name, "")
    return name, ""


def numbered_places(names: Iterable[str]) -> set[tuple[str, str]]:
    """What stands before and after each number in `names` that is no date: a year at such a place is a number too.

    >>> numbered_places(["tile_8", "roof_2010", "16_2017_2018"])
    {('tile_', '')}
    """
    return {
        (name[: match.start()], name[match.end() :])
        for name in names
        if not ADDRESS.fullmatch(name)
        for match in NUMBER.finditer(name)
        if not DATE.fullmatch(match.group())
    }


def add_captures(items: Sequence[Mapping], table: str | os.PathLike | None = None) -> list[dict]:
    """Items of `tile_items` with "footprint" and "date", by `footprint_and_date` of their ids or by a table.

    Items whose date is a year in their name have "year_alone" too: see `without_chance_years`.

    Args:
        items: with "id" and "image".
        table: csv file with the columns file (as in the folder of the csv, or a name alone), footprint and date. Tiles
            that it does not list are each a footprint of their own.

    Raises:
        DatasetLayoutError: the table is missing, or lacks a column.
    """
    if table is None:
        numbered = numbered_places(item["id"] for item in items)
        named = [footprint_and_date(item["id"], numbered) for item in items]
        return [
            {**item, "footprint": footprint, "date": date, YEAR_ALONE: _is_year(date)}
            for item, (footprint, date) in zip(items, named, strict=True)
        ]
    listed = _read_table(Path(table))
    named = [
        listed.get(os.path.abspath(item["image"]), listed.get(Path(item["image"]).name, (item["id"], "")))
        for item in items
    ]
    return [
        {**item, "footprint": footprint, "date": date}
        for item, (footprint, date) in zip(items, named, strict=True)
    ]  # fmt: skip


def without_chance_years(
    items: Sequence[Mapping], sizes: Sequence[tuple[int, int]], read: Callable[[int], Tensor]
) -> list[dict]:
    """Items of `add_captures`; years in names are no dates where the pictures of their footprint are not alike.

    Tiles `tile_1998` ... `tile_2009` may be years of one place, or numbers. Their pictures decide: reduced to 32 x 32
    means, without the mean of 5 x 5 around each, those of one place correlate in spite of season and light, those of
    different places hardly do. Where less than a quarter of the pairs correlate by 0.12 (a clouded date among three
    does no harm), each of these tiles becomes a footprint of its own without date, and a warning names them.

    Args:
        items: only those with a true "year_alone" may change.
        sizes: height and width of each picture.
        read: the pixels (C, H, W) of the item at a position, in as many bands for all.

    Raises:
        ImageFileError: `read` cannot read a picture.
    """
    footprints: dict[str, list[int]] = defaultdict(list)
    for position, item in enumerate(items):
        footprints[item["footprint"]].append(position)
    result, refused = [dict(item) for item in items], []
    for name, own in footprints.items():
        years = {position for position in own if items[position].get(YEAR_ALONE)}
        if not years or len({items[position]["date"] for position in own}) < 2:
            continue
        cells = min(CELLS, *(side for position in own for side in sizes[position]))
        details = torch.stack([_detail(read(position), cells) for position in own])
        likeness = _likeness(details, torch.tensor([position in years for position in own]))
        if likeness < ALIKE:
            refused.append(f"{name} ({len(years)} tiles, {likeness:.2f})")
            for position in years:
                result[position] |= {"footprint": items[position]["id"], "date": ""}
    if refused:
        logger.warning(
            "years in the names of %d footprint(s) count as numbers, since the pictures do not show one place (they "
            "correlate by less than %g): %s. If they do, list them by --dates CSV with file, footprint, date.",
            len(refused), ALIKE, some_of(refused, most=3),
        )  # fmt: skip
    return result


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


def _is_year(date: str) -> bool:
    return len(date) == 4


def _detail(picture: Tensor, cells: int) -> Tensor:
    """Means of `cells` x `cells` parts of (C, H, W) without those around each, of length 1; 0 for a flat picture."""
    height, width = (side // cells for side in picture.shape[1:])
    cut = picture[:, : height * cells, : width * cells]
    sums = cut.unflatten(2, (cells, width)).unflatten(1, (cells, height)).sum((2, 4), dtype=torch.int64)
    means = sums.double() / (height * width)
    light = F.avg_pool2d(means, AROUND, 1, padding=AROUND // 2, count_include_pad=False)
    detail = (means - light).flatten()
    return detail / detail.norm() if detail.norm() > FLAT else torch.zeros_like(detail)


def _likeness(details: Tensor, years: Tensor) -> float:
    """What a quarter of the pairs correlate by at least; pairs of a year and another picture, none of them flat.

    Infinite where there is no such pair: nothing contradicts the names.
    """
    counts = details.any(1)
    pairs = counts[:, None] & counts[None] & (years[:, None] | years[None])
    found = (details @ details.T)[pairs.triu(1)].sort(descending=True).values
    return float(found[len(found) // 4]) if len(found) else float("inf")
