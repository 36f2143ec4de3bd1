"""Masks of several raters, predictions and their image in one order of voxels, by the affines of their NIfTI files.

What differs by swapped or reversed axes alone is reordered without loss; nothing is interpolated.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from monai_ext.raster.images import ImageFileError
from monai_ext.raster.nifti import Plane, Volume, open_nifti, plane_of, volume_of, without_singletons

__all__ = ["Geometry", "Reading", "geometry_of", "item_geometry", "label_files", "reading_in", "spatial_affine"]

EXACT = 0.1  # voxels, at the outer corners of the grid


class Geometry(NamedTuple):
    """Where a picture or volume lies."""

    path: str
    shape: tuple[int, ...]  # of two or three axes
    affine: np.ndarray  # (4, 4), from voxels to millimetres
    coded: bool  # whether the file claims to have a geometry


class Reading(NamedTuple):
    """How the voxels of a file are brought into the order of another one."""

    axes: tuple[int, ...] | None = None  # as for numpy.transpose; None: they have that order
    reversed_axes: tuple[int, ...] = ()  # then, of the result
    beside: float | None = None  # voxels between both by the affines, where they are taken voxel by voxel all the same

    def __call__(self, voxels: np.ndarray) -> np.ndarray:
        """`voxels` in the other order."""
        return voxels if self.axes is None else np.flip(np.transpose(voxels, self.axes), self.reversed_axes)


def geometry_of(path: str | os.PathLike) -> Geometry:
    """The geometry of a NIfTI file.

    Raises:
        ImageFileError: its header cannot be read.
    """
    stored = open_nifti(path)
    coded = bool(stored.header["sform_code"] or stored.header["qform_code"])
    return Geometry(os.fspath(path), without_singletons(stored.shape), np.asarray(stored.affine), coded)


def label_files(item: Mapping) -> Sequence[str | os.PathLike | None]:
    """The masks of an item: those of its raters, or the one that is given as a path, as MONAI Label does."""
    files = item.get("label") or ()
    return (files,) if isinstance(files, str | os.PathLike) else files


def item_geometry(item: Mapping) -> Geometry | None:
    """The geometry that the masks of an item of `qubiq_items` are brought into: that of its image, without channels.

    That of the first mask, where the image has another number of axes; None where the item has no masks in NIfTI.
    """
    masks = [path for path in label_files(item) if path is not None]
    if not masks:
        return None
    image, first = geometry_of(item["image"]), geometry_of(masks[0])
    if len(image.shape) == len(first.shape):
        return image
    find: Callable[..., Plane | Volume] = plane_of if len(first.shape) == 2 else volume_of
    try:
        place = find(image.shape, image.path, mask_size=first.shape, channel_axis=None)
    except ImageFileError:
        return first
    if place.channel_axis is None:
        return first
    return image._replace(shape=place.size, affine=spatial_affine(image.affine, place.channel_axis))


def spatial_affine(affine: np.ndarray, channel_axis: int | None) -> np.ndarray:
    """The affine of an image without the axis of its channels, which goes last; a fourth axis has no place in it."""
    if channel_axis is None or channel_axis > 2:
        return affine
    spatial = [axis for axis in range(3) if axis != channel_axis]
    return affine[:, [*spatial, channel_axis, 3]]


def reading_in(reference: Geometry, own: Geometry) -> Reading:
    """How to read the voxels of `own` in the order of `reference`.

    Files without a geometry (no code, or voxels of 1 at the origin), and those that lie beside the reference in the
    same order of voxels, are taken voxel by voxel; `beside` is the distance then.

    Raises:
        ImageFileError: the axes differ, and reordering them does not bring one grid onto the other.
    """
    axes = len(reference.shape)
    if len(own.shape) != axes or axes not in (2, 3) or not (reference.coded and own.coded):
        return Reading()
    try:
        move = np.linalg.inv(reference.affine) @ own.affine  # from voxels of `own` to those of the reference
    except np.linalg.LinAlgError:
        return Reading()
    if not np.isfinite(move).all():
        return Reading()
    corners = np.array(list(itertools.product(*((-0.5, side - 0.5) for side in own.shape), *[(0,)] * (3 - axes))))
    moved = corners @ move[:3, :3].T + move[:3, 3]
    steps = np.abs(move[:axes, :axes])
    order = tuple(int(axis) for axis in steps.argmax(1))  # reference axis -> own axis
    signs = [float(move[place, axis]) for place, axis in enumerate(order)]
    turned = tuple(place for place, sign in enumerate(signs) if sign < 0)
    if sorted(order) == list(range(axes)):
        expected = np.zeros_like(moved)
        for place, axis in enumerate(order):
            expected[:, place] = own.shape[axis] - 1 - corners[:, axis] if place in turned else corners[:, axis]
        distance = float(np.abs(moved - expected).max())
        kept = order == tuple(range(axes)) and not turned
        if distance <= EXACT and tuple(own.shape[axis] for axis in order) == reference.shape:
            return Reading() if kept else Reading(order, turned)
        if kept:
            return Reading(beside=distance)
    if _is_blank(reference.affine) or _is_blank(own.affine):
        return Reading(beside=float(np.abs(moved - corners).max()))
    raise ImageFileError(
        f"{own.path} has its axes in other directions than {reference.path} by the affines of both, and reordering "
        "them does not bring one onto the other: save both on one grid."
    )


def _is_blank(affine: np.ndarray) -> bool:
    """Whether an affine is what libraries write of arrays that have no geometry."""
    return bool(np.allclose(np.abs(affine), np.eye(4)))
