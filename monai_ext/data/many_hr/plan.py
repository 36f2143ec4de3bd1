"""Plan of a one-LR-many-HR data set: what each record is made of, by the tiles, the settings and its number alone."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from monai_ext.data.folds import seeded_key
from monai_ext.data.many_hr.captures import add_captures, capture_groups, without_chance_years
from monai_ext.data.many_hr.format import KINDS
from monai_ext.data.many_hr.targets import derived_seed
from monai_ext.data.tiles.images import read_tile, tile_pixels
from monai_ext.data.tiles.pixel_scale import PixelScale
from monai_ext.data.tiles.split import take_places
from monai_ext.raster.images import ImageFileError
from monai_ext.raster.opening import open_raster
from monai_ext.storage.fingerprint import file_sha256

__all__ = ["ManyHrPlan", "ManyHrSettings", "PARTS", "RecordPlan", "Window", "turned"]

PARTS = ("train", "validation", "test")
TILES_AT_HAND = 8  # windows of one large tile follow each other among the donors
TURNS = 8  # upright, three quarter turns, and the mirror images of all four
METHOD_VERSION = 2  # raise it when the same settings make other targets

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ManyHrSettings:
    """Choices that decide the content of a data set; the operator and the network come beside them.

    Raises:
        ValueError: a number out of range, or an unknown kind.
    """

    targets: int = 8
    """high-resolution images of a record that agree exactly, the original among them"""
    size: int = 256
    """side of the targets in pixels; tiles are cut into windows of it"""
    kinds: tuple[Literal["texture", "mined", "sampled", "capture"], ...] = ("texture", "mined", "sampled", "capture")
    """provenance classes besides the original; sampled only with --bundle"""
    captures: int = 4
    """other dates of a place that join a record at most; they agree nearly"""
    seed: int = 0
    """of everything drawn, but for the split"""
    bands: tuple[int, ...] = (1, 2, 3)
    """of the tiles, from 1"""
    patch: int = 4
    """side of the patches that are compared, in low-resolution pixels"""
    agreement: float = 6.0
    """root mean square difference up to which patches agree, in levels of 8 bits"""
    candidates: int = 16
    """nearest patches that a target draws from"""
    patches: int = 30_000
    """number of patches of the collection that are searched, for each part"""
    donors: int = 1000
    """windows that are borrowed from at most, for each part; each takes twice its size in memory"""
    test_fraction: float = 0.2
    """share of the tiles, whole places; 0 for none. Nothing is borrowed across parts"""
    validation_fraction: float = 0.1
    """share of the other tiles, whole places; 0 for none"""
    split_seed: int = 0
    """of the parts"""
    shard_records: int = 32
    """records of a shard"""

    def __post_init__(self) -> None:
        for name, least in (
            ("targets", 2), ("size", 2), ("captures", 0), ("seed", 0), ("candidates", 1), ("patches", 1),
            ("donors", 2), ("shard_records", 1),
        ):  # fmt: skip
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)} must be at least {least}.")
        if not self.agreement > 0:
            raise ValueError(f"agreement={self.agreement} must be above 0 levels.")
        unknown = set(self.kinds) - set(KINDS[1:])
        if unknown:
            raise ValueError(f"kind {', '.join(sorted(unknown))} is unknown: choose from {', '.join(KINDS[1:])}.")

    def recorded(self) -> dict[str, Any]:
        """The choices as the files of a data set name them."""
        return {"answers" if name == "targets" else name: value for name, value in asdict(self).items()}


class Window(NamedTuple):
    """A square of `ManyHrSettings.size` pixels: tile (its number) and upper left corner."""

    tile: int
    top: int
    left: int


class RecordPlan(NamedTuple):
    """What a record is made of.

    Attributes:
        number: of the record.
        window: of the original.
        turn: 0 ... 7, see `turned`.
        part: one of `PARTS`.
        seeds: of its targets.
        captures: the same window of other tiles, at other dates.
    """

    number: int
    window: Window
    turn: int
    part: str
    seeds: tuple[int, ...]
    captures: tuple[Window, ...]


class ManyHrPlan:
    """Tiles as windows in a random order, their parts and their captures.

    The windows of all tiles, without overlap, come in an order drawn by the seed; when they are used up they come again
    turned, up to eight times. A longer data set begins with the records of a shorter one.

    Args:
        items: see `tile_items`; with "footprint" and "date" by `add_captures`, if they are known. Years in names
            count where the pictures are alike, see `without_chance_years`.
        settings: choices.

        scale: of tiles of other types than uint8: their range becomes 0 to 255; None: they are refused.

    Attributes:
        tiles: "id", "place", "footprint", "date", "part" and "sha256" of the tiles large enough, in the order of their
            numbers.
        groups, places: number of the footprint and of the place of each tile.

    Raises:
        ValueError: no tile is large enough.
        ImageFileError: a tile cannot be read.
    """

    def __init__(self, items: Sequence[Mapping], settings: ManyHrSettings, *, scale: PixelScale | None = None):
        self.settings, self.scale = settings, None if scale is None or scale.is_usual else scale
        items = [dict(item) for item in items]
        if not all("footprint" in item for item in items):
            items = add_captures(items)
        sizes = [_size(item["image"]) for item in items]
        large = [min(size) >= settings.size for size in sizes]
        if not any(large):
            raise ValueError(
                f"none of the {len(items)} tiles has {settings.size} x {settings.size} pixels: choose a smaller size."
            )
        if not all(large):
            logger.warning("%d tiles smaller than %d pixels are left out", large.count(False), settings.size)
        items = [item for item, kept in zip(items, large, strict=True) if kept]
        self._sizes = [size for size, kept in zip(sizes, large, strict=True) if kept]
        self._paths = [str(item["image"]) for item in items]
        self._read = lru_cache(TILES_AT_HAND)(self._tile)
        items = without_chance_years(items, self._sizes, self._read)
        parts = _parts(items, settings)
        self.tiles = [
            {
                **{key: str(item[key]) for key in ("id", "place", "footprint", "date")},
                "part": part,
                "sha256": file_sha256(item["image"]),
            }
            for item, part in zip(items, parts, strict=True)
        ]
        self.groups, self.places = (self._numbers(key) for key in ("footprint", "place"))
        self._captures = capture_groups(self.tiles)
        steps = [[range(0, side - settings.size + 1, settings.size) for side in size] for size in self._sizes]
        windows = [
            Window(tile, top, left) for tile, (tops, lefts) in enumerate(steps) for top in tops for left in lefts
        ]
        self.windows = sorted(windows, key=lambda window: self._key("order", window))

    def __len__(self) -> int:
        """How many records there can be."""
        return TURNS * len(self.windows)

    def record(self, number: int) -> RecordPlan:
        """The plan of one record."""
        turn, position = divmod(number, len(self.windows))
        window = self.windows[position]
        seeds = tuple(derived_seed(self.settings.seed, number, target) for target in range(self.settings.targets))
        return RecordPlan(number, window, turn, self.tiles[window.tile]["part"], seeds, self._other_dates(window))

    def pixels(self, window: Window, turn: int = 0) -> Tensor:
        """The pixels of a window, uint8 (C, S, S).

        Raises:
            ImageFileError: the tile cannot be read, or is not of 8 bits.
        """
        size = self.settings.size
        cut = self._read(window.tile)[:, window.top : window.top + size, window.left : window.left + size]
        return turned(cut, turn).contiguous()

    def donors(self, part: str) -> list[Window]:
        """Windows of a part that may be borrowed from, in a fixed order."""
        windows = [window for window in self.windows if self.tiles[window.tile]["part"] == part]
        chosen = sorted(windows, key=lambda window: self._key("donors", window))[: self.settings.donors]
        return sorted(chosen)

    def fingerprint(self, *things: str) -> str:
        """Digest of the content: equal for equal tiles, settings and `things`."""
        content = [METHOD_VERSION, self.settings.recorded(), self.tiles, things]
        content += [] if self.scale is None else [repr(self.scale)]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def _numbers(self, key: str) -> list[int]:
        """For each tile the number of its `key`."""
        names = sorted({tile[key] for tile in self.tiles})
        return [names.index(tile[key]) for tile in self.tiles]

    def _tile(self, number: int) -> Tensor:
        path = self._paths[number]
        if self.scale is not None:
            values = tile_pixels(path, bands=self.settings.bands, scale=self.scale).values
            return torch.from_numpy(self.scale.coded(values, codes=255))
        tile = read_tile(path, bands=self.settings.bands)
        if tile.dtype != torch.uint8:
            raise ImageFileError(f"tile {path} has 16 bits: data sets hold 8; name the range of its values by --range.")
        return tile

    def _key(self, purpose: str, window: Window) -> bytes:
        name = f"{purpose}:{self.tiles[window.tile]['id']}:{window.top}:{window.left}"
        return seeded_key(self.settings.seed, name)

    def _other_dates(self, window: Window) -> tuple[Window, ...]:
        if "capture" not in self.settings.kinds:
            return ()
        tile = self.tiles[window.tile]
        others = [
            window._replace(tile=other)
            for other in self._captures.get(tile["footprint"], ())
            if self.tiles[other]["date"] != tile["date"]
            and self.tiles[other]["part"] == tile["part"]
            and self._sizes[other] == self._sizes[window.tile]
        ]
        chosen = sorted(others, key=lambda other: self._key(f"date {tile['id']}", other))[: self.settings.captures]
        return tuple(sorted(chosen, key=lambda other: self.tiles[other.tile]["date"]))


def turned(image: Tensor, turn: int) -> Tensor:
    """(..., S, S) turned by `turn` % 4 quarters anticlockwise, and from 4 on then mirrored left to right.

    >>> turned(torch.tensor([[1, 2], [3, 4]]), 1).tolist()
    [[2, 4], [1, 3]]
    """
    image = torch.rot90(image, turn % 4, (-2, -1))
    return image.flip(-1) if turn >= 4 else image


def _size(path: str | os.PathLike) -> tuple[int, int]:
    with closing(open_raster(path)) as raster:
        height, width = raster.info.size
        return height, width


def _parts(items: Sequence[Mapping], settings: ManyHrSettings) -> list[str]:
    """The part of each item: whole places, test first, then validation of what is left."""
    part_of = {item["id"]: "train" for item in items}
    left = list(items)
    for part, fraction in (("test", settings.test_fraction), ("validation", settings.validation_fraction)):
        if not fraction:
            continue
        if len({item["place"] for item in left}) < 2:
            logger.warning(
                "all %d tiles left show one place, and places are split whole: there is no part %s; add tiles of "
                "other places (fetch a larger --bbox), or build with a lower --block",
                len(left), part,
            )  # fmt: skip
            continue
        left, taken = take_places(left, fraction, seed=settings.split_seed, part=part)
        part_of.update({item["id"]: part for item in taken})
    return [part_of[item["id"]] for item in items]
