"""Decode a case: its image, the masks of all raters, and which raters are present.

Rows, columns and slices are the first three axes of the image as stored, see `monai_ext.raster.nifti`; masks that lie
in the same place in another order of voxels are brought into that of the image, see `monai_ext.data.raters.geometry`.
"""

from __future__ import annotations

import copy
import logging
import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from monai.transforms import Transform
from torch import Tensor

from monai_ext.data.item_numbers import image_numbers, with_numbers
from monai_ext.data.points import Points, point_of, points_of_request, read_points
from monai_ext.data.raters.geometry import (
    Reading,
    item_geometry,
    label_files,
    spatial_affine,
)
from monai_ext.data.raters.masks import masks_in_numbers, read_in_order, reading_of, with_values_outside
from monai_ext.data.raters.structures import labels_of_entries, structure_count
from monai_ext.formulas.clicks import central_click, click_maps, consensus_and_union
from monai_ext.formulas.grids import anatomical_grid, resample, resize_volumes, resized_affine
from monai_ext.formulas.regions import Region, region_of_interest
from monai_ext.raster.images import ImageFileError
from monai_ext.raster.nifti import Plane, Volume, is_scan, open_nifti, plane_of, read_nifti, volume_of
from monai_ext.runtime.settings import as_bool

__all__ = ["DecodeRaters"]

_logger = logging.getLogger(__name__)

MOST_OUTSIDE = 0.2  # of the marked pixels, outside of the region of interest
DECODED_KEYS = frozenset({"id", "image", "label", "label_values"})
AXES = {2: "rows x columns", 3: "rows x columns x slices"}


