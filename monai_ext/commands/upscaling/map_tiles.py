"""Map tiles among the images to upscale: their grid, tiles of a deeper zoom, what can be joined."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from monai_ext.commands.upscaling.output_names import Resolved, image_files
from monai_ext.data.tiles.grid import TileAddress, tile_address
from monai_ext.data.tiles.neighbours import TileGrid
from monai_ext.data.tiles.pixel_scale import find_scale
from monai_ext.raster.opening import stored_size, stored_type
from monai_ext.raster.remote import Source
from monai_ext.runtime.run_log import tell
from monai_ext.upscaling import Choices
from monai_ext.upscaling.mosaic import check_mosaic
from monai_ext.upscaling.outputs import Cells

__all__ = ["Scheme", "check_joined", "check_sizes", "deeper_pairs", "finer_places", "grid_of"]

_logger = logging.getLogger(__name__)

Scheme = Literal["auto", "xyz", "tms"]


def deeper_pairs(
    pairs: Sequence[tuple[Source, Path]],
    output: Path,
    grid: TileGrid | None,
    cells: Callable[[Path], Cells],
    *,
    layers: bool,
) -> list[tuple[Source, Path]]:
    """`pairs` with targets Z/X/Y.png in `output`, or Z_X_Y.png, out of which `cells` makes finer tiles.

    Raises:
        ValueError: an image is no map tile, `output` is a file, a finer tile is one of the inputs, or there are layers.
    """
    if layers:
        raise ValueError("--deeper: it cuts no samples, bounds or uncertainty; leave them out, or --deeper.")
    resolved, named = Resolved(), []
    sources = {resolved(source) for source in image_files(pairs)}
    for source, target in pairs:
        if target == output:
            raise ValueError(f"--deeper: the output {output} is a file, and the tiles go to a folder: name one.")
        address = tile_address(source) if isinstance(source, Path) else None
        if grid is None or source not in grid or address is None:
            raise ValueError(
                f"--deeper: {source} is no map tile Z/X/Y.png or Z_X_Y.png beside others that it fits; if it is one, "
                "--scheme xyz (or tms) takes it so."
            )
        parts = target.relative_to(output).parts
        if "_" not in source.stem and len(parts) < 3:  # the folder of a zoom or a column was named, or a file
            target = output.joinpath(*map(str, address[:2]), target.name)
        named.append((source, target))
        twice = next((path for row in cells(target) for path in row if resolved(path) in sources), None)
        if twice is not None:
            raise ValueError(f"--deeper: {twice} is one of the inputs, choose another output folder.")
    return named


def finer_places(address: TileAddress, cells: Cells) -> Iterator[tuple[TileAddress, Path]]:
    """The places of the tiles that one is cut into, with y from the north."""
    times = len(cells)
    for row, paths in enumerate(cells):
        for column, path in enumerate(paths):
            zoom = (address.zoom or 0) + times.bit_length() - 1
            yield TileAddress(zoom, times * address.x + column, times * address.y + row), path


def check_joined(
    mosaic: Path, tiles: Sequence[tuple[TileAddress, Path]], pairs: Sequence[tuple[Source, Path]], *, layers: bool
) -> None:
    """Refuse before the work what could not be joined after it.

    Args:
        tiles: places and names of the upscaled tiles.
        pairs: all images and their targets.

    Raises:
        ValueError: there are no tiles, or those of several zooms, sizes or at one place, or layers; `mosaic` is one of
            the images, or no .tif.
    """
    resolved, places = Resolved(), dict(tiles)
    if not tiles:
        raise ValueError(
            f"--mosaic {mosaic}: the images are no grid of map tiles, Z/X/Y.png or Z_X_Y.png, that fit together; if "
            "they are one, --scheme xyz (or tms) takes them so."
        )
    if layers:
        raise ValueError(f"--mosaic {mosaic}: it joins no samples, bounds or uncertainty; leave them out, or --mosaic.")
    named = [*(path for pair in pairs for path in pair if isinstance(path, Path)), *places.values()]
    if resolved(mosaic) in map(resolved, named):
        raise ValueError(f"--mosaic {mosaic}: it is one of the images, choose another name.")
    twice = [(target, places[address]) for address, target in tiles if places[address] is not target]
    if twice:
        one, other = twice[0]
        raise ValueError(f"--mosaic {mosaic}: {one} and {other} would lie at one place: upscale one folder of tiles.")
    check_mosaic(mosaic, places)


def check_sizes(mosaic: Path, sources: Sequence[Path]) -> None:
    """Refuse tiles of several sizes, from their headers.

    Raises:
        ValueError: there are such.
    """
    sizes = {stored_size(source): source for source in sources}
    if len(sizes) > 1:
        some = ", ".join(f"{width} x {height} ({path})" for (height, width), path in sorted(sizes.items()))
        raise ValueError(f"--mosaic {mosaic}: the tiles have several sizes, {some}: join those of one size.")


def grid_of(
    sources: Sequence[Path], choices: Choices, *, scheme: Scheme, alone: bool, context: bool
) -> TileGrid | None:
    """The grid of map tiles that some of the images are; deep ones have one range, so that they fit together.

    Args:
        scheme: count of their rows.
        alone: also of tiles that have no neighbours.
        context: whether the tiles are upscaled with their neighbours.
    """
    given = scheme != "auto"
    grid = TileGrid(sources, from_south=scheme == "tms" if given else None)
    if not (grid.has_neighbours or len(grid) and (given or alone)):
        return None
    if not grid.fits:
        _logger.warning(
            f"{len(grid)} of {len(sources)} images have names of map tiles, but their borders do not fit together: "
            "each is upscaled by itself (--scheme xyz or tms: as neighbours, without this check)"
        )
        return None
    if not context or not grid.has_neighbours:
        return grid
    dtype = stored_type(next(iter(grid)))
    trained = choices.scale is not None and choices.scale.dtype == dtype.name
    if dtype.itemsize > 1 and choices.limits is None and not trained:
        items = [{"image": file} for file in grid if stored_type(file) == dtype]
        no_alpha = choices.no_alpha or (choices.scale is not None and choices.scale.no_alpha)
        grid.scale = find_scale(items, nodata=choices.nodata, no_alpha=no_alpha, option="--range LOW HIGH")
    tell(
        f"{len(grid)} of {len(sources)} images are tiles of a grid{', rows from the south' * grid.from_south}: "
        "their neighbours are their context (--no_context: each by itself)"
    )
    return grid
