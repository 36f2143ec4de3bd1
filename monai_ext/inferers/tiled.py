"""A network over an image of any size, window by window: no seams, and memory that does not grow with the height.

Both axes are cut into cores of nearly equal length. Each window sees its core and `overlap / 2` pixels of context on
every side, mirrored where the image ends. What the network says of the context is thrown away ("halo") or faded into
the neighbour's answer ("feather"). The scale is read off the network's output: B,C,h,w may become B,C',s*h,s*w.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from torch import Tensor

from monai_ext.inferers.axis_windows import AxisWindows
from monai_ext.inferers.stitching import Feather, Halo, OutputRows, Strip

__all__ = ["AxisWindows", "RowReader", "Strip", "TiledInferer"]

RowReader = Callable[[int, int], Tensor]
"""Rows [top, bottom) of a whole image as a float tensor (B, C, bottom - top, W)."""


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
            (feather), e.g. a rounding to uint8 that saves three quarters of the memory. Takes (B, C, h, w) of any size,
            a few rows at a time; may change C and dtype.

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
        output = OutputRows(size, finish=self.finish, device=image.device, whole=True)
        for _ in self._strips(output, readers, size, network, args, kwargs):
            pass
        return output.pixels

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
        output = OutputRows(size, finish=self.finish, device=self.device, whole=False)
        yield from self._strips(output, [read, *aligned], size, network, args, kwargs, first=first)

    def _strips(
        self,
        output: OutputRows,
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
        merge = (Halo if halo else Feather)(rows, columns, output)
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
        left, right = self.columns.context, self.columns.context + strip.shape[-1]
        padded = self._padded[number]
        padded[..., left:right] = strip
        padded[..., :left] = strip.index_select(-1, self._mirrored[:left])
        padded[..., right:] = strip.index_select(-1, self._mirrored[right:])

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
