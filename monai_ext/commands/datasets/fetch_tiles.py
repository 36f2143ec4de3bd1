"""`fetch_tiles`: map tiles of a box of longitude and latitude, for training and for upscaling."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from monai_ext.commands.command_line import Computed, UseAppendAction, arg
from monai_ext.data.tiles.client import USER_AGENT, TileClient
from monai_ext.data.tiles.fetch import ATTRIBUTION_FILE, fetch_tiles
from monai_ext.data.tiles.grid import NATIONAL_MAP, TileArea, TileSource
from monai_ext.data.tiles.headers import request_headers
from monai_ext.runtime.run_log import tell

__all__ = ["FetchTilesOptions", "plan", "run"]

_logger = logging.getLogger(__name__)

LOOPBACK = ("localhost", "127.0.0.1", "::1")
HALF_WORLD = 180  # degrees
MOST_TILES = 5000  # without --yes
TYPICAL_BYTES = 19_000  # mean of 812 aerial JPEG tiles of 256 x 256
SUSPICIOUS_SHARE = 0.02  # of tiles with one and the same content


@dataclass(frozen=True)
class FetchTilesOptions:
    """Fetch the map tiles of a box of longitude and latitude from any tile server; resumable."""

    bbox: Annotated[tuple[float, float, float, float], arg(metavar="W S E N")]
    """box in degrees; W > E crosses the antimeridian"""
    zoom: int
    """level; each next one halves the pixel"""
    output_dir: Path
    """folder for Z/X/Y.jpg"""
    url: Annotated[str, arg(metavar="TEMPLATE")] = NATIONAL_MAP.template
    """address with {z} {x} {y}, {-y} (TMS) or {q} (quadkey), and {s}"""
    attribution: Computed[str | None] = None
    """credit and licence, recorded beside the tiles"""
    rate: float = 4.0
    """requests a second at most"""
    jobs: int = 4
    """threads"""
    attempts: int = 5
    """tries for one tile"""
    subdomains: str = "abc"
    """what {s} stands for"""
    user_agent: str = USER_AGENT
    """name and contact to show"""
    header: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="'NAME: VALUE'")] = ()
    """of each request, such as 'Authorization: Bearer $TILE_TOKEN' in single quotes: the value of the environment
    variable is taken here, so that neither history nor logs have it, and never sent to another host; several times"""
    dry_run: bool = False
    """show how many tiles there are, and stop"""
    yes: bool = False
    """allow more than 5,000 tiles, and a box of more than half the world across the antimeridian"""


def plan(area: TileArea, source: TileSource, *, rate: float) -> str:
    """What fetching would mean: tiles, ground size of a pixel, bytes, the least time, and where that is.

    >>> area = TileArea(88.3, 22.5, 88.4, 22.6, zoom=16)
    >>> print(plan(area, TileSource("https://tiles.org/{z}/{x}/{y}.jpg"), rate=4))
    399 tiles at zoom 16 (2.21 m a pixel), about 8 MB, at least 1 min 40 s at 4 a second
    of 88.3 E to 88.4 E, 22.5 N to 22.6 N
    from https://tiles.org/{z}/{x}/{y}.jpg
    """
    count = len(area)
    return (
        f"{count:,} tiles at zoom {area.zoom} ({area.pixel_size_m:.3g} m a pixel), "
        f"about {count * TYPICAL_BYTES / 1e6:,.0f} MB, at least {_duration(count / rate)} at {rate:g} a second\n"
        f"of {_degrees(area.west, 'EW')} to {_degrees(area.east, 'EW')}, {_degrees(area.south, 'NS')} to "
        f"{_degrees(area.north, 'NS')}\n"
        f"from {source.public_template}"
    )


def _degrees(value: float, sides: str) -> str:
    return f"{abs(value):g} {sides[value < 0]}"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def _check_direction(area: TileArea, *, yes: bool) -> None:
    """Refuse a box that crosses the antimeridian and more than half of the world: west and east are swapped."""
    width = 360 - (area.west - area.east)
    if area.west > area.east and width > HALF_WORLD and not yes:
        raise ValueError(
            f"--bbox {area.west:g} {area.south:g} {area.east:g} {area.north:g} goes {width:.4g} degrees east across "
            f"the antimeridian ({len(area):,} tiles): the order is W S E N, so write {area.east:g} {area.south:g} "
            f"{area.west:g} {area.north:g} for the box between, or add --yes if the way round the world is meant."
        )


def run(options: FetchTilesOptions) -> int:
    """`python -m monai_ext fetch_tiles`."""
    area = TileArea(*options.bbox, zoom=options.zoom)
    _check_direction(area, yes=options.yes)
    attribution = options.attribution or (NATIONAL_MAP.attribution if options.url == NATIONAL_MAP.template else None)
    source = TileSource(options.url, attribution=attribution, subdomains=options.subdomains)
    headers = request_headers(options.header, os.environ)
    if headers and source.template.startswith("http:") and urlsplit(source.template).hostname not in LOOPBACK:
        _logger.warning(f"{source.public_template} is not encrypted: anyone on the way can read the headers; use https")
    client = TileClient(rate=options.rate, user_agent=options.user_agent, attempts=options.attempts, headers=headers)
    tell(str(plan(area, source, rate=options.rate)))
    if options.dry_run:
        return 0
    if len(area) > MOST_TILES and not options.yes:
        raise ValueError(
            f"{len(area):,} tiles are more than {MOST_TILES:,}: choose a smaller bbox or zoom, or, where the server's "
            "terms allow so many, add --yes."
        )
    if not attribution:
        tell("no --attribution given: name the owner of the tiles and their licence, for later readers.")
    summary = fetch_tiles(area, options.output_dir, source=source, client=client, jobs=options.jobs)
    tell(
        f"{options.output_dir}: {summary.fetched:,} tiles fetched ({summary.nbytes / 1e6:,.1f} MB), "
        f"{summary.kept:,} were there, {summary.missing:,} do not exist; source and credit in {ATTRIBUTION_FILE}"
    )
    if summary.repeated > 1 + SUSPICIOUS_SHARE * summary.fetched:
        tell(
            f"note: {summary.repeated:,} of them are the same picture: open water, or the server's sign for "
            "'no imagery here'; look at it before training."
        )
    return 0
