"""Lists of aerial tiles with the places that they show."""

from __future__ import annotations

import csv
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path

from monai_ext.data.isic import DatasetLayoutError, check_name
from monai_ext.data.passed_over import log_passed_over
from monai_ext.data.tiles.grid import tile_address
from monai_ext.runtime.errors import one_line
from monai_ext.storage.files import table_reader
from monai_ext.storage.folders import files_below

__all__ = ["tile_items"]

TILE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp"})
FILE_COLUMNS = ("file", "image", "path", "filename", "file_name")
PARTS = ("training", "validation", "test")
NAMED_AT_MOST = 3

logger = logging.getLogger(__name__)


def tile_items(
    folder: str | os.PathLike,
    *,
    block: int = 8,
    manifest: str | os.PathLike | None = "auto",
    place_pattern: str | None = None,
) -> list[dict[str, str]]:
    """Items {"id", "image": path, "place"} of all tiles in `folder` and the folders below it, sorted by id.

    Places come from the first of these that there is:

    * `place_pattern`, if it is given;
    * a manifest, a csv file with the columns "place" and "file" (or image, path, filename, file_name; relative to the
      csv or to `folder`), which must name every tile. Its columns "kind" (such as town or forest, for `tile_weights`)
      and "part" (training, validation or test, for `split_by_place`), where there are any, join the items;
    * names that are addresses: `Z/X/Y.jpg`, `Z_X_Y.jpg` or, without a zoom, `X_Y.jpg` as jimutmap writes them. The
      place is the block of `block` x `block` neighbouring tiles at the coarsest zoom of the folder; tiles of finer
      zooms belong to the block that they lie in, and tiles of several dates to the same one;
    * else each file is its own place.

    The id is the path below `folder`, without suffix, with "_" for "/". JPEG, PNG, TIFF and WebP files are tiles;
    hidden files are not.

    Args:
        block: tiles along a side of a place, at least 1.
        manifest: the csv file; "auto" takes `folder`/manifest.csv, `folder`/NAME_manifest.csv or NAME_manifest.csv
            beside the folder, where NAME is the folder's name; None uses none.
        place_pattern: a regular expression found in each path below `folder`, such as `"town/a_1.png"`, whose groups
            `(?P<place>...)` and, if it has one, `(?P<kind>...)` are what they match: `"(?P<place>[^/]+)/"` takes the
            folder, `"(?P<place>[^/]+)_[0-9]+"` what stands before a number.

    Raises:
        DatasetLayoutError: no such folder, no tiles, two of them with one id, a manifest that lacks a column, a place
            or a tile or has another part, or a path in which the pattern is not found.
        ValueError: `block` is below 1, or the pattern is no regular expression with a group "place".
    """
    if block < 1:
        raise ValueError(f"block is {block}: a place has at least 1 x 1 tile.")
    root = Path(folder)
    if not root.is_dir():
        raise DatasetLayoutError(f"{str(root)!r} is not a folder of tiles.")
    everything = sorted(files_below(root), key=lambda file: file.parts)
    files = [file for file in everything if file.suffix.lower() in TILE_SUFFIXES]
    log_passed_over(root, (file for file in everything if file.suffix.lower() not in TILE_SUFFIXES))
    if not files:
        raise DatasetLayoutError(f"no tile lies in {root}: known are {' '.join(sorted(TILE_SUFFIXES))}.")
    listing = _find_manifest(root) if manifest == "auto" else manifest
    if place_pattern is not None:
        notes = _matched_notes(files, root, place_pattern)
    elif listing is not None:
        notes = _manifest_notes(files, root, Path(listing))
    else:
        notes = [{"place": place} for place in _block_places(files, block)]
    items: dict[str, dict[str, str]] = {}
    for file, note in zip(files, notes, strict=True):
        check_name(file)
        name = file.relative_to(root).with_suffix("").as_posix().replace("/", "_")
        if name in items:
            raise DatasetLayoutError(
                f"two tiles have the id {name}: {items[name]['image']} and {file}: rename or remove one."
            )
        items[name] = {"id": name, "image": str(file)} | note | {"place": note["place"] or name}
    return [items[name] for name in sorted(items)]


