"""Fetch the tiles of an area from a server into a folder `Z/X/Y.jpg`, with a record of their origin.

A run that ends early is continued by the same call: whole tiles in the folder are kept and not requested again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from io import BytesIO
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import mercantile
import msgspec
from PIL import Image
from tifffile import TiffFile
from tqdm import tqdm

from monai_ext.data.tiles.client import TileClient, TileFetchError, TileMissingError, TileRefusedError
from monai_ext.data.tiles.grid import NATIONAL_MAP, TileArea, TileSource
from monai_ext.raster.images import DECODING_ERRORS, FORMATS
from monai_ext.runtime.errors import one_line
from monai_ext.runtime.plain_text import without_secrets
from monai_ext.runtime.run_log import shows_progress
from monai_ext.storage.files import atomic_path
from monai_ext.storage.records import read_record, write_record

__all__ = ["ATTRIBUTION_FILE", "FetchSummary", "fetch_tiles"]

ATTRIBUTION_FILE = "attribution.json"
SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "TIFF": ".tif"}
TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
MOST_FAILURES_IN_A_ROW = 8
MOST_MISSING_AT_START = 200
PATIENCE_S = 2.0  # with threads that are to end

logger = logging.getLogger(__name__)


class AreaRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An area in attribution.json.

    Attributes:
        source: template of the addresses, without keys.
        tiles_of_area: how many there are in it.
        started, finished: times in UTC; finished is None until all tiles have been requested.
        tiles, missing: how many are there, and how many the server does not have.
    """

    source: str
    attribution: str | None = None
    bbox: tuple[float, float, float, float]
    zoom: int
    tiles_of_area: int = 0
    started: str = ""
    finished: str | None = None
    tiles: int | msgspec.UnsetType = msgspec.UNSET
    missing: int | msgspec.UnsetType = msgspec.UNSET


class Attribution(msgspec.Struct, frozen=True):
    """attribution.json: the areas fetched into a folder."""

    areas: list[AreaRecord]


@dataclass
class FetchSummary:
    """What became of the tiles of an area.

    Attributes:
        fetched: tiles that were written now.
        kept: tiles that were there, whole.
        missing: tiles that the server does not have.
        repeated: of the fetched tiles, those of the most frequent content, if there are several: open water, or the
            picture that a server sends for a tile it does not have.
        nbytes: size of the fetched tiles.
    """

    fetched: int = 0
    kept: int = 0
    missing: int = 0
    repeated: int = 0
    nbytes: int = 0


def fetch_tiles(
    area: TileArea,
    output_dir: str | os.PathLike,
    *,
    source: TileSource = NATIONAL_MAP,
    client: TileClient | None = None,
    jobs: int = 4,
) -> FetchSummary:
    """Fetch the tiles of `area` into `output_dir` as `Z/X/Y` with the suffix of their content (rows from the north).

    `attribution.json` beside them lists source, attribution, box, zoom, counts and times of all areas fetched into the
    folder. Tiles appear complete or not at all. A tile that fails for good does not hold up the others; eight in a
    row, a refusal, or 200 missing tiles before the first one that exists end the run.

    Args:
        client: None: a `TileClient()` with 4 requests a second.
        jobs: threads, so that a slow response does not hold up the next request.

    Raises:
        ValueError: the folder holds tiles of another source, its attribution.json is damaged, or jobs is below 1.
        TileFetchError: a refusal, or tiles could not be fetched; names the first one.
    """
    if jobs < 1:
        raise ValueError(f"jobs is {jobs}: at least one thread must fetch.")
    folder, started = Path(output_dir), _now()
    source.url(next(iter(area)))  # what is wrong with the address shows before anything is written
    records = _records(folder, source, area)
    record = AreaRecord(
        source=source.public_template,
        attribution=source.attribution and without_secrets(source.attribution),
        bbox=area.bbox,
        zoom=area.zoom,
        tiles_of_area=len(area),
        started=started,
    )
    _write_records(folder, records, record)
    fetch = _Fetch(area, folder, source, client or TileClient())
    summary = fetch.run(jobs)
    tiles = summary.fetched + summary.kept
    record = msgspec.structs.replace(record, finished=_now(), tiles=tiles, missing=summary.missing)
    _write_records(folder, records, record)
    return summary