class DecodeRaters(Transform):
    """From the paths of an item of `qubiq_items` to its pixels.

    Gives {"id": str, "image": `dtype` (C, *S), "label": uint8 (R, *S) of 0/1, "presence": bool (R,), "original_size":
    int64, *S of the file}, *S being (H, W), or (H, W, D) with spatial_dims=3. Column r belongs to the same rater in all
    cases; where that one is missing, presence is False and the mask empty, and where presence is True an empty mask
    means "nothing here". Other keys of the item stay as they are. An item without "label" gives neither label nor
    presence; "label_values" are the `labels` of `qubiq_items`. Steps, in order, each for every channel of its own:
    non-finite pixels, window, normalisation, region of interest, spacing, resizing (linear, antialiased; masks become
    foreground where its share is at least half, as in `read_mask`).

    Of an item of K structures the label is (R K, *S) and presence (R, K), see `monai_ext.data.raters.structures`.

    Volumes also have "affine" and "original_affine", float64 (4, 4), of what is given and of the file, by which
    `monai_ext.formulas.grids.resample` brings predictions back.

    With a region of interest an item also has "roi": int64 (4,), first row, first column, height and width of it, for
    `paste_region`. Where native masks are not cut to it, or lie on the grid of the file and the volume on another one,
    it has "label_is_whole": True.

    Args:
        spatial_size: *S for images and masks; None keeps the size of the files, and of the masks alone with
            label_spatial_size="native", to evaluate there.
        window: (level, width) in the units of the file, Hounsfield for CT: level - width / 2 becomes 0, level +
            width / 2 becomes 1, and what lies outside is clipped. (40, 400) is a common one for abdominal organs.
        normalise: "minmax" maps the two `percentiles` to 0 and 1 and clips; "zscore" clips to them, then gives mean 0
            and standard deviation 1. A constant channel becomes 0. None leaves the values.
        percentiles: lower and upper one; (0, 100) are minimum and maximum.
        non_finite: what NaN and infinite pixels become: "minimum" of the others in the channel, with a warning, or
            "error".
        dtype: of the image. An integer type keeps whole numbers compactly (torch.uint8, torch.int16 for CT) and cannot
            be combined with window or normalise.
        channel_axis: axis of the channels in files of one axis more than *S has; None: the one that the masks leave
            over.
        label_spatial_size: "native" or None.
        zoom: keep the region of 1 / zoom of the height and width alone; with zoom=2 and the same spatial_size it is
            seen twice as large. Such a window is a prompt: it shows where the object is.
        centre: of the region, row and column of the file, or a file with those of each case, see `read_points`; None:
            the middle of the image.
        search: give the whole image at the scale of the region, for `predict_middle_first`.
        spatial_dims: 2 for pictures and slices, 3 for volumes.
        spacing: of volumes, in millimetres: they are turned so that their axes lead to the right, to the front and
            upwards, and resampled, as by MONAI's `Orientation("RAS")` and `Spacing`. None keeps voxels as stored.
        clicks: further channels of the image that show where somebody clicked, see `click_maps`: 1 for the foreground,
            2 for the background as well, 0 for none.
        click: row, column (and slice) of the file in the foreground, or a file as for `centre`. None: the "foreground"
            and "background" of the item, points as clients of MONAI Label send them; without these, but with masks, the
            middle of the consensus; otherwise no click.

    Raises (when called):
        ImageFileError: a file cannot be read, image and masks differ in size, a mask holds other values than 0 and 1,
            all pixels are non-finite, or pixels do not fit `dtype`; names the file.
    """

    def __init__(
        self,
        spatial_size: Sequence[int] | None = None,
        *,
        window: Sequence[float] | None = None,
        normalise: Literal["minmax", "zscore"] | None = None,
        percentiles: Sequence[float] = (0.5, 99.5),
        non_finite: Literal["minimum", "error"] = "minimum",
        dtype: torch.dtype = torch.float32,
        channel_axis: int | None = None,
        label_spatial_size: Literal["native"] | None = None,
        zoom: float = 1.0,
        centre: Points = None,
        search: bool | str = False,
        spatial_dims: int = 2,
        spacing: Sequence[float] | None = None,
        clicks: int = 0,
        click: Points = None,
    ):
        if clicks not in (0, 1, 2) or (clicks and not dtype.is_floating_point) or (click is not None and not clicks):
            raise ValueError(
                f"clicks={clicks!r} and click={click!r}: choose 0, 1 or 2, of float images; a click needs 1."
            )
        if spatial_dims not in (2, 3):
            raise ValueError(f"spatial_dims is {spatial_dims!r}: choose 2 or 3.")
        axes = "(height, width), two" if spatial_dims == 2 else "(height, width, depth), three"
        if spatial_size is not None and (len(spatial_size) != spatial_dims or min(spatial_size) < 1):
            raise ValueError(f"spatial_size is {spatial_size!r}: give {axes} positive integers.")
        if spacing is not None and (spatial_dims == 2 or len(spacing) != 3 or min(spacing) <= 0):
            raise ValueError(f"spacing is {spacing!r}: give three positive numbers, and spatial_dims=3.")
        if spatial_dims == 3 and (zoom != 1 or centre is not None):
            raise ValueError(f"zoom={zoom} and centre={centre} are for pictures: take crops of volumes.")
        if window is not None and (len(window) != 2 or window[1] <= 0):
            raise ValueError(f"window is {window!r}: give (level, width) with a width above 0.")
        if normalise not in (None, "minmax", "zscore"):
            raise ValueError(f"normalise is {normalise!r}: choose 'minmax', 'zscore' or None.")
        if len(percentiles) != 2 or not 0 <= percentiles[0] < percentiles[1] <= 100:
            raise ValueError(f"percentiles is {percentiles!r}: give two rising numbers in [0, 100].")
        if non_finite not in ("minimum", "error"):
            raise ValueError(f"non_finite is {non_finite!r}: choose 'minimum' or 'error'.")
        if not dtype.is_floating_point and (window is not None or normalise is not None):
            raise ValueError(f"dtype is {dtype}, but window and normalise give fractions: choose torch.float32.")
        if channel_axis not in (None, *range(spatial_dims + 1)):
            listed = ", ".join(map(str, range(spatial_dims + 1)))
            raise ValueError(f"channel_axis is {channel_axis!r}: choose {listed} or None.")
        if label_spatial_size not in (None, "native"):
            raise ValueError(f"label_spatial_size is {label_spatial_size!r}: choose 'native' or None.")
        if not 1 <= zoom < math.inf:
            raise ValueError(f"zoom is {zoom!r}: give a number of at least 1; 2 keeps half of the height and width.")
        if zoom > 1 and as_bool(search, "search"):
            if spatial_size is None or centre is not None:
                raise ValueError("search begins in the middle of the image: give spatial_size, and no centre.")
            spatial_size, zoom = [round(side * zoom) for side in spatial_size], 1.0
        self.spatial_size = None if spatial_size is None else tuple(int(side) for side in spatial_size)
        self.window = None if window is None else tuple(float(v) for v in window)
        self.normalise = normalise
        self.percentiles = tuple(float(p) for p in percentiles)
        self.non_finite = non_finite
        self.dtype = dtype
        self.channel_axis = channel_axis
        self.label_spatial_size = label_spatial_size
        self.zoom = float(zoom)
        self.spatial_dims = spatial_dims
        self.spacing = None if spacing is None else tuple(float(step) for step in spacing)
        self.clicks = clicks
        tables = [read_points(each) if isinstance(each, (str, Path)) else each for each in (centre, click)]
        self.centre, self.click = (
            each if isinstance(each, Mapping) else point_of(each, "", dims=dims, what=what)
            for each, dims, what in zip(tables, (2, spatial_dims), ("centre", "click"), strict=True)
        )

    def __call__(self, data: Mapping) -> dict[str, Any]:
        own = self._of_case(data)
        item, _, masks, _ = own._decoded(data)
        return own._with_clicks(item, data, masks) | {k: value for k, value in data.items() if k not in DECODED_KEYS}

    def with_look(self, data: Mapping) -> dict[str, Any]:
        """The decoded item with its numbers, see `monai_ext.data.item_numbers`, without keys that it does not know."""
        own = self._of_case(data)
        item, stored, masks, readings = own._decoded(data)
        finite = np.isfinite(stored)
        known = stored if finite.all() else np.where(finite, stored, stored[finite].min())
        affine = item["original_affine"].numpy() if "original_affine" in item else None
        numbers = image_numbers(known, stored.shape[1:], finite=float(finite.mean()), affine=affine)
        found = masks_in_numbers(item, masks, readings, structure_count(data))
        return own._with_clicks(item, data, masks) | with_numbers(numbers, with_values_outside(found, data))

    def _of_case(self, data: Mapping) -> DecodeRaters:
        """The transform with the centre of this case, and its click."""
        if not isinstance(self.centre, Mapping) and not isinstance(self.click, Mapping):
            return self
        own, name = copy.copy(self), str(data.get("id"))
        own.centre = point_of(self.centre, name, dims=2, what="centre")
        own.click = point_of(self.click, name, dims=self.spatial_dims, what="click")
        return own

    def _with_clicks(self, item: dict[str, Any], data: Mapping, masks: Sequence[np.ndarray | None]) -> dict[str, Any]:
        """The item with the maps of its clicks as last channels of the image."""
        if not self.clicks:
            return item
        size = item["image"].shape[1:]
        maps = []
        for points in self._clicked(data, masks)[: self.clicks]:
            places = torch.tensor(points, dtype=torch.float64).reshape(-1, self.spatial_dims)
            maps.append(click_maps(_on_grid(places, item, size)[None], size))
        return item | {"image": torch.cat([item["image"], torch.cat(maps).to(self.dtype)])}

    def _clicked(self, data: Mapping, masks: Sequence[np.ndarray | None]) -> tuple[list, list]:
        """Points in the foreground and in the background, in voxels of the file."""
        if self.click is not None:
            return [self.click], []
        found = [
            points_of_request(data, key, photograph=not is_scan(data["image"]), dims=self.spatial_dims)
            for key in ("foreground", "background")
        ]
        there = next((mask for mask in masks if mask is not None), None)
        if any(found) or there is None:
            return found[0], found[1]
        whole = np.stack([np.zeros_like(there) if mask is None else mask for mask in masks])
        presence = torch.tensor([mask is not None for mask in masks]).view(1, -1, structure_count(data))
        consensus, _ = consensus_and_union(torch.from_numpy(whole)[None] > 0, presence)
        return ([central_click(consensus)[0].tolist()] if consensus.any() else []), []

    def _decoded(self, data: Mapping) -> tuple[dict[str, Any], np.ndarray, list[np.ndarray | None], list[Reading]]:
        """The item, and as they were read the values (C, H, W) of its image, its masks, and how these were read."""
        path, index, files = data["image"], data.get("slice"), label_files(data)
        if index is not None and self.spatial_dims == 3:
            raise ImageFileError(f"slice {index} of {path} is no volume: list the cases with slices=False.")
        reference = item_geometry(data)
        readings = [reading_of(file, reference) for file in files]
        masks = [
            None if file is None else read_in_order(file, reading, index, label, self.spatial_dims)
            for file, reading, label in zip(files, readings, labels_of_entries(data), strict=True)
        ]
        present = next((mask for mask in masks if mask is not None), None)
        stored = read_nifti(path, slice_index=index)
        find: Callable[..., Plane | Volume] = plane_of if self.spatial_dims == 2 else volume_of
        place = find(
            stored.shape, path, mask_size=None if present is None else present.shape, channel_axis=self.channel_axis
        )
        channels = stored if place.channel_axis is None else np.moveaxis(stored, place.channel_axis, 0)
        stored = channels.reshape(-1, *place.size)
        affine = None if self.spatial_dims == 2 else spatial_affine(open_nifti(path).affine, place.channel_axis)
        item: dict[str, Any] = {
            "id": str(data.get("id", Path(path).parent.name)),
            "image": self._to_dtype(self._pixels(stored, path), path, affine),
        }
        if files:
            for number, (mask, file) in enumerate(zip(masks, files, strict=True)):
                if mask is None:
                    continue
                if (*mask.shape, 1)[: len(place.size)] != place.size:
                    raise ImageFileError(
                        f"image {path} has {_by(place.size)} pixels ({AXES[self.spatial_dims]}), but the rater's mask "
                        f"{file} has {_by(mask.shape)}: pair the right files."
                    )
                masks[number] = mask.reshape(place.size)
            empty = np.zeros(place.size, dtype=np.uint8)
            whole = np.stack([empty if mask is None else mask for mask in masks])
            item["label"] = self._resized_masks(whole, path, affine)
            presence = torch.tensor([mask is not None for mask in masks])
            item["presence"] = presence.view(-1, structure_count(data)) if data.get("structures") else presence
        return item | self._place(place.size, affine, labelled=bool(files)), stored, masks, readings

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({settings})"

    def _place(self, size: Sequence[int], affine: np.ndarray | None, *, labelled: bool) -> dict[str, Tensor]:
        """What is needed to bring predictions back to an image of this size."""
        place = {"original_size": torch.tensor(size)}
        if affine is not None:
            place["original_affine"] = torch.from_numpy(affine.astype(np.float64))
            goal = self._grid(size, affine)[1]
            place["affine"] = torch.from_numpy(goal.astype(np.float64))
            changed = self.spacing is not None or self.spatial_size is not None  # the same keys for all volumes
            if labelled and self.label_spatial_size is not None and changed:
                place["label_is_whole"] = torch.tensor(True)
        if self.zoom > 1:
            place["roi"] = torch.tensor(self._region(size))
            if labelled and self.label_spatial_size is not None:
                place["label_is_whole"] = torch.tensor(True)
        return place

    def _region(self, size: Sequence[int]) -> Region:
        return region_of_interest(size, self.zoom, point_of(self.centre, "", dims=2, what="centre"))

    def _cut(self, values: np.ndarray) -> np.ndarray:
        """`values` (..., H, W) in the region of interest."""
        top, left, height, width = self._region(values.shape[-2:])
        return values[..., top : top + height, left : left + width]

    def _grid(self, size: Sequence[int], affine: np.ndarray) -> tuple[Sequence[int], np.ndarray]:
        """Size and affine of what is made of a volume."""
        if self.spacing is not None:
            size, affine = anatomical_grid(size, affine, self.spacing)
        if self.spatial_size is not None:
            size, affine = self.spatial_size, resized_affine(affine, size, self.spatial_size)
        return size, affine

    def _sized(self, values: Tensor, affine: np.ndarray | None) -> Tensor:
        """Float values (N, *S) at the spacing and size of the result."""
        if affine is None:
            if self.spatial_size is None or tuple(values.shape[1:]) == self.spatial_size:
                return values
            return F.interpolate(values[None], self.spatial_size, mode="bilinear", antialias=True)[0]
        if self.spacing is not None:
            size, goal = anatomical_grid(values.shape[1:], affine, self.spacing)
            values = resample(values, affine, goal, size)
        return values if self.spatial_size is None else resize_volumes(values, self.spatial_size)

    def _pixels(self, stored: np.ndarray, path: str | os.PathLike) -> np.ndarray:
        """Finite float32 values (C, *S), windowed and normalised."""
        pixels = stored.astype(np.float32)
        finite = np.isfinite(pixels)
        if not finite.all():
            pixels = self._filled(pixels, finite, path)
        if self.window is not None:
            level, width = self.window
            pixels = np.clip((pixels - (level - width / 2)) / width, 0, 1)
        if self.normalise is not None:
            axes = tuple(range(1, pixels.ndim))
            low, high = np.percentile(pixels, self.percentiles, axis=axes, keepdims=True).astype(np.float32)
            pixels = np.clip(pixels, low, high)
            if self.normalise == "minmax":
                shift, scale = low, high - low
            else:
                shift, scale = pixels.mean(axes, keepdims=True), pixels.std(axes, keepdims=True)
            constant = high == low  # where the spread is rounding alone
            pixels = np.where(constant, 0, (pixels - shift) / np.where(constant, 1, scale)).astype(np.float32)
        return pixels

    def _filled(self, pixels: np.ndarray, finite: np.ndarray, path: str | os.PathLike) -> np.ndarray:
        share = f"{np.count_nonzero(~finite)} of the {pixels.size} pixels of image {path} are NaN or infinite"
        if self.non_finite == "error":
            raise ImageFileError(f"{share}: mend the file, or set non_finite='minimum'.")
        axes = tuple(range(1, pixels.ndim))
        if not finite.any(axis=axes).all():
            raise ImageFileError(f"{share}, in one channel all of them: nothing is left to see.")
        warnings.warn(f"{share}; they become the minimum of the others.", stacklevel=2)
        lowest = np.where(finite, pixels, np.inf).min(axes, keepdims=True)
        return np.where(finite, pixels, lowest)

    def _to_dtype(self, pixels: np.ndarray, path: str | os.PathLike, affine: np.ndarray | None = None) -> Tensor:
        """Resized, and in the type of the result."""
        pixels = self._cut(pixels) if affine is None else pixels
        image = torch.from_numpy(np.ascontiguousarray(pixels))
        if not self.dtype.is_floating_point:
            limits = torch.iinfo(self.dtype)
            lowest, highest = pixels.min(), pixels.max()
            if lowest < limits.min or highest > limits.max or (pixels != np.round(pixels)).any():
                raise ImageFileError(
                    f"image {path} has values from {lowest:g} to {highest:g} or fractions, which do not fit "
                    f"{self.dtype}: choose dtype torch.float32."
                )
        image = self._sized(image, affine).contiguous()
        return image.to(self.dtype) if self.dtype.is_floating_point else image.round().to(self.dtype)

    def _resized_masks(self, masks: np.ndarray, path: str | os.PathLike, affine: np.ndarray | None) -> Tensor:
        cut = self._cut(masks) if affine is None else masks
        marked = np.count_nonzero(masks)
        outside = 1 - np.count_nonzero(cut) / marked if marked else 0
        if outside > MOST_OUTSIDE:
            _logger.warning(
                f"{outside:.0%} of what is marked in {path} lies outside of the region of interest, and no prediction "
                f"can reach it: set zoom below {self.zoom:g}, or a centre."
            )
        if self.label_spatial_size is not None:
            return torch.from_numpy(np.ascontiguousarray(masks))
        whole = torch.from_numpy(np.ascontiguousarray(cut))
        same = self.spatial_size is None or tuple(whole.shape[1:]) == self.spatial_size
        if same and self.spacing is None:
            return whole
        return torch.cat([(self._sized(mask[None].float(), affine) >= 0.5).byte() for mask in whole])


def _on_grid(points: Tensor, item: Mapping[str, Tensor], size: Sequence[int]) -> Tensor:
    """Points (N, dims) in voxels of the file in those of what is made of it."""
    if "affine" in item:
        moved = torch.linalg.inv(item["affine"]) @ item["original_affine"]
        return points @ moved[:3, :3].T + moved[:3, 3]
    top, left, *region = item["roi"].tolist() if "roi" in item else (0, 0, *item["original_size"].tolist())
    factor = torch.tensor(size) / torch.tensor(region)
    return (points - torch.tensor([top, left]) + 0.5) * factor - 0.5


def _by(size: Sequence[int]) -> str:
    return " x ".join(map(str, size))