def _block_places(files: Sequence[Path], block: int) -> list[str]:
    """The block of each file, or "" where its name is no address."""
    addresses = [tile_address(file) for file in files]
    coarsest = min((address.zoom for address in addresses if address and address.zoom is not None), default=0)
    places = []
    for address in addresses:
        if address is None:
            places.append("")
            continue
        finer = 0 if address.zoom is None else address.zoom - coarsest
        x, y = ((position >> finer) // block * block for position in (address.x, address.y))
        places.append(f"x{x} y{y}" if address.zoom is None else f"z{coarsest} x{x} y{y}")
    return places


def _find_manifest(root: Path) -> Path | None:
    name = root.absolute().name
    candidates = (root / "manifest.csv", root / f"{name}_manifest.csv", root.absolute().parent / f"{name}_manifest.csv")
    return next((file for file in candidates if file.is_file()), None)


def _matched_notes(files: Sequence[Path], root: Path, place_pattern: str) -> list[dict[str, str]]:
    try:
        pattern = re.compile(place_pattern)
    except re.error as error:
        raise ValueError(f"place_pattern={place_pattern!r} is no regular expression: {error}.") from error
    if "place" not in pattern.groupindex:
        raise ValueError(f"place_pattern={place_pattern!r} has no group (?P<place>...).")
    notes = []
    for file in files:
        path = file.relative_to(root).as_posix()
        match = pattern.search(path)
        if match is None or not match["place"]:
            raise DatasetLayoutError(f"place_pattern={place_pattern!r} finds no place in {path!r}: widen the pattern.")
        notes.append({key: value for key, value in match.groupdict().items() if value and key in ("place", "kind")})
    return notes


def _manifest_rows(manifest: Path) -> list[tuple[str, dict[str, str]]]:
    """The file of each line and what is noted of it: its place, and its kind and part where there are such columns."""
    try:
        with manifest.open(newline="", encoding="utf-8-sig") as file:
            reader = table_reader(file)
            columns = {(name or "").strip().lower(): name for name in reader.fieldnames or ()}
            file_column = next((columns[name] for name in FILE_COLUMNS if name in columns), None)
            if file_column is None or "place" not in columns:
                there = " ".join(", ".join(columns).split())[:200] or "none"
                raise DatasetLayoutError(
                    f"the manifest {manifest} has the columns {there}: it needs 'place' and 'file' (or "
                    f"{', '.join(FILE_COLUMNS[1:])}); manifest=None does without it."
                )
            noted = {key: columns[key] for key in ("place", "kind", "part") if key in columns}
            return [
                (row[file_column] or "", {key: (row[name] or "").strip() for key, name in noted.items()})
                for row in reader
            ]
    except (csv.Error, UnicodeDecodeError) as error:
        raise DatasetLayoutError(
            f"the manifest {manifest} is no CSV in UTF-8 ({one_line(error)}); manifest=None does without it."
        ) from error


def _manifest_notes(files: Sequence[Path], root: Path, manifest: Path) -> list[dict[str, str]]:
    if not manifest.is_file():
        raise DatasetLayoutError(f"the manifest {manifest} of {root} does not exist.")
    rows = _manifest_rows(manifest)
    listed = {}
    for name, note in rows:
        if not note["place"]:
            raise DatasetLayoutError(f"the manifest {manifest} gives no place for {name!r}.")
        if (note.get("part") or PARTS[0]) not in PARTS:
            raise DatasetLayoutError(
                f"the manifest {manifest} puts {name!r} into the part {note['part']!r}: choose {', '.join(PARTS)}, or "
                "give the column 'part' another name."
            )
        for base in (manifest.parent, root):
            listed[os.path.abspath(base / name)] = note
    unlisted = [file for file in files if os.path.abspath(file) not in listed]
    if unlisted:
        some = ", ".join(str(file.relative_to(root)) for file in unlisted[:NAMED_AT_MOST])
        raise DatasetLayoutError(
            f"{len(unlisted)} of the {len(files)} tiles in {root} are not in the manifest {manifest}: {some}"
            f"{' ...' if len(unlisted) > NAMED_AT_MOST else ''}; add them, or do without it by manifest=None."
        )
    if len(rows) > len(files):
        logger.warning("%d tiles of %s are not in %s", len(rows) - len(files), manifest, root)
    return [listed[os.path.abspath(file)] for file in files]