class _Fetch:
    """One run: several threads that take tiles from one iterator."""

    def __init__(self, area: TileArea, folder: Path, source: TileSource, client: TileClient):
        self.folder, self.source, self.client = folder, source, client
        self.count, self.summary = len(area), FetchSummary()
        self._tiles: Iterator[mercantile.Tile] = iter(area)
        self._lock = threading.Lock()
        self._contents: Counter[bytes] = Counter()
        self._failed, self._in_a_row = 0, 0
        self._first_failure: TileFetchError | None = None
        self._bar = tqdm(total=self.count, desc="fetching", unit="tile", disable=not shows_progress())

    def run(self, jobs: int) -> FetchSummary:
        ended: SimpleQueue[BaseException | None] = SimpleQueue()

        def work() -> None:
            try:
                self._work()
                ended.put(None)
            except BaseException as error:  # whatever ends a thread ends the run
                ended.put(error)

        # Daemons: one that waits for a server to accept a connection, which nothing breaks off, holds up no exit.
        threads = [threading.Thread(target=work, name=f"fetch_{n}", daemon=True) for n in range(min(jobs, self.count))]
        with self._bar:
            try:
                for thread in threads:
                    thread.start()
                left = len(threads)
                while left:
                    with suppress(Empty):  # woken up again and again: an interrupt just before a wait does not end it
                        if (error := ended.get(timeout=0.5)) is not None:
                            raise error
                        left -= 1
            except BaseException:  # an interrupt as well: the other threads must not go on behind its back
                self.client.stop()
                deadline = time.monotonic() + PATIENCE_S
                for thread in threads:
                    if thread.is_alive():
                        thread.join(max(0.0, deadline - time.monotonic()))
                raise
        if self._first_failure is not None:
            raise TileFetchError(
                f"{self._failed} of {self.count} tiles could not be fetched, the others are there; the same command "
                f"tries again. The first: {self._first_failure}"
            )
        if self.summary.missing == self.count:
            self._end_without_tiles()
        most_frequent = self._contents.most_common(1)
        if most_frequent and most_frequent[0][1] > 1:
            self.summary.repeated = most_frequent[0][1]
        return self.summary

    def _work(self) -> None:
        while True:
            with self._lock:
                tile = next(self._tiles, None)
            if tile is None:
                return
            self._one(tile)
            with self._lock:
                self._bar.update()

    def _one(self, tile: mercantile.Tile) -> None:
        path = self.folder / f"{tile.z}" / f"{tile.x}" / f"{tile.y}"
        there, damaged = _look_for(path)
        if there is not None:
            with self._lock:
                self.summary.kept += 1
            return
        url = self.source.url(tile)
        try:
            body, suffix = self.client.get(url, lambda body: (body, image_suffix(body, url)))
        except TileMissingError:
            self._note_missing()
        except TileRefusedError:
            raise
        except TileFetchError as error:
            self._note_failure(error)
        else:
            self._keep(path.with_name(path.name + suffix), body, damaged)

    def _keep(self, path: Path, body: bytes, damaged: list[Path]) -> None:
        with atomic_path(path) as temporary:
            temporary.write_bytes(body)
        with self._lock:
            for other in damaged:
                if other != path:
                    other.unlink()
            self.summary.fetched += 1
            self.summary.nbytes += len(body)
            self._contents[hashlib.sha256(body).digest()] += 1
            self._in_a_row = 0

    def _note_missing(self) -> None:
        with self._lock:
            self.summary.missing += 1
            self._in_a_row = 0
            if self.summary.missing >= MOST_MISSING_AT_START and not self.summary.fetched + self.summary.kept:
                self._end_without_tiles()

    def _note_failure(self, error: TileFetchError) -> None:
        with self._lock:
            self._failed += 1
            self._in_a_row += 1
            self._first_failure = self._first_failure or error
            if self._in_a_row >= MOST_FAILURES_IN_A_ROW:
                raise TileRefusedError(
                    f"{self._in_a_row} tiles in a row could not be fetched; what is there stays, and the same command "
                    f"goes on from it. The last: {error}"
                ) from None

    def _end_without_tiles(self) -> None:
        raise TileRefusedError(
            f"the server has none of the first {self.summary.missing} tiles of {self.source.public_template}: "
            "check its largest zoom, the bbox (W S E N) and the order of {z}, {x} and {y}."
        )


