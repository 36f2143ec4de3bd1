"""The tiles of a folder in the grid of a tile server: which of them lie around each."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from monai_ext.data.tiles.grid import TileAddress, tile_address
from monai_ext.data.tiles.pixel_scale import PixelScale
from monai_ext.raster.images import ImageFileError
from monai_ext.raster.info import Raster
from monai_ext.raster.opening import open_raster
from monai_ext.raster.surrounded import SurroundedRaster, is_neighbour

__all__ = ["TileGrid"]

AROUND = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1) if (down, right) != (0, 0)]
COMPARED, LONGEST = 16, 512  # pairs of tiles; pixels of a column
FITS = 0.7  # real tiles: 0.1 to 0.3 on average, single pairs up to 0.6; tiles that do not touch: 1

_logger = logging.getLogger(__name__)


class _Place(NamedTuple):
    folder: Path
    zoom: int
    row: int
    column: int


class TileGrid:
    """Files `Z/X/Y.png` (or `Z_X_Y.png`) as neighbours of each other; other files have no place.

    Rows are counted from the north; from the south (TMS) where the pixels of tiles fit together only so. Numbers may
    mean something else than places: then the pixels of most tiles do not fit together at all.

    Args:
        files: of one folder or several, of any zooms.
        scale: the range that they have in common, if they have one.
        from_south: whether rows are counted from the south; None: found from the pixels, as above.

    Attributes:
        from_south: whether rows are counted from the south.
        fits: whether tiles fit together, or none lies beside another; true where the count of rows is given.
    """

    def __init__(self, files: Iterable[Path], *, scale: PixelScale | None = None, from_south: bool | None = None):
        self.scale, self.from_south, self.fits = scale, bool(from_south), True
        self._places: dict[Path, _Place] = {}
        for file in files:
            address = tile_address(file)
            if address is not None and address.zoom is not None:
                folder = file.parent if "_" in file.stem else file.absolute().parents[2]
                self._places[file] = _Place(folder, address.zoom, address.y, address.x)
        self._files = {place: file for file, place in reversed(self._places.items())}
        if from_south is None:
            below, beside = self._step(1, 0), self._step(0, 1)
            self.from_south = below > 1 / FITS
            self.fits = (below < FITS or self.from_south) and beside < FITS
        self._named_unlike = False

    def __contains__(self, file: object) -> bool:
        return file in self._places

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Path]:
        return iter(self._places)

    @property
    def has_neighbours(self) -> bool:
        """Whether any two tiles touch."""
        return any(self._at(place, down, right) for place in self._files for down, right in AROUND)

    def around(self, file: Path) -> dict[tuple[int, int], Path]:
        """The neighbours of a tile: (rows down, columns to the right), each -1, 0 or 1 -> file."""
        found = {step: self._at(self._places[file], *step) for step in AROUND}
        return {step: other for step, other in found.items() if other is not None}

    def address(self, file: Path) -> TileAddress:
        """Where a tile lies, with y from the north."""
        _, zoom, row, column = self._places[file]
        return TileAddress(zoom, column, 2**zoom - 1 - row if self.from_south else row)

    def surrounded(self, file: Path, raster: Raster, *, margin: int, opened: Callable[[Path], Raster]) -> Raster:
        """A tile with margins of its neighbours; those of another size or kind count as missing.

        Args:
            file, raster: the tile, and the same one open.
            opened: opens a neighbour.
        """
        info, around = raster.info, self.around(file)

        def neighbour(down: int, right: int) -> Raster | None:
            other = around.get((down, right))
            if other is None:
                return None
            found = opened(other)
            if is_neighbour(info, found.info, (down, right)):
                return found
            found.close()
            self._name_unlike(file, other)
            return None

        address = self.address(file)
        origin = address.y * info.size[0], address.x * info.size[1]
        return SurroundedRaster(raster, neighbour, margin=margin, origin=origin)

    def _at(self, place: _Place, down: int, right: int) -> Path | None:
        down = -down if self.from_south else down
        return self._files.get(place._replace(row=place.row + down, column=place.column + right))

    def _name_unlike(self, file: Path, other: Path) -> None:
        if not self._named_unlike:
            self._named_unlike = True
            _logger.warning(
                f"{other} has another size, type, number of bands or place on the ground than {file} beside it: such "
                "tiles are no context for each other (others are not named)"
            )

    def _step(self, down: int, right: int) -> float:
        """Difference of tiles where they should touch, by that of their other ends; 0 without such tiles."""
        pairs = [(file, self._at(place, down, right)) for place, file in self._files.items()]
        touching = [(file, other) for file, other in pairs if other is not None]
        near = far = 0.0
        for file, other in touching[:: -(-len(touching) // COMPARED) or 1]:
            with suppress(ImageFileError):
                first, second = (_ends(each, 1 if down else 2) for each in (file, other))
                if first.shape == second.shape:
                    near += float(np.abs(first[1] - second[0]).mean())
                    far += float(np.abs(first[0] - second[1]).mean())
        return 0.0 if near == 0 else near / far if far else np.inf


def _ends(file: Path, axis: int) -> np.ndarray:
    """The first and the last row or column of a tile, (2, planes, any)."""
    with closing(open_raster(file)) as raster:
        height = raster.info.size[0]
        if axis == 1:
            ends = np.concatenate([raster.rows(0, 1), raster.rows(height - 1, height)], axis=1)
        else:
            ends = raster.rows(0, min(height, LONGEST))[..., [0, -1]]
    return np.nan_to_num(np.moveaxis(ends, axis, 0).astype(np.float64))
