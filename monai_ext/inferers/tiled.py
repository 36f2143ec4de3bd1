"""A network over an image of any size, window by window, without seams.

Both axes are cut into cores of nearly equal length. Each window covers its core and `overlap / 2` pixels of context on
every side where the image goes on; where the image ends the window ends, so that the network pads there as in training.
Outputs for the context are discarded ("halo") or blended with those of the neighbouring windows ("feather"). The scale
is read off the network's output: B,C,h,w may become B,C',s*h,s*w.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from torch import Tensor

from monai_ext.inferers.axis_windows import AxisWindows
from monai_ext.inferers.stitching import Feather, Halo, OutputRows
from monai_ext.inferers.window_grid import WindowGrid

__all__ = ["TiledInferer"]


class TiledInferer(Inferer):
    """A MONAI inferer that applies a network to windows of an image and puts the outputs together.

    With a context of at least the network's receptive radius, halo equals the network on the whole image, borders
    included; where the context is shorter, feather hides the steps that halo would leave. An image that fits into one
    window is given to the network whole. No gradients.

    Args:
        tile: side of the windows, at most; images are cut evenly, so windows are often smaller.
        overlap: twice the context of a window, which its outputs do not depend on any more. Even.
        mode: "halo" or "feather", see above. Feather needs `tile >= 3 * overlap`.
        batch_size: windows (of each image of the batch) per forward pass.
        multiple: sides of windows are multiples of it, for networks that need that.
        device: where the network lives; None for where the image is.
        finish: applied to the outputs pixel by pixel before they are put together (halo) or afterwards (feather), e.g.
            a rounding to uint8 that saves three quarters of the memory. Takes (B, C, h, w) of any size, a few rows at a
            time; may change C and dtype.

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
            raise ValueError(f"tile {tile} is no multiple of {multiple}, which the network needs.")
        self.tile, self.overlap, self.mode = tile, overlap, mode
        self.batch_size, self.multiple = batch_size, multiple
        self.device = None if device is None else torch.device(device)
        self.finish = finish

    @torch.no_grad()
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
            ValueError: `inputs` is no batch of images, a map has another size, or the output is no whole multiple of
                the window.
        """
        maps = [inputs, aligned] if isinstance(aligned, Tensor) else [inputs, *aligned]
        maps = [each.as_tensor() if isinstance(each, MetaTensor) else each for each in maps]
        image = maps[0]
        if image.ndim != 4 or image.numel() == 0:
            raise ValueError(f"inputs has shape {tuple(image.shape)}: expected a batch of images (B, C, H, W).")
        output = OutputRows(image.shape[-2:], finish=self.finish, device=image.device, whole=True)
        grid = self._grid(output)
        for row in grid.rows_from(0):
            top, bottom = grid.span(row)
            grid.load(row, [each[..., top:bottom, :] for each in maps])
            for column, windows in grid.windows():
                grid.place(network(*windows, *args, **kwargs), row, column)
            grid.strip(row)
        return output.pixels

    def grid(self, size: Sequence[int], *, finish: Callable[[Tensor], Tensor] | None = None) -> WindowGrid:
        """The windows of an image of `size` (H, W), to be read and put together strip by strip; see `WindowGrid`.

        Args:
            finish: instead of the inferer's own.
        """
        return self._grid(OutputRows(size, finish=finish or self.finish, device=self.device, whole=False))

    def _grid(self, output: OutputRows) -> WindowGrid:
        cut = {"tile": self.tile, "overlap": self.overlap, "multiple": self.multiple}
        rows, columns = (AxisWindows.cut(length, **cut) for length in output.size)
        merge = (Halo if self.mode == "halo" else Feather)(rows, columns, output)
        return WindowGrid(rows, columns, merge, batch_size=self.batch_size, device=self.device)
