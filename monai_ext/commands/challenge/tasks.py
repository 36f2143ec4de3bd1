"""The tasks of a folder in the layout of the QUBIQ challenge, and what a training must know of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from monai_ext.data import DatasetLayoutError
from monai_ext.data.raters.predictions import rater_truth
from monai_ext.data.raters.qubiq import PARTS, find_parts
from monai_ext.raster.nifti import open_nifti, without_singletons
from monai_ext.runtime.errors import some_of
from monai_ext.storage.folders import folders_in

__all__ = ["ChallengeTask", "find_tasks"]

LAYOUT = "<region>/Training/case01/image.nii.gz with task01_seg01.nii.gz, ..."


class ChallengeTask(NamedTuple):
    """One structure of one region."""

    region: str | None  # None where the folder holds a single region's parts itself
    task: int
    raters: tuple[int, ...]  # who marked it in the training part
    in_channels: int
    channel_axis: int | None  # which test cases without masks do not show
    slices: bool  # its files are volumes
    parts: tuple[str, ...]  # that there are, in small letters
    validation: bool  # whether every case of the validation part is marked

    @property
    def name(self) -> str:
        """Region and task, which is also the folder of its run."""
        return f"task{self.task:02d}" if self.region is None else f"{self.region}/task{self.task:02d}"


def find_tasks(folder: Path, regions: Sequence[str] = ()) -> list[ChallengeTask]:
    """Every task that anybody marked in the training part of each region, regions by name.

    Args:
        folder: holds `<region>/Training/<case>/`, or `Training/<case>/` of a single region.
        regions: those to take; empty: all.

    Raises:
        DatasetLayoutError: no such folder or region, or none with a marked training part.
    """
    if not folder.is_dir():
        raise DatasetLayoutError(f"{folder} is no folder: give that of the challenge's data.")
    children = {path.name: path for path in sorted(folders_in(folder))}
    if any(name.lower() == PARTS[0] for name in children):
        found: list[str | None] = [None]
    else:
        found = [name for name, path in children.items() if _has_training(path)]
    if regions:
        if absent := [name for name in regions if name not in found]:
            there = some_of([name for name in found if name is not None]) or "none"
            raise DatasetLayoutError(f"{folder} has no region {absent[0]!r} with a training part, only: {there}.")
        found = list(regions)
    if not found:
        raise DatasetLayoutError(f"no region in {folder} has a training part; expected is {LAYOUT}.")
    return [task for region in found for task in _tasks_of(folder, region)]


def _has_training(folder: Path) -> bool:
    return any(path.name.lower() == PARTS[0] for path in folders_in(folder))


def _tasks_of(folder: Path, region: str | None) -> list[ChallengeTask]:
    parts = tuple(find_parts(folder, region))
    truth = rater_truth(folder, region=region, part=PARTS[0])
    validated = _marked(folder, region) if PARTS[1] in parts else frozenset()
    tasks = []
    for number, items in truth.items():
        first = next(item for item in items if any(item["label"]))
        image = _shape(first["image"])
        mask = _shape(next(path for path in first["label"] if path is not None))
        columns = range(len(first["raters"]))
        marking = [first["raters"][c] for c in columns if any(item["label"][c] for item in items)]
        axis = _channel_axis(image, mask)
        channels = 1 if axis is None else image[axis]
        volumes, marked = len(mask) == 3, number in validated
        tasks.append(ChallengeTask(region, number, tuple(marking), channels, axis, volumes, parts, marked))
    return tasks


def _marked(folder: Path, region: str | None) -> frozenset[int]:
    """Tasks of which every case of the validation part has a mask."""
    try:
        truth: Mapping[int, Sequence[Mapping]] = rater_truth(folder, region=region, part=PARTS[1])
    except DatasetLayoutError:  # nobody marked anything there
        return frozenset()
    return frozenset(task for task, items in truth.items() if all(any(item["label"]) for item in items))


def _shape(path: str) -> tuple[int, ...]:
    return without_singletons(open_nifti(path).shape)


def _channel_axis(image: tuple[int, ...], mask: tuple[int, ...]) -> int | None:
    """The axis that an image has more than its masks; None where there is none."""
    if len(image) == len(mask):
        return None
    return next((axis for axis in range(len(image)) if image[:axis] + image[axis + 1 :] == mask), None)
