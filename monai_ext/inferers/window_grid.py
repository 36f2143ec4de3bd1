"""An image cut into a grid of overlapping windows, and the outputs of a network for them put together again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from monai_ext.inferers.axis_windows import AxisWindows
from monai_ext.inferers.stitching import Feather, Halo

__all__ = ["WindowGrid"]


class WindowGrid:
    """The windows of one image and its aligned maps, row after row of the grid.

        for row in grid.rows_from(0):
            top, bottom = grid.span(row)
            grid.load(row, [image[..., top:bottom, :]])
            for column, windows in grid.windows():
                grid.place(network(*windows), row, column)
            strip = grid.strip(row)

    The scale s is read off the first output. Buffers are allocated once.

    Args:
        rows, columns: how both axes are cut.
        merge: how outputs are put together.
        batch_size: windows (of each image of the batch) at a time.
        device: where windows are needed; None for where the image is.
    """

    def __init__(
        self,
        rows: AxisWindows,
        columns: AxisWindows,
        merge: Halo | Feather,
        *,
        batch_size: int,
        device: torch.device | None,
    ):
        self.rows, self.columns, self.merge = rows, columns, merge
        self.batch_size, self.device = batch_size, device
        self._scale = 0
        self._padded: dict[int, Tensor] = {}
        self._windows: dict[int, Tensor] = {}

    @property
    def strip_edges(self) -> list[int]:
        """Rows of the image at which the strips of the output begin and end: n + 1 of n strips."""
        shift = self.rows.context if isinstance(self.merge, Feather) else 0
        first, *inner, last = self.rows.edges
        return [first, *(edge - shift for edge in inner), last]

    def rows_from(self, strip: int) -> range:
        """The rows of the grid that strip number `strip` and all below it are made of."""
        # The first rows of a feathered strip are shared with the windows above.
        return range(max(strip - 1, 0) if isinstance(self.merge, Feather) else strip, self.rows.count)

    def span(self, row: int) -> tuple[int, int]:
        """Rows [top, bottom) of the image that the windows of row `row` of the grid cover."""
        return self.rows.start(row), self.rows.stop(row)

    @torch.no_grad()
    def load(self, row: int, maps: Sequence[Tensor]) -> None:
        """Copy what the windows of row `row` cover.

        Args:
            maps: the image, then its aligned maps, rows `span(row)` of each: (B, any, bottom - top, W).

        Raises:
            ValueError: a map has another size.
        """
        for number, rows in enumerate(maps):
            self._pad(number, rows, row)

    def windows(self) -> Iterator[tuple[int, list[Tensor]]]:
        """(column of the first window, (n * B, C, h, w) of each map) for the windows of the loaded row, n at a time."""
        for start in range(0, self.columns.count, self.batch_size):
            columns = range(start, min(start + self.batch_size, self.columns.count))
            yield start, [self._cut(number, columns) for number in self._padded]

    def place(self, outputs: Tensor, row: int, column: int) -> None:
        """Add the outputs (n * B, C, s*h, s*w) for the windows that begin at `column`.

        Raises:
            ValueError: they are no whole multiple of the windows.
        """
        count = min(self.batch_size, self.columns.count - column)
        batch, channels = self._padded[0].shape[:2]
        if not self._scale and isinstance(outputs, Tensor) and outputs.ndim == 4:
            self._scale = outputs.shape[-1] // self.columns.size
        expected = (count * batch, self._scale * self.rows.size, self._scale * self.columns.size)
        found = (outputs.shape[0], *outputs.shape[2:]) if isinstance(outputs, Tensor) else ()
        if not self._scale or found != expected:
            what = f"shape {tuple(outputs.shape)}" if isinstance(outputs, Tensor) else f"type {type(outputs).__name__}"
            shape = (count * batch, channels, self.rows.size, self.columns.size)
            raise ValueError(
                f"for windows of shape {shape} the network returns an output of {what}: expected one tensor "
                "(B, C, s*h, s*w) with a whole s >= 1."
            )
        self.merge.place(outputs.detach().unflatten(0, (count, batch)), row, column, self._scale)

    def strip(self, row: int) -> Tensor:
        """The rows of the output that are complete with row `row` of the grid."""
        return self.merge.take(row, self._scale)

    def _pad(self, number: int, rows: Tensor, row: int) -> None:
        """Copy the rows of map `number` that a row of windows covers; mirrored where windows are larger than that."""
        top, bottom = self.span(row)
        width = self.columns.length
        if rows.ndim != 4 or rows.shape[-2:] != (bottom - top, width):
            raise ValueError(
                f"{'aligned map' if number else 'image'}: rows {top} to {bottom} have shape {tuple(rows.shape)}, "
                f"expected (B, C, {bottom - top}, {width}): all maps must have the size of the image."
            )
        rows = rows.to(self.device or rows.device)
        if self.rows.size > self.rows.length:
            rows = rows.index_select(-2, self.rows.mirrored(0, self.rows.size).to(rows.device))
        if self.columns.size > width:
            rows = rows.index_select(-1, self.columns.mirrored(0, self.columns.size).to(rows.device))
        if number not in self._padded:
            self._padded[number] = torch.empty_like(rows)
        self._padded[number].copy_(rows)

    @torch.no_grad()
    def _cut(self, number: int, columns: range) -> Tensor:
        """The windows in `columns` of map `number`."""
        padded = self._padded[number]
        if number not in self._windows:
            self._windows[number] = padded.new_empty((self.batch_size, *padded.shape[:-1], self.columns.size))
        windows = self._windows[number][: len(columns)]
        for window, column in zip(windows, columns, strict=True):
            left = self.columns.start(column)
            window.copy_(padded[..., left : left + self.columns.size])
        return windows.flatten(0, 1)
