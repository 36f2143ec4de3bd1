"""Points in images, one for all cases or one for each: centres of regions, clicks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_ext.storage.files import table_rows
from monai_ext.storage.records import read_record

__all__ = ["Points", "point_of", "points_of_request", "read_points"]

Points = Sequence[float] | str | Path | Mapping[str, Sequence[float]] | None
AXES = ("row", "column", "slice")


def read_points(path: str | Path) -> dict[str, tuple[float, ...]]:
    """Id -> point, from a CSV of the columns id, row, column and, for volumes, slice, or from JSON {id: [row, column]}.

    Raises:
        OSError: there is no such file.
        ValueError: it lacks a column, or a value is no number; names file and line.
    """
    way_out = "write the columns id, row, column (and slice), or JSON {id: [row, column]}"
    if str(path).lower().endswith(".json"):
        found = read_record(path, dict[str, list[float]], way_out=way_out)
        return {name: tuple(point) for name, point in found.items()}
    points = {}
    for line, row in table_rows(path, needed=("id", *AXES[:2]), way_out=way_out):
        axes = AXES if row.get(AXES[2]) else AXES[:2]
        try:
            point = tuple(float(row[axis]) for axis in axes)
        except ValueError:
            point = (math.nan,)
        if not all(map(math.isfinite, point)):
            raise ValueError(f"{path}, line {line}: {[row[axis] for axis in axes]} are no numbers: {way_out}.")
        points[row["id"]] = point
    return points


def point_of(points: Points, name: str, *, dims: int, what: str) -> tuple[float, ...] | None:
    """The point of a case: that of all, or that of its id in a table.

    Args:
        points: one point, a table as of `read_points`, or None.
        dims: axes of the image.
        what: the option, for errors.

    Raises:
        ValueError: a table without the case, or a point of another number of axes.
    """
    if points is None:
        return None
    if isinstance(points, Mapping):
        if name not in points:
            raise ValueError(f"--{what} is a table without the case {name}: add it.")
        points = points[name]
    if isinstance(points, (str, Path)) or len(points) != dims:
        raise ValueError(f"{what} is {points!r}: give {' and '.join(AXES[:dims])} of the image, or None.")
    return tuple(float(place) for place in points)


def points_of_request(data: Mapping[str, Any], key: str, *, photograph: bool, dims: int) -> list[tuple[float, ...]]:
    """Points "foreground" or "background" of a request to MONAI Label, in the order of the axes of the image as read.

    Clients count x, y and z along columns, rows and slices. Files of scans have x first, photographs rows.
    """
    points = [[float(place) for place in point] for point in data.get(key) or []]
    return [tuple(reversed(point[:2])) if photograph else tuple(point[:dims]) for point in points]
