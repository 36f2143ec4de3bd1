"""Outputs for windows put together to rows of an image: side by side (halo) or blended (feather)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from monai_ext.inferers.axis_windows import AxisWindows

__all__ = ["Feather", "Halo", "OutputRows"]

BLOCK = 2**18  # values that are finished at a time on a CPU: they stay in its cache from one operation to the next


class OutputRows:
    """Where finished values go: memory for one strip that is used again for the next, or for the whole image.

    The memory of a strip holds row after row with all channels of a row together, as files of raw rows do.

    Args:
        size: (H, W) of the input.
        finish: see `TiledInferer`.
        device: where the memory is; None: where the values come from.
        whole: keep the whole image.

    Attributes:
        pixels: (B, C, s*H or rows of the highest strip so far, s*W); empty before the first value.
    """

    def __init__(
        self,
        size: Sequence[int],
        *,
        finish: Callable[[Tensor], Tensor] | None,
        device: torch.device | None,
        whole: bool,
    ):
        self.size, self.finish, self.device, self.whole = size, finish, device, whole
        self.pixels = torch.empty(0, 0, 0, 0)
        self._scale = self._top = self._rows = 0

    def begin(self, top: int, bottom: int, scale: int) -> None:
        """The values that follow belong to rows [top, bottom) of the output, `scale` times the input."""
        self._top, self._rows, self._scale = top, bottom - top, scale

    def put(self, values: Tensor, left: int = 0) -> None:
        """Finish `values` (B, C, rows, any) and keep them from column `left` on."""
        right = left + values.shape[-1]
        for rows in self._blocks(values):
            finished = values[..., rows, :] if self.finish is None else self.finish(values[..., rows, :])
            self._strip(finished)[..., rows, left:right] = finished

    def strip(self) -> Tensor:
        """What has been put since `begin`, (B, C, rows, s*W); the memory is used again for the next strip."""
        return self._strip(self.pixels)

    def _blocks(self, values: Tensor) -> Iterator[slice]:
        height = values.shape[-2]
        step = height
        if self.finish is not None and values.device.type == "cpu":
            step = max(1, BLOCK * height // values.numel())
        return (slice(top, min(top + step, height)) for top in range(0, height, step))

    def _strip(self, like: Tensor) -> Tensor:
        """(B, C, rows, s*W); B, C and type as those of `like` (B, C, any, any)."""
        if self.whole:
            if self.pixels.numel() == 0:
                height, width = (self._scale * side for side in self.size)
                self.pixels = self._empty(like, *like.shape[:2], height, width)
            return self.pixels[..., self._top : self._top + self._rows, :]
        if self.pixels.shape[-2] < self._rows:
            shape = (like.shape[0], self._rows, like.shape[1], self._scale * self.size[1])
            self.pixels = self._empty(like, *shape).transpose(1, 2)
        return self.pixels[..., : self._rows, :]

    def _empty(self, like: Tensor, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=like.dtype, device=self.device or like.device)


class Halo:
    """The cores side by side; a strip is the cores of one row of windows."""

    def __init__(self, rows: AxisWindows, columns: AxisWindows, output: OutputRows):
        self.rows, self.columns, self.output = rows, columns, output

    def place(self, outputs: Tensor, row: int, column: int, scale: int) -> None:
        """Outputs (n, B, C, s*h, s*w) for the windows from `column` on in row `row` of the grid."""
        top = scale * self.rows.offset(row)
        if column == 0:
            self.output.begin(scale * self.rows.edges[row], scale * self.rows.edges[row + 1], scale)
        for number, window in enumerate(outputs, column):
            left, width = scale * self.columns.offset(number), scale * self.columns.core(number)
            core = window[..., top : top + scale * self.rows.core(row), left : left + width]
            self.output.put(core, scale * self.columns.edges[number])

    def take(self, row: int, scale: int) -> Tensor:
        """The rows that are complete with row `row` of the grid."""
        return self.output.strip()


class Feather:
    """Weighted sums of the windows; a strip ends where the fade into the next row of windows begins."""

    def __init__(self, rows: AxisWindows, columns: AxisWindows, output: OutputRows):
        self.rows, self.columns, self.output = rows, columns, output
        self._canvas = torch.empty(0)  # (B, C, s * (core + 2 contexts), s * W), from one context above the core
        self._tail = torch.empty(0)  # the rows of the canvas that the next row of windows contributes to
        self._weights: dict[tuple[int, bool, bool], Tensor] = {}

    def place(self, outputs: Tensor, row: int, column: int, scale: int) -> None:
        """See `Halo`."""
        context = self.columns.context
        if self._canvas.numel() == 0:
            highest = max(map(self.rows.core, range(self.rows.count))) + 2 * context
            shape = (*outputs.shape[1:3], scale * highest, scale * self.columns.length)
            self._canvas = torch.zeros(shape, device=outputs.device)
            self._tail = torch.zeros((*shape[:2], 2 * scale * context, shape[3]), device=outputs.device)
        if column == 0:
            self._canvas.zero_()
            self._canvas[..., : self._tail.shape[-2], :] = self._tail
        upright = self._faded(self.rows, row, scale)
        for number, window in enumerate(outputs, column):
            across = self._faded(self.columns, number, scale)
            weights = upright.weights[:, None] * across.weights
            left, right = (scale * end for end in self.columns.reach(number))
            values = window[..., upright.of_window, across.of_window].float()
            self._canvas[..., upright.of_canvas, left:right].addcmul_(values, weights)

    def take(self, row: int, scale: int) -> Tensor:
        """See `Halo`."""
        context, core = scale * self.rows.context, scale * self.rows.core(row)
        first, last = row == 0, row == self.rows.count - 1
        values = self._canvas[..., context if first else 0 : core + context if last else core, :]
        if not last:
            self._tail.copy_(self._canvas[..., core : core + 2 * context, :])
        top = scale * self.rows.edges[row] - (0 if first else context)
        self.output.begin(top, top + values.shape[-2], scale)
        self.output.put(values)
        return self.output.strip()

    def _faded(self, axis: AxisWindows, index: int, scale: int) -> _Faded:
        """The part of window `index` that counts: its core with one context on both sides, where the image goes on."""
        (first, last), begin = axis.reach(index), axis.edges[index] - axis.context
        of_canvas = slice(scale * (first - begin), scale * (last - begin))
        start = axis.start(index)
        of_window = slice(scale * (first - start), scale * (last - start))
        return _Faded(of_window, of_canvas, self._fade(axis, index, scale)[of_canvas])

    def _fade(self, axis: AxisWindows, index: int, scale: int) -> Tensor:
        """Weights of a core and its contexts: a rise and a fall of 2 contexts about the edges to a neighbour (Hann)."""
        first, last, core = index == 0, index == axis.count - 1, scale * axis.core(index)
        key = (core, first, last)
        if key not in self._weights:
            ramp = 2 * scale * axis.context
            rise = torch.sin(torch.pi / 2 * (torch.arange(ramp) + 0.5) / max(ramp, 1)).square()
            weights = torch.ones(core + ramp)
            if not first:
                weights[:ramp] = rise
            if not last:
                weights[core:] *= 1 - rise
            self._weights[key] = weights.to(self._canvas.device)
        return self._weights[key]


class _Faded(NamedTuple):
    of_window: slice
    of_canvas: slice
    weights: Tensor
