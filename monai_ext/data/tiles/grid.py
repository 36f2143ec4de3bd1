"""Tiles of the Web Mercator grid in a box of longitude and latitude, and their addresses on servers.

Tiles are counted as XYZ: x from 180 degrees west, y from the north, both below 2**zoom.
"""

from __future__ import annotations

import math
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import mercantile

from monai_ext.runtime.plain_text import without_secrets

__all__ = ["DEEPEST_ZOOM", "NATIONAL_MAP", "TileAddress", "TileArea", "TileSource", "finer_tiles", "tile_address"]

DEEPEST_ZOOM = 30
NORTHERN_END = 85.051129  # degrees; Web Mercator is a square
TILE_PIXELS = 256
Z_X_Y = re.compile(r"(\d+)[_/](\d+)[_/](\d+)(?:@\dx)?")
X_Y = re.compile(r"(\d+)_(\d+)")
FIELDS = frozenset({"z", "x", "y", "-y", "q", "s"})


class TileAddress(NamedTuple):
    """Where a tile lies in the grid; the zoom is None where a name lacks it."""

    zoom: int | None
    x: int
    y: int


def tile_address(file: Path) -> TileAddress | None:
    """The address that the name of a tile stands for: `Z/X/Y.jpg`, `Z_X_Y.jpg`, `X_Y.jpg`; None for other names."""
    for name in (file.stem, "/".join([*file.absolute().parts[-3:-1], file.stem])):
        if match := Z_X_Y.fullmatch(name):
            zoom, x, y = map(int, match.groups())
            if zoom <= DEEPEST_ZOOM and max(x, y) < 2**zoom:
                return TileAddress(zoom, x, y)
    match = X_Y.fullmatch(file.stem)
    return match and TileAddress(None, *map(int, match.groups()))


def finer_tiles(file: Path, times: int, *, from_south: bool = False) -> tuple[tuple[Path, ...], ...]:
    """The tiles of a finer zoom that lie in a tile: rows from the north, each from the west.

    Args:
        file: `.../Z/X/Y.png` or `.../Z_X_Y.png`; the tiles have a name of the same kind beside it.
        times: along a side, a power of two.
        from_south: rows of the names are counted from the south (TMS).

    Raises:
        ValueError: `times` is no power of two above 1, there is no such zoom, or the file is no tile.

    >>> [[path.as_posix() for path in row] for row in finer_tiles(Path("a/5/3/4.png"), 2)]
    [['a/6/6/8.png', 'a/6/7/8.png'], ['a/6/6/9.png', 'a/6/7/9.png']]
    """
    address, levels = tile_address(file), times.bit_length() - 1
    if address is None or address.zoom is None:
        raise ValueError(f"{file} is no map tile: its name is not Z/X/Y.png or Z_X_Y.png.")
    if times < 2 or times != 2**levels:
        raise ValueError(f"no zoom has tiles {times} times as fine: each next one halves the pixel.")
    zoom = address.zoom + levels
    if zoom > DEEPEST_ZOOM:
        raise ValueError(f"{file}: there is no zoom {zoom}, the last one is {DEEPEST_ZOOM}.")
    flat, density = "_" in file.stem, file.stem[file.stem.find("@") :] if "@" in file.stem else ""
    folder, mark = (file.parent, "_") if flat else (file.parents[2], "/")

    def path(row: int, column: int) -> Path:
        y = times * address.y + (times - 1 - row if from_south else row)
        return folder / f"{zoom}{mark}{times * address.x + column}{mark}{y}{density}{file.suffix}"

    return tuple(tuple(path(row, column) for column in range(times)) for row in range(times))


