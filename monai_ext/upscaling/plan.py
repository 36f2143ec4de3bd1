"""The strips of one upscaled raster, from top to bottom: rows read, cut into windows, predicted, put together."""

from __future__ import annotations

from collections.abc import Iterator
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
        return self.inferer.grid(self.raster.info.size).strip_edges

    def __len__(self) -> int:
        return len(self.edges) - 1

    def __iter__(self) -> Iterator[np.ndarray]:
        return self.strips()

    def strips(self, *, first: int = 0) -> Iterator[np.ndarray]:
        """The strips from number `first` on."""
        grid = self.inferer.grid(self.raster.info.size, finish=self._encode)
        for row in grid.rows_from(first):
            self._load(grid, row)
            for column, windows in grid.windows():
                with torch.no_grad(), self.autocast:
                    outputs = self.network(*windows)
                grid.place(outputs, row, column)
            strip = grid.strip(row)
            if row >= first:
                yield strip[0].cpu().numpy()

    def _load(self, grid: WindowGrid, row: int) -> None:
        """Read what the windows of row `row` of the grid cover."""
        top, bottom = grid.span(row)
        channels = self._read(top, bottom)
        positions = [] if self.layers is None else [pixel_positions(top, bottom, channels.shape[-1])]
        grid.load(row, [channels, *positions])

    def _read(self, top: int, bottom: int) -> Tensor:
        """Rows [top, bottom) as channels (1, C, rows, W)."""
        # Rows beyond the context, so that fills of missing pixels do not depend on where a strip ends.
        beyond = 2 * self.inferer.overlap if self.coding.validity else 0
        first = max(top - beyond, 0)
        planes = self.raster.rows(first, min(bottom + beyond, self.raster.info.size[0]))
        return self.coding.decode(planes, top=top - first, rows=bottom - top)

    def _encode(self, channels: Tensor) -> Tensor:
        if self.layers is None:
            return self.coding.encode(channels)
        return encode_layers(channels, self.coding, self.layers)
