"""Spatial augmentation of whole batches: one matrix (or one index) for each image, one grid for each batch.

Shapes: B batch, C channel, d = 2 or 3 spatial axes, *S the spatial shape, (H, W) or (H, W, D). Vectors are ordered
(x, y[, z]), x the last axis, as `torch.nn.functional.grid_sample` has them. Matrices act on pixels about the centre of
the image, so a rotation is one for every aspect ratio, and map an output position to the source position that it shows.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

# Bound on displacement / spacing below which a cubic B-spline warp cannot fold (Choi and Lee 2000, theorem 1).
INJECTIVE_DISPLACEMENT = {2: 0.48, 3: 0.40}


def rotation_matrix(angles: Tensor) -> Tensor:
    """Rotations, (n, d, d): counter-clockwise as displayed (x to the right, y down) for positive angles.

    Args:
        angles: radians, (n, 1) for d = 2; (n, 3) for d = 3, in the planes (x, y), (x, z), (y, z), in this order, which
            turn about the axes H, W, D.
    """
    dims = 2 if angles.shape[1] == 1 else 3
    result = torch.eye(dims, dtype=angles.dtype).repeat(angles.shape[0], 1, 1)
    for angle, (first, second) in zip(angles.unbind(1), itertools.combinations(range(dims), 2), strict=True):
        plane = torch.eye(dims, dtype=angles.dtype).repeat(angles.shape[0], 1, 1)
        plane[:, first, first] = plane[:, second, second] = angle.cos()
        plane[:, first, second], plane[:, second, first] = angle.sin(), -angle.sin()
        result = plane @ result
    return result


def shear_matrix(shears: Tensor) -> Tensor:
    """Shears, (n, d, d): ones on the diagonal, tan of `shears` (radians, (n, d (d - 1))) elsewhere, row by row."""
    dims = 2 if shears.shape[1] == 2 else 3
    result = torch.eye(dims, dtype=shears.dtype).repeat(shears.shape[0], 1, 1)
    pairs = list(itertools.permutations(range(dims), 2))
    result[:, [i for i, _ in pairs], [j for _, j in pairs]] = shears.tan()
    return result


def dihedral_matrix(flips: Tensor, turns: Tensor) -> Tensor:
    """Flips, then quarter turns counter-clockwise in (H, W): signed permutations, (n, d, d) of -1, 0, 1.

    Args:
        flips: which axes (x, y[, z]) are mirrored, (n, d) of bool.
        turns: number of quarter turns, (n,) of int.
    """
    count, dims = flips.shape
    mirror = torch.diag_embed(1.0 - 2.0 * flips.to(torch.float64))
    quarter = torch.eye(dims, dtype=torch.float64).repeat(count, 1, 1)
    cosine = torch.tensor([1.0, 0.0, -1.0, 0.0], dtype=torch.float64)[turns % 4]
    sine = torch.tensor([0.0, 1.0, 0.0, -1.0], dtype=torch.float64)[turns % 4]
    across, down = dims - 2, dims - 1
    quarter[:, across, across] = quarter[:, down, down] = cosine
    quarter[:, across, down], quarter[:, down, across] = sine, -sine
    return quarter @ mirror


def source_matrix(forward: Tensor, translate: Tensor) -> Tensor:
    """Output-to-source matrices, (n, d, d + 1), of a content that is shifted first and then mapped by `forward`.

    Args:
        forward: what happens to the content, in pixels about the centre, (n, d, d).
        translate: shift of the content as a fraction of the size of each axis (x, y[, z]), (n, d). Kept in the last
            column in the units of `grid_sample` (2 = the whole axis), so that it holds for every size.
    """
    return torch.cat([torch.linalg.inv(forward), -2.0 * translate[:, :, None]], dim=2)


class DihedralIndex:
    """Flips and quarter turns as index arithmetic: exact, on any data type, without interpolation.

    Args:
        size: spatial shape *S; quarter turns need the first two axes to be equal.
        device: where the batches lie.
    """

    def __init__(self, size: Sequence[int], device: torch.device) -> None:
        extents = list(reversed(size))
        strides = [1]
        for extent in extents[:-1]:
            strides.append(strides[-1] * extent)
        # flat source index = sum_i stride_i (sum_j Q_ij p_j + (extent_i - 1) [row i of Q is negative])
        rows = zip(strides, extents, strict=True)
        weights = [[stride] * len(size) + [stride * (extent - 1)] for stride, extent in rows]
        self.weights = torch.tensor(weights, device=device)
        self.positions = [torch.arange(extent, device=device) for extent in extents]

    @staticmethod
    def compile(matrix: Tensor) -> Tensor:
        """Output-to-source form of signed permutations (n, d, d): (n, d, d + 1) of int64, last column: row negative."""
        inverse = matrix.mT.round().to(torch.int64)
        return torch.cat([inverse, (inverse.sum(2, keepdim=True) < 0).to(torch.int64)], dim=2)

    def __call__(self, compiled: Tensor) -> Tensor:
        """Flat source index of every output pixel, (B, prod S)."""
        *coefficients, index = (compiled * self.weights).sum(1).unbind(1)
        for coefficient, position in zip(reversed(coefficients), reversed(self.positions), strict=True):
            index = index.unsqueeze(-1) + coefficient.view(-1, *[1] * index.ndim) * position
        return index.flatten(1)


def take_pixels(images: Tensor, index: Tensor) -> Tensor:
    """Images whose pixels are picked by flat `index` (B, prod S), the same for every channel: (B, C, *S)."""
    # gather does not support uint16, whose bits it may move as int16
    flat = (images.view(torch.int16) if images.dtype == torch.uint16 else images).flatten(2)
    return flat.gather(2, index[:, None].expand(-1, flat.shape[1], -1)).view(images.shape).view(images.dtype)


class SamplingGrid:
    """Grids for `grid_sample` (pixel centres, align_corners=False) from matrices and B-spline displacements.

    Args:
        source_size: spatial shape of the images as decoded.
        output_size: spatial shape of the result.
        cells: number of B-spline cells along each axis, 0 without displacement.
        device: where the batches lie.
        cut: the result shows the middle of the field of view at the pixel size of the images, else the whole.
    """

    def __init__(
        self,
        source_size: Sequence[int],
        output_size: Sequence[int],
        cells: int,
        device: torch.device,
        *,
        cut: bool = False,
    ) -> None:
        self.extents = torch.tensor(list(reversed(source_size)), dtype=torch.float32, device=device)
        self.units = self._units(self.extents)
        self.positions, self.spline = [], []
        for side, source in zip(reversed(output_size), reversed(source_size), strict=True):
            share = side / source if cut else 1.0
            self.positions.append((share * ((2 * torch.arange(side) + 1) / side - 1)).to(device))
            if cells:
                self.spline.append(spline_weights(side, cells, share).to(device))

    @staticmethod
    def _units(extents: Tensor) -> tuple[Tensor, Tensor]:
        """Of images with sides of these lengths, (..., d), what turns matrices and displacements into grid units."""
        # pixels to the units of grid_sample: A_ij size_j / size_i; the shift is in these units already
        linear = extents[..., None, :] / extents[..., None]
        both = torch.cat([linear, torch.ones_like(linear[..., :1])], dim=-1)
        return both, 2.0 * extents.amin(-1, keepdim=True) / extents

    def __call__(self, matrix: Tensor, control: Tensor | None = None, voxel_size: Tensor | None = None) -> Tensor:
        """Grid, (B, *S, d), a view of planes (x, y[, z]).

        Args:
            matrix: output to source, (B, d, d + 1), see `source_matrix`.
            control: displacements of the B-spline's control points in fractions of the shorter side,
                (B, d, cells + 3, ..., cells + 3); added to the source position.
            voxel_size: (B, d) along (x, y[, z]); None: pixels are square.
        """
        units, displacement_units = self.units if voxel_size is None else self._units(self.extents * voxel_size)
        *columns, grid = (matrix * units).unbind(2)
        for column, position in zip(reversed(columns), reversed(self.positions), strict=True):
            grid = grid.unsqueeze(-1) + column.view(*column.shape, *[1] * (grid.ndim - 2), 1) * position
        if control is not None:
            scale = displacement_units.view(*displacement_units.shape, *[1] * len(self.positions))
            grid = grid.add_(self.displace(control * scale))
        return grid.movedim(1, -1)

    def displace(self, field: Tensor) -> Tensor:
        """The field (B, d, *S) of displacements (B, d, cells + 3, ...) of control points."""
        for axis, weights in reversed(list(enumerate(self.spline))):  # x is the last axis: one matrix product each
            field = (field.transpose(-1, -1 - axis) @ weights.mT).transpose(-1, -1 - axis)
        return field


class SlicePlaces:
    """Where the slices of results lie between those of volumes (B, C, H, W, D), along their own axis alone.

    Args:
        depth: D.
        output_depth: of the result.
        padding_mode: as for `grid_sample`.
        device: where the batches lie.
        cut: see `SamplingGrid`.
    """

    def __init__(
        self, depth: int, output_depth: int, padding_mode: str, device: torch.device, *, cut: bool = False
    ) -> None:
        share = output_depth / depth if cut else 1.0
        self.position = (share * ((2 * torch.arange(output_depth) + 1) / output_depth - 1)).to(device)
        self.depth, self.padding_mode = depth, padding_mode

    def __call__(self, matrix: Tensor, depth: int) -> Tensor:
        """Fractional numbers of slices among `depth` of them, (B, D').

        Args:
            matrix: output to source, (B, 3, 4), whose first axis is that of the slices.
        """
        place = matrix[:, :1, 0] * self.position + matrix[:, :1, 3]
        place = (place + 1) * (depth / 2) - 0.5
        if self.padding_mode == "reflection":
            place = (place + 0.5).remainder(2 * depth)
            place = torch.minimum(place, 2 * depth - place) - 0.5
        return place if self.padding_mode == "zeros" else place.clamp(0, depth - 1)

    def take(self, planes: Tensor, place: Tensor, *, nearest: bool) -> Tensor:
        """Slices of the results, (B, D', ...), taken from `planes` (B, D, ...).

        Args:
            nearest: take whole slices, in their own type; else mix two, as float32.
        """
        if nearest:
            return self._taken(planes, place.round())
        low = place.floor()
        weight = (place - low).view(*place.shape, *[1] * (planes.ndim - 2))
        return torch.lerp(self._taken(planes, low).float(), self._taken(planes, low + 1).float(), weight)

    def _taken(self, planes: Tensor, place: Tensor) -> Tensor:
        """Whole slices at `place` (B, D')."""
        last = planes.shape[1] - 1
        index = place.clamp(0, last).long() + torch.arange(len(planes), device=place.device)[:, None] * (last + 1)
        taken = planes.flatten(0, 1).index_select(0, index.flatten()).unflatten(0, place.shape)
        if self.padding_mode != "zeros":
            return taken
        return taken * ((place >= 0) & (place <= last)).view(*place.shape, *[1] * (planes.ndim - 2)).to(taken.dtype)


def spline_weights(size: int, cells: int, share: float = 1.0) -> Tensor:
    """Weights of the uniform cubic B-spline with `cells` cells at `size` pixel centres, (size, cells + 3).

    The pixels lie in the middle `share` of the cells. Rows are non-negative and sum to 1, so a field never exceeds its
    control points (Rueckert et al. 1999, eq. 1).
    """
    position = (torch.arange(size, dtype=torch.float64) + 0.5) / size * cells
    if share != 1:
        position = position * share + (1 - share) / 2 * cells
    cell = position.floor().clamp(0, cells - 1)
    u = position - cell
    basis = torch.stack([(1 - u) ** 3, 3 * u**3 - 6 * u**2 + 4, -3 * u**3 + 3 * u**2 + 3 * u + 1, u**3], dim=1) / 6
    weights = torch.zeros(size, cells + 3, dtype=torch.float64)
    return weights.scatter_(1, cell.long()[:, None] + torch.arange(4), basis).float()


def resize(images: Tensor, size: Sequence[int]) -> Tensor:
    """Images resized with an antialiased linear filter, (B, C, *size); in 3-D by averaging areas when shrinking.

    uint8 images stay uint8 (within 1 of exact) on a CPU, where that is three times faster; float32 elsewhere.
    """
    if tuple(images.shape[2:]) == tuple(size):
        return images
    if images.ndim == 5:
        shrinks = all(new <= old for new, old in zip(size, images.shape[2:], strict=True))
        return F.interpolate(images.float(), size=tuple(size), mode="area" if shrinks else "trilinear")
    if images.dtype != torch.uint8 or images.device.type != "cpu":
        images = images.float()
    return F.interpolate(images, size=tuple(size), mode="bilinear", antialias=True)


def resize_labels(labels: Tensor, size: Sequence[int]) -> Tensor:
    """Labels resized: integers (and bool) by the nearest pixel centre, soft (float) labels as `resize`."""
    if tuple(labels.shape[2:]) == tuple(size):
        return labels
    if labels.is_floating_point():
        return resize(labels, size)
    return F.interpolate(labels.float(), size=tuple(size), mode="nearest-exact")
