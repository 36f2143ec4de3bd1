"""Images for rater networks: cases of the QUBIQ layout, NIfTI or DICOM or photographs, as one list of items."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from monai_ext.data.isic import IMAGE_SUFFIXES, DatasetLayoutError
from monai_ext.data.passed_over import log_passed_over
from monai_ext.data.raters.decoding import DecodeRaters
from monai_ext.data.raters.geometry import Reading
from monai_ext.data.raters.qubiq import find_parts, qubiq_items, slice_items
from monai_ext.data.raters.structures import structure_names, together
from monai_ext.raster.dicom import dicom_files, is_dicom
from monai_ext.raster.images import ImageFileError, read_image
from monai_ext.raster.labels import Labels
from monai_ext.raster.nifti import VOLUME_ENDINGS, is_scan, is_volume_file, read_nifti
from monai_ext.runtime.settings import as_bool
from monai_ext.storage.folders import files_in, folders_in

__all__ = ["DecodeRaterImages", "case_image", "rater_image_items", "read_grey"]

LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601


def read_grey(path: str | os.PathLike) -> Tensor:
    """The luminance of a photograph (1, H, W), float32 of whole numbers 0 ... 255; see `read_image`."""
    picture = read_image(path).float()
    return torch.einsum("chw,c->hw", picture, torch.tensor(LUMINANCE)).round()[None]


def case_image(item: Mapping, size: tuple[int, ...]) -> np.ndarray:
    """The image of an item of `qubiq_items` with its channels first, float32 (C, *size), as stored.

    Args:
        size: of the masks of the case; a scan of another size gives 0 alone.
    """
    if not is_scan(item["image"]):
        return read_image(item["image"]).float().numpy()
    values = read_nifti(item["image"]).astype(np.float32)
    for axis in range(values.ndim):
        if values.shape[:axis] + values.shape[axis + 1 :] == size:
            return np.moveaxis(values, axis, 0)
    return values[None] if values.shape == size else np.zeros((1, *size), np.float32)


def rater_image_items(
    path: str | os.PathLike,
    *,
    region: str | None = None,
    part: str | None = None,
    task: int = 1,
    tasks: Sequence[int] | None = None,
    labels: Labels = None,
    slices: bool | str = False,
) -> list[dict]:
    """Items to predict: one picture, every picture directly in a folder, or the cases of a QUBIQ folder.

    Pictures are NIfTI files, photographs, DICOM files and series; an item is {"id", "case", "image", "task"}, its id
    the name of the file without ending, or of the folder of a series. Series lie each in a folder of its own: `path`
    itself or folders in it. Without pictures the folder is read as `qubiq_items` reads it, masks not required.

    Args:
        region, task, tasks, labels, slices: see `qubiq_items`; photographs have no slices.
        part: "Training", "Validation" or "Testing"; None where there is only one.

    Raises:
        DatasetLayoutError: nothing is there, two pictures share a name, or several parts are there and none is chosen.
    """
    path, slices = Path(path), as_bool(slices, "slices")
    several, structures = together(tasks), structure_names(tasks=tasks, labels=labels)
    numbers: dict[str, Any] = {"task": several[0], "tasks": several} if several else {"task": task}
    if structures:
        numbers["structures"] = structures
    if path.is_file():
        return _sliced([_picture_item(path, numbers)]) if slices else [_picture_item(path, numbers)]
    if region is None and part is None and path.is_dir():
        files = files_in(path)
        slices_of = dicom_files(path)
        single = all(len(group) == 1 for group in slices_of)
        pictures = [file for file in files if _is_picture(file)]
        pictures += [group[0] for group in slices_of] if single else [path]
        folders = folders_in(path)
        series = [] if pictures else [folder for folder in folders if is_dicom(folder)]
        if pictures or series:
            skipped = (file for file in files if not _is_picture(file) and not is_dicom(file))
            log_passed_over(path, skipped, (folder for folder in folders if folder not in series))
            items = _distinct([_picture_item(file, numbers) for file in [*pictures, *series]], path)
            return _sliced(items) if slices else items
    if part is None:
        parts = list(find_parts(path, region))
        if len(parts) > 1:
            raise DatasetLayoutError(f"{path} holds the parts {', '.join(parts)}: choose one by part=.")
        part = parts[0]
    return qubiq_items(
        path, region=region, part=part, task=task, tasks=tasks, labels=labels, slices=slices, require_masks=False
    )


class DecodeRaterImages(DecodeRaters):
    """`DecodeRaters` for photographs as well, and only for images of the channels that a network takes.

    A photograph becomes grey (luminance) for one channel and RGB for three; it has no label.

    Args:
        in_channels: of the network.
        settings: see `DecodeRaters`.

    Raises (when called):
        ImageFileError: another number of channels, or as `DecodeRaters`; names the file.
    """

    def __init__(self, *, in_channels: int = 1, **settings: Any):
        super().__init__(**settings)
        self.in_channels = in_channels

    def _decoded(self, data: Mapping) -> tuple[dict[str, Any], np.ndarray, list[np.ndarray | None], list[Reading]]:
        path = data["image"]
        decoded = super()._decoded(data) if is_scan(path) else self._photograph(data)
        channels = len(decoded[0]["image"])
        if channels != self.in_channels:
            raise ImageFileError(
                f"image {path} has {channels} channel(s), the network takes {self.in_channels}: set "
                f"in_channels={channels}."
            )
        return decoded

    def _photograph(self, data: Mapping) -> tuple[dict[str, Any], np.ndarray, list[np.ndarray | None], list[Reading]]:
        path = data["image"]
        if self.spatial_dims == 3:
            raise ImageFileError(f"{path} is a photograph and no volume: set spatial_dims=2.")
        picture = (read_grey(path) if self.in_channels == 1 else read_image(path).float()).numpy()
        item = {"id": str(data.get("id", Path(path).stem)), "image": self._to_dtype(self._pixels(picture, path), path)}
        return item | self._place(picture.shape[1:], None, labelled=False), picture, [], []


def _is_picture(path: Path) -> bool:
    return not path.name.startswith(".") and (is_volume_file(path) or path.suffix.lower() in IMAGE_SUFFIXES)


def _picture_item(path: Path, numbers: Mapping) -> dict:
    name = path.name
    if path.suffix[1:].isdigit() or (
        not _is_picture(path) and path.is_dir()
    ):  # of a series, or of a DICOM file that is called by numbers
        return {"id": name, "case": name, "image": str(path), **numbers}
    for ending in VOLUME_ENDINGS:
        if name.lower().endswith(ending):
            name = name[: -len(ending)]
            break
    else:
        name = path.stem
    return {"id": name, "case": name, "image": str(path), **numbers}


def _sliced(items: Sequence[dict]) -> list[dict]:
    return [each for item in items for each in (slice_items(item) if is_scan(item["image"]) else [item])]


def _distinct(items: list[dict], folder: Path) -> list[dict]:
    seen: dict[str, str] = {}
    for item in items:
        if item["id"] in seen:
            raise DatasetLayoutError(
                f"{folder} holds two pictures of the name {item['id']}: {seen[item['id']]} and {item['image']}."
            )
        seen[item["id"]] = item["image"]
    return items
