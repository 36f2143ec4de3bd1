"""The resampling of one batch by matrices: as a whole, slice by slice where slices stay slices, or by OpenCV."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from monai_ext.transforms import opencv_warp, spatial

__all__ = ["Warp"]


class Warp:
    """Warps images and labels alike, which may differ in size.

    Args:
        matrix: output to source, (B, d, d + 1), see `source_matrix`.
        control: displacements, see `SamplingGrid`.
        voxels: sizes of voxels, (B, d) along (x, y[, z]); None: pixels are square.
        size: *S of the images.
        target: *S of the result.
        cut: the result shows the middle of the field of view, else the whole.
        padding_mode: as for `grid_sample`.
        by_opencv: pictures of 8 bits may be rounded to whole levels.
        kept: takes a key and a maker of what depends on sizes alone, and gives it, made once.
    """

    def __init__(
        self,
        matrix: Tensor,
        *,
        control: Tensor | None,
        voxels: Tensor | None,
        size: tuple[int, ...],
        target: tuple[int, ...],
        cut: bool,
        padding_mode: str,
        by_opencv: bool,
        kept: Callable[[tuple, Callable[[], Any]], Any],
    ) -> None:
        self.matrix, self.control, self.voxels = matrix, control, voxels
        self.size, self.target, self.cut, self.padding_mode = size, target, cut, padding_mode
        self.shown = size if cut else tuple(map(min, size, target))
        self.by_opencv = by_opencv and control is None and max(size) <= opencv_warp.LARGEST
        self.kept = kept
        self._slice_places: dict[int, Tensor] = {}  # by the number of slices

    def __call__(self, x: Tensor, *, soft: bool) -> Tensor:
        """`x` (B, C, *S) of any type, linearly if it is `soft`, else at the nearest pixel."""
        return self._moved(spatial.resize(x, self.shown) if soft else x, soft=soft)

    def slice_by_slice(self, x: Tensor, *, soft: bool, whole: bool) -> Tensor:
        """The same of volumes (B, C, H, W, D) whose slices stay slices, many times faster on a CPU.

        Args:
            whole: along their own axis slices are mirrored at most.
        """
        x = spatial.resize(x, self.shown) if soft else x
        depth, target = self.size[2], self.target[2]
        whole = whole and (target == depth or (self.cut and (depth - target) % 2 == 0))
        planes = x.movedim(-1, 1).contiguous()  # (B, D, C, H, W)
        if planes.shape[1] not in self._slice_places:
            self._slice_places[planes.shape[1]] = self._places(self.matrix, planes.shape[1])
        place = self._slice_places[planes.shape[1]]
        planes = self._places.take(planes, place, nearest=whole or not soft)
        moved = self._of_slices._moved(planes.flatten(1, 2), soft=soft)
        return moved.unflatten(1, planes.shape[1:3]).movedim(1, -1)

    @functools.cached_property
    def _places(self) -> spatial.SlicePlaces:
        depth, target, device = self.size[2], self.target[2], self.matrix.device
        key = ("slices", depth, target, device, self.cut)
        return self.kept(key, lambda: spatial.SlicePlaces(depth, target, self.padding_mode, device, cut=self.cut))

    @functools.cached_property
    def _of_slices(self) -> Warp:
        return Warp(
            self.matrix[:, 1:, 1:],
            control=None,
            voxels=None if self.voxels is None else self.voxels[:, 1:],
            size=self.size[:2],
            target=self.target[:2],
            cut=self.cut,
            padding_mode=self.padding_mode,
            by_opencv=self.by_opencv,
            kept=self.kept,
        )

    def _moved(self, x: Tensor, *, soft: bool) -> Tensor:
        """`x` at its own size at the pixels of the result."""
        if self.by_opencv and x.ndim == 4 and x.dtype in ((torch.uint8,) if soft else (torch.uint8, torch.bool)):
            seen = tuple(x.shape[2:])
            sizes = self.size, seen, self.target
            pixels = opencv_warp.pixel_matrices(self.matrix, *sizes, cut=self.cut, voxels=self.voxels)
            levels, mode = x.view(torch.uint8), self.padding_mode
            return opencv_warp.warp_bytes(levels, pixels, self.target, nearest=not soft, padding_mode=mode)
        mode = "bilinear" if soft else "nearest"
        return F.grid_sample(x.float(), self._grid, mode=mode, padding_mode=self.padding_mode, align_corners=False)

    @functools.cached_property
    def _grid(self) -> Tensor:
        cells = 0 if self.control is None else self.control.shape[-1] - 3
        device = self.matrix.device
        key = ("grid", self.size, self.target, cells, device, self.cut)
        make = self.kept(key, lambda: spatial.SamplingGrid(self.size, self.target, cells, device, cut=self.cut))
        return make(self.matrix, self.control, self.voxels)
