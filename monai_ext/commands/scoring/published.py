"""Published figures to show below a table, from a small CSV file that names method, source and protocol of each."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec

from monai_ext.commands.comparison.results import ResultsError
from monai_ext.storage.files import table_rows

__all__ = ["PublishedRow", "read_published"]

NAMED = ("method", "source", "protocol")


class PublishedRow(msgspec.Struct, frozen=True, kw_only=True):
    """One published method; `scores` by the column names of a run's cases.csv, without those that were not given."""

    method: str
    source: str
    protocol: str
    scores: dict[str, float]


def read_published(path: Path) -> list[PublishedRow]:
    """The rows of a CSV file with the columns method, source, protocol and any scores, in its order.

    Raises:
        ResultsError: there is no such file, it is damaged, a row does not name all three, or a score is no number.
    """
    if not path.is_file():
        raise ResultsError(f"{path} is no file of published figures: there is no such file.")
    way_out = "give a table with the columns method, source and protocol, and one for each score"
    rows = []
    for line, row in table_rows(path, needed=NAMED, error=ResultsError, way_out=way_out):
        named = {name: (row.pop(name) or "").strip() for name in NAMED}
        if absent := [name for name, text in named.items() if not text]:
            raise ResultsError(f"line {line} of {path} has no {absent[0]}: {way_out}.")
        rows.append(PublishedRow(**named, scores={n: _score(t, n, line, path) for n, t in row.items() if t.strip()}))
    return rows


def _score(text: str, name: str, line: int, path: Path) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ResultsError(f"line {line} of {path}: {name} is {text[:20]!r}, which is no finite number.")
    return value
