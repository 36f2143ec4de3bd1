"""`python -m monai_ext fetch-tiles`: from coordinates to a folder of map tiles, for training and for upscaling."""

from __future__ import annotations

import argparse
from pathlib import Path

from monai_ext.data.tiles.client import USER_AGENT, TileClient
from monai_ext.data.tiles.fetch import ATTRIBUTION_FILE, fetch_tiles
from monai_ext.data.tiles.grid import NATIONAL_MAP, TileArea, TileSource
from monai_ext.runtime.run_log import tell

__all__ = ["add_arguments", "plan", "run"]

MOST_TILES = 5000  # without --yes
TYPICAL_BYTES = 19_000  # mean of 812 aerial JPEG tiles of 256 x 256
SUSPICIOUS_SHARE = 0.02  # of tiles with one and the same content


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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m monai_ext fetch-tiles`."""
    parser.add_argument(
        "--bbox",
        nargs=4,
        type=float,
        required=True,
        metavar=("W", "S", "E", "N"),
        help="box in degrees; W > E crosses the antimeridian",
    )
    parser.add_argument("--zoom", type=int, required=True, help="level; each next one halves the pixel")
    parser.add_argument(
        "--url",
        default=NATIONAL_MAP.template,
        metavar="TEMPLATE",
        help="address with {z} {x} {y}, {-y} (TMS) or {q} (quadkey), and {s}; default: %(default)s",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for Z/X/Y.jpg")
    parser.add_argument("--attribution", metavar="TEXT", help="credit and licence, recorded beside the tiles")
    parser.add_argument("--rate", type=float, default=4.0, help="requests a second at most (%(default)g)")
    parser.add_argument("--jobs", type=int, default=4, help="threads (%(default)d)")
    parser.add_argument("--attempts", type=int, default=5, help="tries for one tile (%(default)d)")
    parser.add_argument("--subdomains", default="abc", help="what {s} stands for (%(default)s)")
    parser.add_argument("--user-agent", default=USER_AGENT, help="name and contact to show (%(default)s)")
    parser.add_argument("--dry-run", action="store_true", help="say how many tiles, and stop")
    parser.add_argument("--yes", action="store_true", help=f"allow more than {MOST_TILES:,} tiles")


def run(args: argparse.Namespace) -> int:
    """`python -m monai_ext fetch-tiles`: exit status 0; errors are raised."""
    area = TileArea(*args.bbox, zoom=args.zoom)
    attribution = args.attribution or (NATIONAL_MAP.attribution if args.url == NATIONAL_MAP.template else None)
    source = TileSource(args.url, attribution=attribution, subdomains=args.subdomains)
    client = TileClient(rate=args.rate, user_agent=args.user_agent, attempts=args.attempts)
    tell(str(plan(area, source, rate=args.rate)))
    if args.dry_run:
        return 0
    if len(area) > MOST_TILES and not args.yes:
        raise ValueError(
            f"{len(area):,} tiles are more than {MOST_TILES:,}: choose a smaller bbox or zoom, or, where the server's "
            "terms allow so many, add --yes."
        )
    if not attribution:
        tell("no --attribution given: tell later readers whose tiles these are, and under which licence.")
    summary = fetch_tiles(area, args.output, source=source, client=client, jobs=args.jobs)
    tell(
        f"{args.output}: {summary.fetched:,} tiles fetched ({summary.nbytes / 1e6:,.1f} MB), {summary.kept:,} were "
        f"there, {summary.missing:,} do not exist; source and credit in {ATTRIBUTION_FILE}"
    )
    if summary.repeated > 1 + SUSPICIOUS_SHARE * summary.fetched:
        tell(
            f"note: {summary.repeated:,} of them are the same picture: open water, or the server's sign for "
            "'no imagery here'; look at it before training."
        )
    return 0
