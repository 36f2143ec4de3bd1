"""Lists of dermoscopy images and lesion masks, from the official ISIC folders (2016, 2017, 2018) or plain ones.

A list is complete or it is refused: images without masks, masks without images and ambiguous names raise
`DatasetLayoutError` with the folder and, where it helps, the layouts that are accepted.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Literal, NamedTuple

from monai_ext.data.passed_over import log_passed_over
from monai_ext.raster.labels import Labels, checked_labels, structures_of_labels
from monai_ext.runtime.errors import some_of
from monai_ext.storage.folders import files_in, folders_in

__all__ = ["DatasetLayoutError", "image_items", "lesion_items"]

IMAGE_SUFFIXES = frozenset(".bmp .gif .jfif .jp2 .jpe .jpeg .jpg .pbm .pgm .png .ppm .tga .tif .tiff .webp".split())
SUPERPIXELS = re.compile(r"_superpixels$", re.IGNORECASE)  # beside the images of 2017, and no masks
MASK_ENDING = re.compile(r"_(segmentation|mask)$", re.IGNORECASE)
OFFICIAL_FOLDERS = (
    (2016, r"ISBI2016_ISIC_Part1_(Training|Test)_(Data|GroundTruth)"),
    (2017, r"ISIC-2017_(Training|Validation|Test)(?:_v2)?(?:_Part1)?_(Data|GroundTruth)"),
    (2018, r"ISIC2018_Task1(?:-2)?_(Training|Validation|Test)_(Input|GroundTruth)"),
)
LAYOUTS = (
    "ISIC-2017_Training_Data/ with ISIC-2017_Training_Part1_GroundTruth/, "
    "ISIC2018_Task1-2_Training_Input/ with ISIC2018_Task1_Training_GroundTruth/, "
    "ISBI2016_ISIC_Part1_Training_Data/ with ISBI2016_ISIC_Part1_Training_GroundTruth/ "
    "(Validation and Test parts likewise), or images/ with masks/ (masks named as the image, "
    "or ending in _segmentation or _mask)"
)

Part = Literal["training", "validation", "test"]


class DatasetLayoutError(ValueError):
    """A folder that does not hold the images and masks it should; the message names the folder and the remedy."""


class _Folders(NamedTuple):
    images: Path | None
    masks: Path | None


def lesion_items(
    dataset_dir: str | os.PathLike,
    *,
    part: Part = "training",
    edition: int | None = None,
    require_masks: bool = True,
    labels: Labels = None,
) -> list[dict[str, Any]]:
    """Items {"id", "image", "label"} (the latter two are paths) of one part of a lesion data set, sorted by id.

    The id is the image's name without extension, such as ISIC_0000000. Accepted are the official folders of ISIC 2016,
    2017 and 2018 task 1, up to two levels below `dataset_dir` and with any other parts or editions beside them, and
    `images/` with `masks/` directly in it, which counts as the training part. `*_superpixels.png` and hidden files
    are never taken for images or masks.

    Args:
        edition: 2016, 2017 or 2018, needed only where `dataset_dir` holds several (they share images).
        require_masks: False lets images without a mask through, as items without "label".
        labels: which values of the masks are foreground, or which structures they are, see `read_mask`; the items have
            them as "label_values" and the names of the structures as "structures".

    Raises:
        DatasetLayoutError: no such folder or layout, no images, an image without mask (if required), a mask without
            image, two files for one id, several editions to choose from.
    """
    root = Path(dataset_dir)
    if not root.is_dir():
        raise DatasetLayoutError(f"dataset_dir={str(root)!r} is not a folder.")
    folders = _find_folders(root, part, edition)
    if folders.images is None:
        raise DatasetLayoutError(f"found the masks in {folders.masks}, but no folder of their images in {root}.")
    images = _by_id(folders.images, masks=False)
    if not images:
        raise DatasetLayoutError(f"no image file lies in {folders.images}.")
    if folders.masks is None:
        if require_masks:
            raise DatasetLayoutError(
                f"found images in {folders.images}, but no folder of their masks; accepted are {LAYOUTS}."
            )
        masks = {}
    else:
        masks = _by_id(folders.masks, masks=True)
    if require_masks and (lonely := sorted(images.keys() - masks.keys())):
        raise DatasetLayoutError(
            f"{len(lonely)} of the {len(images)} images in {folders.images} have no mask in {folders.masks}: "
            f"{some_of(lonely)}."
        )
    if lonely := sorted(masks.keys() - images.keys()):
        raise DatasetLayoutError(
            f"{len(lonely)} of the {len(masks)} masks in {folders.masks} have no image in {folders.images}: "
            f"{some_of(lonely)}."
        )
    further: dict[str, Any] = {} if checked_labels(labels) is None else {"label_values": labels}
    if structures := structures_of_labels(labels):
        further["structures"] = structures
    return [
        {"id": name, "image": str(path)} | ({"label": str(masks[name]), **further} if name in masks else {})
        for name, path in sorted(images.items())
    ]


def image_items(folder_or_file: str | os.PathLike) -> list[dict[str, str]]:
    """Items {"id", "image"} of one image file, or of every image directly in a folder, sorted by id.

    In a folder, masks (`*_segmentation`, `*_mask`), superpixels and other files are passed over, with a line in the
    log.

    Raises:
        DatasetLayoutError: nothing is there, the folder has no images, or two images share an id.
    """
    path = Path(folder_or_file)
    if path.is_file():
        check_name(path)
        return [{"id": path.stem, "image": str(path)}]
    if not path.is_dir():
        raise DatasetLayoutError(f"{str(path)!r} is neither an image file nor a folder.")
    images = _by_id(path, masks=False, and_masks=True)
    if not images:
        raise DatasetLayoutError(
            f"no image file lies in {path}: name the folder that holds them directly, or convert them to "
            f"one of {' '.join(sorted(IMAGE_SUFFIXES))}."
        )
    return [{"id": name, "image": str(file)} for name, file in sorted(images.items())]


def check_name(path: Path) -> None:
    """Refuse the name of a file or folder that is no Unicode, which no table could hold.

    Raises:
        DatasetLayoutError: shows the name with its bytes escaped.
    """
    try:
        path.name.encode()
    except UnicodeEncodeError as error:
        raise DatasetLayoutError(f"the name of {str(path)!r} is not UTF-8 and cannot be an id: rename it.") from error


def _find_folders(root: Path, part: Part, edition: int | None) -> _Folders:
    if part not in ("training", "validation", "test"):
        raise ValueError(f"part is {part!r}: choose 'training', 'validation' or 'test'.")
    if edition not in (None, *(year for year, _ in OFFICIAL_FOLDERS)):
        raise ValueError(f"edition is {edition!r}: choose 2016, 2017 or 2018.")
    plain = {child.name.lower(): child for child in folders_in(root)}
    if edition is None and "images" in plain:
        if part != "training":
            raise DatasetLayoutError(f"{root} holds one plain set, images/ with masks/, and no {part} part.")
        return _Folders(plain["images"], plain.get("masks"))

    official = _official_folders(root)
    found = {year: pair for (year, name), pair in official.items() if name == part and edition in (None, year)}
    if len(found) > 1:
        raise DatasetLayoutError(
            f"{root} holds the {part} part of ISIC {some_of(sorted(map(str, found)))}, which share images: "
            "choose one by edition=."
        )
    if not found:
        there = [f"the {name} part of {year}" for year, name in sorted(official)]
        wanted = f"{part} part" + (f" of ISIC {edition}" if edition else "")
        detail = f"only {', '.join(there)}" if there else "none of the known folders"
        raise DatasetLayoutError(f"no {wanted} in {root}, {detail}; accepted are {LAYOUTS}.")
    return next(iter(found.values()))


def _official_folders(root: Path) -> dict[tuple[int, str], _Folders]:
    """(edition, part) -> its folders among the folders one and two levels below `root`."""
    images: dict[tuple[int, str], Path] = {}
    masks: dict[tuple[int, str], Path] = {}
    outer = folders_in(root)
    readable = (each for each in outer if os.access(each, os.R_OK | os.X_OK))
    for folder in sorted([*outer, *(inner for each in readable for inner in folders_in(each))]):
        for year, pattern in OFFICIAL_FOLDERS:
            if match := re.fullmatch(pattern, folder.name, re.IGNORECASE):
                kind = masks if match[2].lower() == "groundtruth" else images
                # A zip unpacked into a folder of its own name: the inner one, which comes later, has the files.
                kind[year, match[1].lower()] = folder
    return {key: _Folders(images.get(key), masks.get(key)) for key in images.keys() | masks.keys()}


def _by_id(folder: Path, *, masks: bool, and_masks: bool = False) -> dict[str, Path]:
    """id -> file of the images, or masks, that lie directly in a folder; with `and_masks` both lie there."""
    files: dict[str, Path] = {}
    others: list[Path] = []
    superpixels: list[Path] = []
    for path in files_in(folder):
        if SUPERPIXELS.search(path.stem):
            superpixels.append(path)
            continue
        if path.suffix.lower() not in IMAGE_SUFFIXES or (and_masks and MASK_ENDING.search(path.stem)):
            others.append(path)
            continue
        name = MASK_ENDING.sub("", path.stem) if masks else path.stem
        check_name(path)
        if name in files:
            kind = "masks" if masks else "images"
            raise DatasetLayoutError(
                f"two {kind} in {folder} have the id {name}: {files[name].name} and {path.name}: rename or remove one."
            )
        files[name] = path
    log_passed_over(folder, others, folders_in(folder), expected=superpixels)
    return files
