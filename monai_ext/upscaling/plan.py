"""The strips of one upscaled raster, from top to bottom: rows read, cut into windows, predicted, put together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from monai_ext.inferers.tiled import TiledInferer
from monai_ext.inferers.window_grid import WindowGrid
from monai_ext.raster.info import Raster
from monai_ext.upscaling.layers import Layers, encode_layers, pixel_positions
from monai_ext.upscaling.pixel_coding import BandNetwork, PixelCoding

__all__ = ["Plan"]


@dataclass(frozen=True)
class Plan:
    """How one raster is upscaled; iterating over it does the work.

        for strip in upscaler.plan(raster): ...

    Each strip is (planes, rows, s*W), of the raster's type or that of its `layers`; its memory is reused for the next.
    Margins of the raster are context: they pass through the network and are cut off.

    Attributes:
        raster: the image, open.
        coding: its pixels as the network's channels, and back.
        network: channels of windows -> channels of upscaled windows.
        inferer: how the raster is cut into windows.
        autocast: number format of the network.
        layers: what is predicted beside the mean; None: the network's output alone.
    """

    raster: Raster
    coding: PixelCoding
    network: BandNetwork
    inferer: TiledInferer
    autocast: torch.autocast
    layers: Layers | None = None

    @property
    def edges(self) -> list[int]:
        """Rows of the raster at which the strips begin and end: n + 1 of n strips."""
        top, height = self.raster.info.margins[0], self.raster.info.size[0]
        return sorted({min(max(edge - top, 0), height) for edge in self._grid().strip_edges})

    def __len__(self) -> int:
        return len(self.edges) - 1

    def __iter__(self) -> Iterator[np.ndarray]:
        return self.strips()

    def strips(self, *, first: int = 0) -> Iterator[np.ndarray]:
        """The strips from number `first` on."""
        grid = self._grid(finish=self._encode)
        (top, _, left, _), (height, width) = self.raster.info.margins, self.raster.info.size
        edges = [edge - top for edge in grid.strip_edges]
        inside = [row for row in range(len(edges) - 1) if edges[row] < height and edges[row + 1] > 0]
        for row in grid.rows_from(inside[first]) if first < len(inside) else ():
            self._load(grid, row)
            for column, windows in grid.windows():
                with torch.no_grad(), self.autocast:
                    outputs = self.network(*windows)
                grid.place(outputs, row, column)
            strip = grid.strip(row)[0]
            if row >= inside[first]:
                scale = strip.shape[-2] // (edges[row + 1] - edges[row])
                rows = slice(scale * max(-edges[row], 0), scale * (height - edges[row]))
                yield strip[:, rows, scale * left : scale * (left + width)].cpu().numpy()
            if row == inside[-1]:
                break

    def _grid(self, finish: Callable[[Tensor], Tensor] | None = None) -> WindowGrid:
        """The windows of the raster with its margins."""
        (top, bottom, left, right), (height, width) = self.raster.info.margins, self.raster.info.size
        return self.inferer.grid((top + height + bottom, left + width + right), finish=finish)

    def _load(self, grid: WindowGrid, row: int) -> None:
        """Read what the windows of row `row` of the grid cover."""
        info = self.raster.info
        top, bottom = (edge - info.margins[0] for edge in grid.span(row))
        maps = [self._read(top, bottom)]
        if self.layers is not None:
            first, left = info.origin[0], info.origin[1] - info.margins[2]
            maps.append(pixel_positions(first + top, first + bottom, maps[0].shape[-1], left=left))
        grid.load(row, maps)

    def _read(self, top: int, bottom: int) -> Tensor:
        """Rows [top, bottom) as channels (1, C, rows, W)."""
        # Rows beyond the context, so that fills of missing pixels do not depend on where a strip ends.
        beyond = 2 * self.inferer.overlap if self.coding.validity else 0
        info = self.raster.info
        first = max(top - beyond, -info.margins[0])
        planes = self.raster.rows(first, min(bottom + beyond, info.size[0] + info.margins[1]))
        return self.coding.decode(planes, top=top - first, rows=bottom - top)

    def _encode(self, channels: Tensor) -> Tensor:
        if self.layers is None:
            return self.coding.encode(channels)
        return encode_layers(channels, self.coding, self.layers)
