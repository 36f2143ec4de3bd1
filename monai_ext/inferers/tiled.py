"""A network over an image of any size, window by window: no seams, and memory that does not grow with the height.

Both axes are cut into cores of nearly equal length. Each window sees its core and `overlap / 2` pixels of context on
every side, mirrored where the image ends. What the network says of the context is thrown away ("halo") or faded into
the neighbour's answer ("feather"). The scale is read off the network's output: B,C,h,w may become B,C',s*h,s*w.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from torch import Tensor

__all__ = ["AxisWindows", "RowReader", "Strip", "TiledInferer"]

RowReader = Callable[[int, int], Tensor]
"""Rows [top, bottom) of a whole image as a float tensor (B, C, bottom - top, W)."""


@dataclass(frozen=True)
class AxisWindows:
    """How one axis of an image is cut.

    Window i sees the positions from `edges[i] - context` on, `size` of them, mirrored beyond the image; it answers for
    its core, `edges[i]` to `edges[i + 1]`.
    """

    edges: tuple[int, ...]
    context: int
    size: int

    @classmethod
    def cut(cls, length: int, *, tile: int, overlap: int, multiple: int = 1) -> AxisWindows:
        """The fewest windows of at most `tile` pixels, their cores as equal as whole pixels allow.

        >>> AxisWindows.cut(300, tile=256, overlap=32)
        AxisWindows(edges=(0, 150, 300), context=16, size=182)
        """
        count = -(-length // (tile - overlap))
        size = -(-length // count) + overlap
        edges = tuple(length * number // count for number in range(count + 1))
        return cls(edges, overlap // 2, -(-size // multiple) * multiple)

    @property
    def count(self) -> int:
        return len(self.edges) - 1

    def core(self, index: int) -> int:
        """Length of the core of window `index`."""
        return self.edges[index + 1] - self.edges[index]

    def mirrored(self, start: int, stop: int) -> Tensor:
        """Positions `start` ... `stop - 1` of the endless axis as positions in the image: -1 is 1, -2 is 2."""
        last = self.edges[-1] - 1
        if last == 0:
            return torch.zeros(stop - start, dtype=torch.long)
        positions = torch.arange(start, stop).remainder(2 * last)
        return torch.minimum(positions, 2 * last - positions)


@dataclass(frozen=True)
class Strip:
    """Finished rows of the output.

    Attributes:
        top: their first row in the output.
        pixels: (B, C, rows, s*W); the memory is used again for the next strip.
    """

    top: int
    pixels: Tensor


class TiledInferer(Inferer):
    """A network applied to windows of an image, its answers put together: a MONAI inferer, and a stream of rows.

    With a context of at least the network's receptive radius, halo gives exactly what the network gives for the whole
    image mirrored at its borders; where the context is shorter, feather hides the steps that halo would leave.
    No gradients.

    Args:
        tile: side of the windows that the network sees, at most; images are cut evenly, so windows are often smaller.
        overlap: pixels that neighbouring windows share; half of them are context on either side. Even.
        mode: "halo" or "feather", see above. Feather needs `tile >= 3 * overlap`.
        batch_size: windows (of each image of the batch) per forward pass.
        multiple: sides of windows are multiples of it, for networks that ask for that.
        device: where the network lives; None for where the image is.
        finish: applied to the outputs pixel by pixel before they are put together (halo) or when they have been
            (feather), e.g. a rounding to uint8 that saves three quarters of the memory. Takes (N, C, h, w); may change
            C and dtype.

    Raises:
        ValueError: the numbers do not fit together.
    """

    def __init__(
        self,
        tile: int = 256,
        overlap: int = 32,
        *,
        mode: Literal["halo", "feather"] = "halo",
        batch_size: int = 4,
        multiple: int = 1,
        device: torch.device | str | None = None,
        finish: Callable[[Tensor], Tensor] | None = None,
    ):
        if mode not in ("halo", "feather"):
            raise ValueError(f"mode is {mode!r}: choose 'halo' or 'feather'.")
        if tile < 1 or batch_size < 1 or multiple < 1:
            raise ValueError(f"tile {tile}, batch_size {batch_size} and multiple {multiple} must be at least 1.")
        if overlap < 0 or overlap % 2 or overlap >= tile:
            raise ValueError(f"overlap is {overlap}: choose an even number from 0 to {tile - 1} for windows of {tile}.")
        if mode == "feather" and 3 * overlap > tile:
            raise ValueError(
                f"overlap {overlap} is more than a third of tile {tile}: feather needs tile >= 3 * overlap."
            )
        if tile % multiple:
            raise ValueError(f"tile {tile} is no multiple of {multiple}, as the network asks for.")
        self.tile, self.overlap, self.mode = tile, overlap, mode
        self.batch_size, self.multiple = batch_size, multiple
        self.device = None if device is None else torch.device(device)
        self.finish = finish

    def __call__(
        self,
        inputs: Tensor,
        network: Callable[..., Tensor],
        *args: Any,
        aligned: Tensor | Sequence[Tensor] = (),
        **kwargs: Any,
    ) -> Tensor:
        """The network's output for `inputs` (B, C, H, W), (B, C', s*H, s*W) on the device of `inputs`.

        Args:
            network: called with a batch of windows, the same windows of each of `aligned`, `args` and `kwargs`.
            aligned: further maps (B, any, H, W) cut like the image: one latent map for all windows, say.

        Raises:
            ValueError: `inputs` is no batch of images; see `strips`.
        """
        maps = [inputs, aligned] if isinstance(aligned, Tensor) else [inputs, *aligned]
        image, *others = (each.as_tensor() if isinstance(each, MetaTensor) else each for each in maps)
        if image.ndim != 4 or image.numel() == 0:
            raise ValueError(f"inputs has shape {tuple(image.shape)}: expected a batch of images (B, C, H, W).")
        readers = [_rows_of(each) for each in (image, *others)]
        size = image.shape[-2:]
        memory = _Memory(size, device=image.device, whole=True)
        for strip in self._strips(memory, readers, size, network, args, kwargs):
            if self.mode == "feather":
                scale = strip.pixels.shape[-1] // size[1]
                memory.rows(strip.top, strip.top + strip.pixels.shape[-2], strip.pixels, scale).copy_(strip.pixels)
        return memory.pixels

    def strip_edges(self, height: int) -> list[int]:
        """Rows of the input at which the strips of an image begin and end: n + 1 of n strips."""
        rows = self._cut(height)
        shift = rows.context if self.mode == "feather" else 0
        return [0, *(edge - shift for edge in rows.edges[1:-1]), height]

    def strips(
        self,
        read: RowReader,
        size: Sequence[int],
        network: Callable[..., Tensor],
        *args: Any,
        aligned: Sequence[RowReader] = (),
        first: int = 0,
        **kwargs: Any,
    ) -> Iterator[Strip]:
        """The output from top to bottom, one row of windows at a time.

        Args:
            read: rows of the image, see `RowReader`; asked for the rows of one strip and its context at a time.
            size: (H, W) of the image.
            aligned: readers of further maps of the same size.
            first: number of the strip to begin with, to go on where an earlier run stopped; see `strip_edges`.

        Raises:
            ValueError: a reader gives rows of another size, or the output is no whole multiple of the window.
        """
        memory = _Memory(size, device=self.device, whole=False)
        yield from self._strips(memory, [read, *aligned], size, network, args, kwargs, first=first)

    def _strips(
        self,
        memory: _Memory,
        readers: Sequence[RowReader],
        size: Sequence[int],
        network: Callable[..., Tensor],
        args: Sequence[Any],
        kwargs: dict[str, Any],
        *,
        first: int = 0,
    ) -> Iterator[Strip]:
        rows, columns = (self._cut(length) for length in size)
        halo = self.mode == "halo"
        merge = _Halo(rows, columns, self.finish, memory) if halo else _Feather(rows, columns, self.finish)
        sweep = _Sweep(self, readers, rows, columns)
        # The first rows of a feathered strip hold what the strip above said of them.
        for row in range(first if halo else max(first - 1, 0), rows.count):
            for column, outputs in sweep.outputs(row, network, args, kwargs):
                merge.place(outputs, row, column, sweep.scale)
            strip = merge.take(row, sweep.scale)
            if row >= first:
                yield strip

    def _cut(self, length: int) -> AxisWindows:
        return AxisWindows.cut(length, tile=self.tile, overlap=self.overlap, multiple=self.multiple)


def _rows_of(image: Tensor) -> RowReader:
    return lambda top, bottom: image[..., top:bottom, :]


class _Sweep:
    """Windows of one row of the grid after the other through the network; buffers are made once."""

    def __init__(self, inferer: TiledInferer, readers: Sequence[RowReader], rows: AxisWindows, columns: AxisWindows):
        self.inferer, self.readers, self.rows, self.columns = inferer, readers, rows, columns
        self.scale = 0
        self._mirrored = columns.mirrored(-columns.context, columns.edges[-2] - columns.context + columns.size)
        self._padded: list[Tensor | None] = [None] * len(readers)
        self._windows: list[Tensor | None] = [None] * len(readers)

    @torch.no_grad()
    def _predict(self, columns: range, network: Callable[..., Tensor], args: Sequence, kwargs: dict) -> Tensor:
        """Outputs (n, B, C, s*h, s*w) for the windows in `columns`."""
        batch = []
        for number, padded in enumerate(self._padded):
            if self._windows[number] is None:
                shape = (self.inferer.batch_size, *padded.shape[:-1], self.columns.size)
                self._windows[number] = padded.new_empty(shape)
            windows = self._windows[number][: len(columns)]
            for window, column in zip(windows, columns, strict=True):
                left = self.columns.edges[column]  # the padded strip begins one context to the left of the image
                window.copy_(padded[..., left : left + self.columns.size])
            batch.append(windows.flatten(0, 1))
        outputs = network(*batch, *args, **kwargs)
        self._check_scale(batch[0], outputs)
        return outputs.unflatten(0, (len(columns), -1))

    def outputs(
        self, row: int, network: Callable[..., Tensor], args: Sequence, kwargs: dict
    ) -> Iterator[tuple[int, Tensor]]:
        """(number of the first window, outputs of it and those that follow) along one row of the grid."""
        for number, reader in enumerate(self.readers):
            self._gather(number, reader, row)
        for start in range(0, self.columns.count, self.inferer.batch_size):
            columns = range(start, min(start + self.inferer.batch_size, self.columns.count))
            yield start, self._predict(columns, network, args, kwargs)

    @torch.no_grad()
    def _gather(self, number: int, reader: RowReader, row: int) -> None:
        """The rows that a row of windows sees, with mirrored borders, into the buffer of reader `number`."""
        top = self.rows.edges[row] - self.rows.context
        index = self.rows.mirrored(top, top + self.rows.size)
        low, high = int(index.min()), int(index.max()) + 1
        strip = reader(low, high)
        if strip.ndim != 4 or strip.shape[-2:] != (high - low, self.columns.edges[-1]):
            raise ValueError(
                f"{'aligned map' if number else 'image'}: rows {low} to {high} have shape {tuple(strip.shape)}, "
                f"expected (B, C, {high - low}, {self.columns.edges[-1]}): all maps must have the size of the image."
            )
        strip = strip.to(self.inferer.device or strip.device)
        if high - low != len(index):
            strip = strip.index_select(-2, (index - low).to(strip.device))
        if self._padded[number] is None:
            self._padded[number] = strip.new_empty((*strip.shape[:-1], len(self._mirrored)))
            self._mirrored = self._mirrored.to(strip.device)
        torch.index_select(strip, -1, self._mirrored, out=self._padded[number])

    def _check_scale(self, windows: Tensor, outputs: Tensor) -> None:
        height, width = windows.shape[-2:]
        if not self.scale and isinstance(outputs, Tensor) and outputs.ndim == 4:
            self.scale = outputs.shape[-1] // width
        expected = (windows.shape[0], self.scale * height, self.scale * width)
        found = (outputs.shape[0], *outputs.shape[2:]) if isinstance(outputs, Tensor) else ()
        if not self.scale or found != expected:
            what = f"shape {tuple(outputs.shape)}" if isinstance(outputs, Tensor) else f"type {type(outputs).__name__}"
            raise ValueError(
                f"the network answers windows of shape {tuple(windows.shape)} with {what}: expected one tensor "
                "(B, C, s*h, s*w) with a whole s >= 1."
            )


class _Memory:
    """Where finished rows go: memory for one strip that is used again for the next, or for the whole image.

    Args:
        size: (H, W) of the image before it is enlarged.
        device: where the memory is; None: where the pixels come from.
    """

    def __init__(self, size: Sequence[int], *, device: torch.device | None, whole: bool):
        self.size, self.device, self.whole = size, device, whole
        self.pixels: Tensor | None = None

    def rows(self, top: int, bottom: int, like: Tensor, scale: int) -> Tensor:
        """(B, C, bottom - top, scale * W); B, C and type as those of `like` (..., B, C, any, any)."""
        height = scale * self.size[0] if self.whole else bottom - top
        if self.pixels is None or self.pixels.shape[-2] < height:
            shape = (*like.shape[-4:-2], height, scale * self.size[1])
            self.pixels = torch.empty(shape, dtype=like.dtype, device=self.device or like.device)
        return self.pixels[..., top:bottom, :] if self.whole else self.pixels[..., :height, :]


class _Halo:
    """The cores side by side; a strip is the cores of one row of windows."""

    def __init__(
        self, rows: AxisWindows, columns: AxisWindows, finish: Callable[[Tensor], Tensor] | None, memory: _Memory
    ):
        self.rows, self.columns, self.finish, self.memory = rows, columns, finish, memory
        self._widest = max(columns.core(index) for index in range(columns.count))
        self._strip: Tensor | None = None

    def place(self, outputs: Tensor, row: int, column: int, scale: int) -> None:
        top, left = scale * self.rows.context, scale * self.columns.context
        cores = outputs[..., top : top + scale * self.rows.core(row), left : left + scale * self._widest].detach()
        if self.finish is not None:
            cores = self.finish(cores.flatten(0, 1)).unflatten(0, cores.shape[:2])
        if column == 0:
            self._strip = self.memory.rows(scale * self.rows.edges[row], scale * self.rows.edges[row + 1], cores, scale)
        for number, core in enumerate(cores, column):
            left, right = scale * self.columns.edges[number], scale * self.columns.edges[number + 1]
            self._strip[..., left:right] = core[..., : right - left]

    def take(self, row: int, scale: int) -> Strip:
        return Strip(scale * self.rows.edges[row], self._strip)


class _Feather:
    """Weighted sums of the windows; a strip ends where the fade into the next row of windows begins."""

    def __init__(self, rows: AxisWindows, columns: AxisWindows, finish: Callable[[Tensor], Tensor] | None):
        self.rows, self.columns, self.finish = rows, columns, finish
        self._canvas: Tensor | None = None  # (B, C, s * size, s * W), from one context above the core
        self._tail: Tensor | None = None  # the rows of the canvas that the next row of windows has a say in
        self._weights: dict[tuple[int, bool, bool], Tensor] = {}

    def place(self, outputs: Tensor, row: int, column: int, scale: int) -> None:
        width, context, size = self.columns.edges[-1], self.columns.context, self.columns.size
        if self._canvas is None:
            shape = (*outputs.shape[1:4], scale * width)
            self._canvas = torch.zeros(shape, device=outputs.device)
            self._tail = torch.zeros((*shape[:2], 2 * scale * context, shape[3]), device=outputs.device)
        if column == 0:
            self._canvas.zero_()
            self._canvas[..., : self._tail.shape[-2], :] = self._tail
        vertical = self._fade(self.rows, row, scale)[:, None]
        for number, window in enumerate(outputs, column):
            start = self.columns.edges[number] - context
            left, right = max(start, 0), min(start + size, width)
            inside = slice(scale * (left - start), scale * (right - start))
            weights = vertical * self._fade(self.columns, number, scale)[inside]
            self._canvas[..., scale * left : scale * right].addcmul_(window[..., inside].detach().float(), weights)

    def take(self, row: int, scale: int) -> Strip:
        context, core = scale * self.rows.context, scale * self.rows.core(row)
        first, last = row == 0, row == self.rows.count - 1
        strip = self._canvas[..., context if first else 0 : core + context if last else core, :]
        if not last:
            self._tail.copy_(self._canvas[..., core : core + 2 * context, :])
        if self.finish is not None:
            strip = self.finish(strip)
        return Strip(scale * self.rows.edges[row] - (0 if first else context), strip)

    def _fade(self, axis: AxisWindows, index: int, scale: int) -> Tensor:
        """Weights (s * size,) along one axis: a rise and a fall of 2 contexts about the edges to a neighbour (Hann)."""
        first, last, core = index == 0, index == axis.count - 1, scale * axis.core(index)
        key = (axis.size * scale, core, first, last)
        if key not in self._weights:
            ramp = 2 * scale * axis.context
            rise = torch.sin(torch.pi / 2 * (torch.arange(ramp) + 0.5) / max(ramp, 1)).square()
            weights = torch.ones(scale * axis.size)
            if not first:
                weights[:ramp] = rise
            if not last:
                weights[core : core + ramp] *= 1 - rise
                weights[core + ramp :] = 0
            self._weights[key] = weights.to(self._canvas.device)
        return self._weights[key]