def image_suffix(body: bytes, url: str) -> str:
    """The suffix for the image in `body`: .jpg, .png, .webp or .tif. JPEG, PNG and WebP are decoded to the end.

    Raises:
        ValueError: an image that is damaged or cut off.
        TileFetchError: no image at all, such as a page that explains an error.
    """
    if body[:4] in TIFF_MAGIC:  # Pillow does not read those of many bands
        _check_tiff(body)
        return SUFFIXES["TIFF"]
    try:
        with Image.open(BytesIO(body), formats=FORMATS) as picture:
            picture.load()
            kind = picture.format
    except Image.UnidentifiedImageError as error:
        beginning = body[:60].decode("utf-8", errors="replace").split("\n")[0]
        raise TileFetchError(
            f"{without_secrets(url)} is no image: its {len(body)} bytes begin with {beginning!r}."
        ) from error
    except DECODING_ERRORS as error:
        raise ValueError(f"the image is damaged ({one_line(error)})") from error
    if kind not in SUFFIXES:
        raise TileFetchError(f"{without_secrets(url)} is a {kind} image: only {', '.join(SUFFIXES)} are kept.")
    return SUFFIXES[kind]


def _check_tiff(body: bytes) -> None:
    """Refuse a TIFF whose directory cannot be read, or whose pixels are not all there or cannot be decoded."""
    try:
        with TiffFile(BytesIO(body)) as tiff:
            page = tiff.pages.first
            ends = [start + size for start, size in zip(page.dataoffsets, page.databytecounts, strict=True)]
            whole = bool(ends) and max(ends) <= len(body)
            if whole and not _pillow_decodes(body):
                _decode(page, body)
    except Exception as error:  # of any kind: tifffile has no base class for them
        raise ValueError(f"the image is damaged ({one_line(error)})") from error
    if not whole:
        raise ValueError("the image is damaged (it is cut off)")


def _pillow_decodes(body: bytes) -> bool:
    """Whether Pillow reads this kind of TIFF; a damaged one is an error."""
    try:
        with Image.open(BytesIO(body), formats=["TIFF"]) as picture:
            picture.load()
    except Image.UnidentifiedImageError:
        return False
    return True


def _decode(page: Any, body: bytes) -> None:
    """By tifffile, or by GDAL where it lacks the codec; a codec that neither has is left to the reader of the tile."""
    try:
        page.asarray()
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        with suppress(ImportError):
            from rasterio.io import MemoryFile

            with MemoryFile(body) as file, file.open(driver="GTiff") as opened:
                opened.read()


def _look_for(path: Path) -> tuple[Path | None, list[Path]]:
    """The whole tile at `path` with any suffix, or None, and the damaged ones."""
    damaged: list[Path] = []
    for suffix in SUFFIXES.values():
        file = path.with_name(path.name + suffix)
        with suppress(FileNotFoundError):
            try:
                image_suffix(file.read_bytes(), str(file))
                return file, damaged
            except (ValueError, TileFetchError):
                damaged.append(file)
    return None, damaged


def _records(folder: Path, source: TileSource, area: TileArea) -> list[AreaRecord]:
    """The records in the folder of other areas than this; without a tile they record nothing."""
    file = folder / ATTRIBUTION_FILE
    if not file.exists() or not any(folder.glob("*/*/*.*")):
        return []
    kept = []
    for other in read_record(file, Attribution, way_out="mend or move it, or choose another folder").areas:
        if other.source != source.public_template:
            shown = " ".join(other.source.split())[:200]
            raise ValueError(
                f"{folder} holds tiles of {shown}, not of {source.public_template}: choose another folder."
            )
        if (other.bbox, other.zoom) != (area.bbox, area.zoom):
            kept.append(other)
    return kept


def _write_records(folder: Path, others: list[AreaRecord], record: AreaRecord) -> None:
    write_record(folder / ATTRIBUTION_FILE, Attribution([*others, record]), indent=2)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
