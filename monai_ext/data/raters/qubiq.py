"""Lists of cases with several raters, in the folders of the QUBIQ challenge (2020, 2021).

A rater is identified by the number in the name of the file, `task01_seg03.nii.gz`, never by its place in a
listing, and has the same column in all cases, also in those where the file is missing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from monai_ext.data.isic import DatasetLayoutError, check_name
from monai_ext.data.passed_over import log_passed_over
from monai_ext.data.raters.structures import structure_names, together
from monai_ext.raster.dicom import is_dicom
from monai_ext.raster.labels import Labels, checked_labels
from monai_ext.raster.nifti import open_nifti
from monai_ext.runtime.errors import some_of
from monai_ext.storage.folders import files_in, folders_in

__all__ = ["PARTS", "find_parts", "identified_raters", "qubiq_items", "slice_count", "slice_items"]

PARTS = ("training", "validation", "testing")
IMAGE_NAME = re.compile(r"image\.(nii|nii\.gz|dcm)", re.IGNORECASE)
SERIES = "image"  # a folder with the files of a DICOM series
MASK_NAME = re.compile(r"task(\d+)_seg(\d+)\.nii(?:\.gz)?", re.IGNORECASE)
# A copy, another version or another spelling of a mask; tables and texts about one are none.
ALMOST_A_MASK = re.compile(r"(?!.*\.(?:json|csv|txt|md)$)(?:.*task[\W_]*\d+.*seg|seg[ _-]*\d)", re.IGNORECASE)
SAME_NAME = re.compile(r"task(\d+)_seg(\d+)\.(?:png|jpe?g|tiff?)", re.IGNORECASE)
LAYOUT = "<region>/Training/case01/image.nii.gz with task01_seg01.nii.gz, task01_seg02.nii.gz, ..."


class _Case(NamedTuple):
    folder: Path
    image: Path | None
    masks: dict[tuple[int, int], Path]  # (task, rater) -> file
    others: list[Path]  # files and folders that are passed over


def qubiq_items(
    dataset_dir: str | os.PathLike,
    *,
    region: str | None = None,
    part: str = "Training",
    task: int = 1,
    tasks: Sequence[int] | None = None,
    raters: Sequence[int] | None = None,
    anonymous: bool = False,
    slices: bool = False,
    require_masks: bool = True,
    labels: Labels = None,
) -> list[dict]:
    """One item for each case, or for each slice of each case, in natural order of the case names (case2 before case10).

    An item is {"id", "case", "image": path, "label": [path or None, ...], "raters": [number, ...], "task", "anonymous"}
    and, for slices, "slice". Entry r of "label" is the mask of rater `raters[r]`, None where that one did not mark
    the case; "raters" is the same list in all items. The id is the name of the case folder, followed by _task02 where
    the cases have several tasks and by _z014 for slices. Where no rater is known, "label" and "raters" are absent.

    `dataset_dir` holds `<region>/{Training,Validation,Testing}/<case>/`, or these folders from any level on. Case
    folders that lie there directly count as the training part, in a folder that is named after a part as that one. A
    case holds `image.nii.gz` and `taskTT_segRR.nii.gz` (or .nii); the image may be DICOM, `image.dcm` or a series in
    the folder `image`. Files with almost such a name are an error; others are passed over, with a line in the log, and
    hidden folders.

    Several `tasks`, or the structures of `labels`, are those of one item, see `monai_ext.data.raters.structures`:
    "label" then has R x K entries, the K structures of the first rater first, "structures" their names; "tasks" are the
    numbers of several tasks, and the id is the name of the case.

    Args:
        region: folder of the organ; needed where `dataset_dir` holds regions.
        part: "Training", "Validation" or "Testing", in any case of letters.
        task: number TT.
        tasks: numbers of K tasks that are read together, in the order of the structures; None or []: `task` alone.
        raters: raters to take, in the order of the columns; None: all who marked this task in any part, ascending.
            Give it where training and validation data lie apart: whoever marked nothing here is missing in all cases.
        anonymous: seg01 of one case is not the person of seg01 in another, as in LIDC; see `identified_raters`.
        slices: the files are volumes; list their slices along the third axis.
        require_masks: False lets cases through that nobody has marked.
        labels: which values of the masks are foreground, see `binary_mask`, or which structures they are, see
            `read_mask`; the items have them as "label_values".

    Raises:
        DatasetLayoutError: no such folder, part, task or rater; a case without image, without masks (if required),
            or with two files for one thing.
        ImageFileError: the header of a volume cannot be read (`slices` alone).
    """
    if part.lower() not in PARTS:
        raise ValueError(f"part is {part!r}: choose 'Training', 'Validation' or 'Testing'.")
    parts = find_parts(Path(dataset_dir), region)
    if part.lower() not in parts:
        raise DatasetLayoutError(f"{dataset_dir} has no {part.lower()} part, only: {', '.join(parts)}.")
    everywhere = {name: _read_cases(folder) for name, folder in parts.items()}
    cases = everywhere[part.lower()]
    log_passed_over(
        parts[part.lower()],
        [*files_in(parts[part.lower()]), *(path for case in cases for path in case.others)],
    )
    known = {key for listed in everywhere.values() for case in listed for key in case.masks}
    wanted = together(tasks) or [task]
    structures = structure_names(tasks=tasks, labels=labels)
    copies = len(structures or [""]) // len(wanted)  # of a file, where its labels are several structures
    numbers = _columns(known, wanted, raters, parts[part.lower()], needed=require_masks)
    several = len({number for number, _ in known}) > 1 and not together(tasks)
    items: list[dict] = []
    for case in cases:
        if case.image is None:
            raise DatasetLayoutError(
                f"case {case.folder} has no image: expected image.nii.gz beside "
                + (f"{len(case.masks)} rater files" if case.masks else "task01_seg01.nii.gz, ...")
                + (f"; there are {some_of([path.name for path in case.others])}." if case.others else ".")
            )
        masks = [case.masks.get((own, number)) for number in numbers for own in wanted for _ in range(copies)]
        if require_masks and not any(masks):
            raise DatasetLayoutError(
                f"case {case.folder} has no mask of task {some_of(wanted)} by any of the raters {some_of(numbers)}: "
                f"expected task{wanted[0]:02d}_seg{numbers[0]:02d}.nii.gz, ...; set require_masks=False for cases to "
                "predict only."
            )
        name = case.folder.name
        item: dict[str, Any] = {
            "id": f"{name}_task{task:02d}" if several else name,
            "case": name,
            "image": str(case.image),
        }
        if numbers:
            item |= {"label": [None if mask is None else str(mask) for mask in masks], "raters": list(numbers)}
        item |= {"task": wanted[0], "anonymous": anonymous}
        if together(tasks):
            item["tasks"] = wanted
        if structures:
            item["structures"] = structures
        if numbers and checked_labels(labels) is not None:
            item["label_values"] = labels
        items += slice_items(item) if slices else [item]
    return items


def identified_raters(items: Iterable[Mapping]) -> list[int]:
    """Numbers of the raters, column by column, for whatever trains or scores a single rater.

    >>> identified_raters([{"case": "case01", "raters": [1, 3]}, {"case": "case02", "raters": [1, 3]}])
    [1, 3]

    Raises:
        ValueError: the raters are anonymous, unknown, or not the same columns in all items.
    """
    columns: list[int] | None = None
    for item in items:
        if item.get("anonymous"):
            raise ValueError(
                f"the raters of case {item['case']} are anonymous: the first of one case is another person than "
                "the first of the next, so nothing can be learnt or scored for a single rater. Use all of them "
                "alike (majority vote, soft labels, probabilistic U-Net), or set anonymous=False if the numbers in the "
                "file names do stand for persons."
            )
        if not item.get("raters"):
            raise ValueError(f"case {item['case']} has no raters: a part without masks cannot train or score any.")
        if columns is not None and list(item["raters"]) != columns:
            raise ValueError(
                f"case {item['case']} has the raters {list(item['raters'])}, the cases before {columns}: list all "
                "parts with the same raters=."
            )
        columns = list(item["raters"])
    if columns is None:
        raise ValueError("there are no items to take the raters from.")
    return columns


def find_parts(root: Path, region: str | None) -> dict[str, Path]:
    """Part in small letters -> its folder of cases."""
    folder = root if region is None else root / region
    if not folder.is_dir():
        if not root.is_dir():
            raise DatasetLayoutError(f"dataset_dir={str(root)!r} is not a folder.")
        there = some_of([f.name for f in _subfolders(root)])
        raise DatasetLayoutError(f"{root} has no region {region!r}, only {there}.")
    if folder.name.lower() in PARTS and _holds_cases(folder):
        own = folder.name.lower()
        beside = _parts_in(folder.parent)
        return {own: folder} | {name: path for name, path in beside.items() if name != own}
    if parts := _parts_in(folder):
        return parts
    if _holds_cases(folder):
        return {"training": folder}
    regions = [child.name for child in _subfolders(folder) if _parts_in(child) or _holds_cases(child)]
    if regions:
        raise DatasetLayoutError(f"{folder} holds the regions {some_of(regions)}: choose one by region=.")
    raise DatasetLayoutError(
        f"no cases in {folder}; expected is {LAYOUT} (`monai_ext convert` makes it of other layouts)."
    )


def _parts_in(folder: Path) -> dict[str, Path]:
    return {child.name.lower(): child for child in _subfolders(folder) if child.name.lower() in PARTS}


def _subfolders(folder: Path) -> list[Path]:
    """Folders in natural order, without hidden ones and what archives of a Mac leave behind."""
    return sorted(folders_in(folder), key=lambda path: (_natural(path.name), path.name))


def _natural(name: str) -> list[str | int]:
    return [int(piece) if place % 2 else piece.lower() for place, piece in enumerate(re.split(r"([0-9]+)", name))]


def _holds_cases(folder: Path) -> bool:
    names = (name for child in folders_in(folder) for name in os.listdir(child))
    return any(IMAGE_NAME.fullmatch(name) or MASK_NAME.fullmatch(name) for name in names)


def _read_cases(folder: Path) -> list[_Case]:
    cases = [_read_case(child) for child in _subfolders(folder)]
    if not cases:
        raise DatasetLayoutError(f"no case folder lies in {folder}; expected is {LAYOUT}.")
    return cases


def _read_case(folder: Path) -> _Case:
    check_name(folder)
    image: Path | None = None
    masks: dict[tuple[int, int], Path] = {}
    others: list[Path] = []
    for name in sorted(os.listdir(folder)):
        if match := MASK_NAME.fullmatch(name):
            path, key = folder / name, (int(match[1]), int(match[2]))
            if key in masks:
                raise DatasetLayoutError(
                    f"case {folder} has two masks of rater {key[1]} for task {key[0]}: {masks[key].name} and {name}."
                )
            masks[key] = path
        elif IMAGE_NAME.fullmatch(name) or (name == SERIES and is_dicom(folder / name)):
            if image is not None:
                raise DatasetLayoutError(f"case {folder} has two images: {image.name} and {name}.")
            image = folder / name
        elif not name.startswith("."):
            others.append(folder / name)
    for path in others:
        shown = SAME_NAME.fullmatch(path.name)  # a picture of a mask that is there
        if ALMOST_A_MASK.match(path.name) and not (shown and (int(shown[1]), int(shown[2])) in masks):
            raise DatasetLayoutError(
                f"{path} has almost the name of a rater's mask: expected is task01_seg03.nii.gz, the numbers being "
                "those of task and rater; rename it, or move it out of the case's folder."
            )
    return _Case(folder, image, masks, others)


def _columns(
    known: set[tuple[int, int]], tasks: Sequence[int], raters: Sequence[int] | None, folder: Path, *, needed: bool
) -> list[int]:
    """The raters of the columns, checked against those who marked the tasks anywhere."""
    there = sorted({rater for number, rater in known if number in tasks})
    for task in tasks:
        if known and not any(number == task for number, _ in known):
            listed = some_of(sorted({number for number, _ in known}))
            way_out = "choose task=" if len(tasks) == 1 else "choose tasks="
            raise DatasetLayoutError(f"nobody marked task {task} in {folder}, only {listed}: {way_out}.")
    if not known and needed:
        raise DatasetLayoutError(
            f"no rater file lies in the cases of {folder}; expected is {LAYOUT}, or set require_masks=False for "
            "cases to predict only."
        )
    if raters is None:
        return there
    if len(set(raters)) != len(raters) or not raters:
        raise ValueError(f"raters is {list(raters)}: give different numbers, at least one.")
    if there and not set(raters) & set(there):
        raise DatasetLayoutError(f"raters {some_of(raters)} marked nothing in {folder}, only {some_of(there)} did.")
    return list(raters)


def slice_count(item: Mapping) -> int:
    """The number of slices of an item's volume, along its third axis."""
    shape = open_nifti(item["image"]).shape
    return shape[2] if len(shape) > 2 else 1


def slice_items(item: Mapping) -> list[dict]:
    """An item for each slice of an item's volume, along its third axis."""
    depth = slice_count(item)
    digits = max(3, len(str(depth - 1)))
    return [{**item, "id": f"{item['id']}_z{index:0{digits}d}", "slice": index} for index in range(depth)]
