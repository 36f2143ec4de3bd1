"""A first look at a set of tiles: blank tiles and placeholders of servers, and pixels that show no ground."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from monai_ext.data.isic import DatasetLayoutError
from monai_ext.data.tiles.images import tile_pixels
from monai_ext.data.tiles.listing import tile_items
from monai_ext.data.tiles.pixel_scale import PixelScale, find_scale
from monai_ext.runtime.errors import some_of
from monai_ext.runtime.settings import as_bool

__all__ = ["TileContent", "TileSurvey", "survey_tiles", "tile_content", "tile_set", "usable_tiles"]

MOST_MISSING = 0.5  # share of a tile
# Of known pixels of one colour: in a blank tile, in a repeated placeholder; of 500 aerial tiles one had 0.45, one 0.4,
# the others less than 0.25.
FLAT_SHARE, REPEATED_SHARE = 0.85, 0.3
FLAT_LEVELS = 1 / 255  # of a tile's values, up to which colours are one
PLACEHOLDER_COUNT = 3

BLANK, PLACEHOLDER, MISSING = "blank (one colour)", "a server's placeholder", f"more than {MOST_MISSING:.0%} missing"

PARTLY = "no ground in a part"

_logger = logging.getLogger(__name__)


class TileContent(NamedTuple):
    """What a tile holds.

    Attributes:
        known: share of the pixels that show ground.
        flat: share of those that have the most common colour.
        digest: of all pixels; equal tiles have equal ones.
    """

    known: float
    flat: float
    digest: bytes

    @property
    def fault(self) -> str | None:
        """Why the tile cannot be used, as far as it alone shows."""
        if self.known < 1 - MOST_MISSING:
            return MISSING
        return BLANK if self.flat >= FLAT_SHARE else None


def tile_content(pixels: np.ndarray, known: np.ndarray) -> TileContent:
    """What a tile (C, H, W) holds of which the pixels `known` (H, W) show ground."""
    kind = repr((pixels.shape, pixels.dtype.str)).encode()
    digest = hashlib.sha256(kind + np.ascontiguousarray(pixels).tobytes()).digest()
    colours = pixels[:, known]
    if colours.shape[1] == 0:
        return TileContent(0.0, 1.0, digest)
    step = 1.0 if pixels.dtype == np.uint8 else float(np.ptp(colours.astype(np.float64))) * FLAT_LEVELS
    common = np.array([_most_common(band) for band in colours])
    flat = (np.abs(colours.astype(np.float32) - common[:, None]) <= step).all(axis=0)
    return TileContent(float(known.mean()), float(flat.mean()), digest)


def _most_common(values: np.ndarray) -> float:
    if values.dtype == np.uint8:
        return float(np.bincount(values).argmax())
    found, counts = np.unique(values, return_counts=True)
    return float(found[counts.argmax()])


@dataclass(frozen=True)
class TileSurvey:
    """A set of tiles as it was found.

    Attributes:
        items: those that can be used, in their order.
        left_out: reason -> ids of the tiles left out.
        partly: id -> share of the pixels that show no ground, of tiles among `items`.
    """

    items: list[Mapping]
    left_out: dict[str, list[str]]
    partly: dict[str, float]

    def lines(self) -> list[str]:
        """What is worth a line of the log, in numbers and names; empty for a set without faults."""
        total = len(self.items) + sum(map(len, self.left_out.values()))
        lines = [
            f"{len(names)} of {total} tiles left out, {reason}: {some_of(names)}"
            for reason, names in self.left_out.items()
        ]
        if self.partly:
            share = sum(self.partly.values()) / len(self.items)
            lines.append(
                f"{len(self.partly)} of {len(self.items)} tiles show no ground in some pixels ({share:.1%} of all "
                f"pixels), which are filled in training and left out of scores: {some_of(list(self.partly))}"
            )
        return lines


def survey_tiles(
    items: Sequence[Mapping],
    *,
    bands: Sequence[int] | None = None,
    scale: PixelScale | None = None,
    whole: bool = False,
) -> TileSurvey:
    """Look at the pixels of all tiles of a set, see `tile_pixels`.

    Left out are tiles of one colour, tiles of which more than half shows no ground, and placeholders: equal pictures,
    largely of one colour, in three tiles or more.

    Args:
        items: with "id" and "image", see `tile_items`.
        bands, scale: see `read_tile`.
        whole: leave out tiles as well of which a part shows no ground.

    Raises:
        ImageFileError: a tile cannot be read.
    """

    def look(item: Mapping) -> TileContent:
        return tile_content(*tile_pixels(item["image"], bands=bands, scale=scale))

    with ThreadPoolExecutor(min(16, os.cpu_count() or 1), thread_name_prefix="survey") as pool:
        contents = list(pool.map(look, items))
    alike: dict[bytes, int] = defaultdict(int)
    for content in contents:
        alike[content.digest] += 1
    used, partly, left_out = [], {}, defaultdict(list)
    for item, content in zip(items, contents, strict=True):
        repeated = alike[content.digest] >= PLACEHOLDER_COUNT and content.flat >= REPEATED_SHARE
        fault = (
            content.fault or (PLACEHOLDER if repeated else None) or (PARTLY if whole and content.known < 1 else None)
        )
        if fault:
            left_out[fault].append(str(item["id"]))
            continue
        used.append(item)
        if content.known < 1:
            partly[str(item["id"])] = 1 - content.known
    return TileSurvey(used, dict(left_out), partly)


def usable_tiles(
    items: Sequence[Mapping],
    *,
    bands: Sequence[int] | None = None,
    scale: PixelScale | None = None,
    whole: bool = False,
) -> list[Mapping]:
    """The tiles that show something, see `survey_tiles`; the log names the others.

    Raises:
        DatasetLayoutError: none does.
        ImageFileError: a tile cannot be read.
    """
    return _reported(survey_tiles(items, bands=bands, scale=scale, whole=whole), len(items)).items


def _reported(survey: TileSurvey, count: int) -> TileSurvey:
    """The survey with its lines in the log, unless nothing is left."""
    for line in survey.lines():
        _logger.warning(line)
    if not survey.items:
        raise DatasetLayoutError(
            f"none of the {count} tiles shows ground: they are blank or placeholders, or nodata is taken for what "
            "it is not; look at them by python -m monai_ext check FOLDER --kind tiles."
        )
    return survey


def tile_set(
    folder: str | os.PathLike,
    *,
    intensity_range: Sequence[float] | None = None,
    nodata: float | None = None,
    no_alpha: bool = False,
    weights: str | os.PathLike | None = None,
    whole: bool = False,
    **listing: Any,
) -> list[dict[str, Any]]:
    """Tiles of a folder that show something, for training and evaluation: `tile_items`, `find_scale`, `usable_tiles`.

    Unless they are usual pictures, items have the "scale" of the set, by which `DecodeTiled` reads them. If some show
    no ground in a part, items have "known": True, and `DecodeTiled` returns which pixels do.

    Args:
        intensity_range, nodata, no_alpha, weights: see `find_scale`.
        whole: see `usable_tiles`.
        listing: as for `tile_items`.

    Raises:
        DatasetLayoutError: as `tile_items`, or no tile shows anything.
        ValueError: as `find_scale`.
        ImageFileError: a tile cannot be read.
    """
    listed = tile_items(folder, **listing)
    scale = find_scale(
        listed,
        intensity_range=intensity_range,
        nodata=nodata,
        no_alpha=as_bool(no_alpha, "no_alpha"),
        weights=None if weights is None else Path(weights),
    )
    survey = _reported(survey_tiles(listed, scale=scale, whole=whole), len(listed))
    more: dict[str, Any] = {} if scale.is_usual else {"scale": scale}
    if survey.partly:
        more["known"] = True
    return [{**item, **more} for item in survey.items]