@dataclass(frozen=True)
class TileArea:
    """The tiles of one zoom level that share ground with a box; iterating gives `mercantile.Tile(x, y, z)`.

    A box whose west is east of its east, such as 179 to -179, crosses the antimeridian (as in GeoJSON, RFC 7946).
    Latitudes beyond 85.0511 degrees, where the grid ends, are cut off.

    Args:
        west, south, east, north: degrees.
        zoom: level, 0 (one tile for the world) to 30.

    Raises:
        ValueError: the box is empty, lies outside the world or beyond the grid, or there is no such zoom.

    >>> len(TileArea(-180, -85, 180, 85, zoom=2)), list(TileArea(88.3, 22.5, 88.4, 22.6, zoom=8))
    (16, [Tile(x=190, y=111, z=8)])
    """

    west: float
    south: float
    east: float
    north: float
    zoom: int

    def __post_init__(self) -> None:
        box = f"bbox {self.west:g} {self.south:g} {self.east:g} {self.north:g}"
        if not all(map(math.isfinite, self.bbox)):
            raise ValueError(f"{box} holds a number that is not finite: give W S E N in degrees.")
        if max(abs(self.west), abs(self.east)) > 180 or max(abs(self.south), abs(self.north)) > 90:
            raise ValueError(f"{box} leaves the world: give W S E N in degrees, within -180 ... 180 and -90 ... 90.")
        if self.south >= self.north or self.west == self.east:
            raise ValueError(f"{box} is empty: the order is W S E N, with S below N and W other than E.")
        if self.south >= NORTHERN_END or self.north <= -NORTHERN_END:
            raise ValueError(f"{box} lies beyond {NORTHERN_END:.4f} degrees, where tiles end: the order is W S E N.")
        if not isinstance(self.zoom, int) or not 0 <= self.zoom <= DEEPEST_ZOOM:
            raise ValueError(f"zoom is {self.zoom!r}: choose a whole number, 0 ... {DEEPEST_ZOOM}.")

    @property
    def bbox(self) -> tuple[float, float, float, float]:
        """West, south, east, north in degrees."""
        return self.west, self.south, self.east, self.north

    @property
    def pixel_size_m(self) -> float:
        """Ground size of a pixel of 256 x 256 tiles in the middle of the box, in metres."""
        latitude = (max(self.south, -NORTHERN_END) + min(self.north, NORTHERN_END)) / 2
        return mercantile.CE * math.cos(math.radians(latitude)) / TILE_PIXELS / 2**self.zoom

    def __len__(self) -> int:
        return sum(map(len, self._columns())) * len(self._rows())

    def __iter__(self) -> Iterator[mercantile.Tile]:
        rows = self._rows()
        for columns in self._columns():
            for x in columns:
                for y in rows:
                    yield mercantile.Tile(x, y, self.zoom)

    def _rows(self) -> range:
        first = mercantile.tile(0, min(self.north, NORTHERN_END), self.zoom)
        # As mercantile.tiles does: a box that ends at a tile's edge leaves out the next tile.
        last = mercantile.tile(0, max(self.south, -NORTHERN_END) + mercantile.LL_EPSILON, self.zoom)
        return range(first.y, last.y + 1)

    def _columns(self) -> list[range]:
        first = mercantile.tile(self.west, 0, self.zoom).x
        last = mercantile.tile(self.east - mercantile.LL_EPSILON, 0, self.zoom).x
        if self.west < self.east:
            return [range(first, last + 1)]
        if first <= last:  # from 1 east round the world to 1 west: at low zooms both ends lie in one tile
            return [range(2**self.zoom)]
        return [range(first, 2**self.zoom), range(last + 1)]


@dataclass(frozen=True)
class TileSource:
    """Where tiles come from, and whom to credit for them.

    Args:
        template: http or https address with {z}, {x} and {y}; {-y} instead of {y} where rows are counted from the
            south (TMS); or {q}, the quadkey, instead of all three. {s} is replaced by one of the subdomains.
        attribution: text that the provider requires, or that names the licence.
        subdomains: one character for each.

    Raises:
        ValueError: the template has no scheme, lacks a coordinate or has an unknown field.

    >>> TileSource("https://{s}.tiles.org/{z}/{x}/{-y}.png").url(mercantile.Tile(3, 1, 2))
    'https://b.tiles.org/2/3/2.png'
    """

    template: str
    attribution: str | None = None
    subdomains: str = "abc"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"https?://[!-~]+", self.template):
            raise ValueError(
                f"tile address {self.template!r} must begin with http:// or https:// and be ASCII without spaces."
            )
        try:
            fields = {field for _, field, _, _ in string.Formatter().parse(self.template) if field is not None}
        except ValueError as error:
            raise ValueError(f"tile address {self.template!r} cannot be understood: {error}.") from error
        if unknown := sorted(fields - FIELDS):
            raise ValueError(
                f"tile address {self.template!r} has the unknown field {{{unknown[0]}}}: known are "
                "{z} {x} {y}, {-y} for rows from the south, {q} for quadkeys, {s} for subdomains."
            )
        if "q" not in fields and not ({"z", "x"} <= fields and fields & {"y", "-y"}):
            raise ValueError(f"tile address {self.template!r} must have {{z}}, {{x}} and {{y}} or {{-y}}, or {{q}}.")
        if "s" in fields and not self.subdomains:
            raise ValueError(f"tile address {self.template!r} has {{s}}, but subdomains is empty.")

    @property
    def public_template(self) -> str:
        """The template without keys and tokens, to be shown and recorded."""
        return without_secrets(self.template)

    def url(self, tile: mercantile.Tile) -> str:
        """The address of `tile`; a tile has the same subdomain each time.

        Raises:
            ValueError: the template has {q} and the zoom is 0, which has no quadkey.
        """
        values = {"z": tile.z, "x": tile.x, "y": tile.y, "-y": 2**tile.z - 1 - tile.y}
        if "{q}" in self.template:
            if tile.z == 0:
                raise ValueError(f"zoom 0 has no quadkey, which {self.public_template!r} needs: choose 1 or more.")
            values["q"] = mercantile.quadkey(tile)
        if self.subdomains:
            values["s"] = self.subdomains[(tile.x + tile.y) % len(self.subdomains)]
        return self.template.format(**values)


NATIONAL_MAP = TileSource(
    "https://basemap.nationalmap.gov/arcgis/rest/services/USGSImageryOnly/MapServer/tile/{z}/{y}/{x}",
    attribution="Tiles courtesy of the U.S. Geological Survey, The National Map (public domain; United States only)",
)
