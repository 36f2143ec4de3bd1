"""Layouts that are recognised by the names of folders and files."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from monai_ext.data.isic import IMAGE_SUFFIXES, MASK_ENDING, DatasetLayoutError
from monai_ext.data.layouts.found import FoundCase, MaskKey
from monai_ext.data.split_files import PARTS, groups_in
from monai_ext.raster.nifti import VOLUME_ENDINGS
from monai_ext.runtime.errors import one_line, some_of
from monai_ext.storage.folders import files_in, folders_in

__all__ = ["ham10000", "monai_label", "named_parts", "npz_packs", "ph2", "rater_folders", "rater_suffixes"]

IMAGE_FOLDERS = ("images", "image", "imgs", "img")
MASK_FOLDERS = ("masks", "mask", "labels", "annotations", "segmentations")
RATER_ENDING = re.compile(
    r"(?P<name>.+?)[_.-](?P<rater>(?:rater|annotator|reader|expert|observer|obs|seg)[_-]?\w+|r[_-]?\d+)", re.IGNORECASE
)
ONE_RATER = "1"


def stem_of(path: Path) -> str:
    """The name of a file without its ending, .nii.gz being one.

    >>> stem_of(Path("case1.nii.gz")), stem_of(Path("case.1.png"))
    ('case1', 'case.1')
    """
    for ending in VOLUME_ENDINGS:
        if path.name.lower().endswith(ending):
            return path.name[: -len(ending)]
    return path.stem


def pictures_in(folder: Path) -> dict[str, Path]:
    """Name -> picture or volume file that lies directly in a folder; none, where there is no such folder.

    Raises:
        DatasetLayoutError: two have the same name.
    """
    found: dict[str, Path] = {}
    for path in files_in(folder) if folder.is_dir() else ():
        if path.name.startswith(".") or not path.name.lower().endswith((*IMAGE_SUFFIXES, *VOLUME_ENDINGS)):
            continue
        if (other := found.setdefault(stem_of(path), path)) != path:
            raise DatasetLayoutError(f"{folder} has two files of the name {stem_of(path)}: {other.name}, {path.name}.")
    return found


def rater_folders(root: Path) -> list[FoundCase] | None:
    """images/case.png with rater_1/case.png, rater_2/case.png, ..., the folders of the raters having any names."""
    there = {folder.name.lower(): folder for folder in folders_in(root)}
    images = next((there.pop(name) for name in IMAGE_FOLDERS if name in there), None)
    if images is None:
        return None
    inner = next((there[name] for name in MASK_FOLDERS if name in there and len(there) == 1), None)
    raters = folders_in(inner) if inner is not None and not pictures_in(inner) else list(there.values())
    masks = {folder.name: pictures_in(folder) for folder in sorted(raters)}
    if len(masks) < 2 or not any(masks.values()):
        return None
    pictures = pictures_in(images)
    strangers = sorted({f"{rater}/{name}" for rater, own in masks.items() for name in own if name not in pictures})
    if strangers:
        raise DatasetLayoutError(f"{len(strangers)} masks in {root} have no picture in {images}: {some_of(strangers)}.")
    return [
        FoundCase(name, image, {MaskKey(rater): own[name] for rater, own in masks.items() if name in own})
        for name, image in sorted(pictures.items())
    ]


def rater_suffixes(root: Path) -> list[FoundCase] | None:
    """case.png with case_rater1.png, case_rater2.png (reader, expert, observer, seg, r), in one folder or in two."""
    there = {folder.name.lower(): folder for folder in folders_in(root)}
    images = next((there[name] for name in IMAGE_FOLDERS if name in there), root)
    masks = next((there[name] for name in MASK_FOLDERS if name in there), images)
    pictures, marked = pictures_in(images), pictures_in(masks)
    found: dict[str, dict[MaskKey, Path]] = defaultdict(dict)
    for name, path in marked.items():
        if (match := RATER_ENDING.fullmatch(name)) and match["name"] in pictures:
            found[match["name"]][MaskKey(match["rater"])] = path
    if not found:
        return None
    taken = {stem_of(path) for own in found.values() for path in own.values()} if masks == images else set()
    return [FoundCase(name, path, found[name]) for name, path in sorted(pictures.items()) if name not in taken]


def ph2(root: Path) -> list[FoundCase] | None:
    """PH2: IMD003/IMD003_Dermoscopic_Image/IMD003.bmp with IMD003/IMD003_lesion/IMD003_lesion.bmp."""
    found = []
    for outer in (root, *folders_in(root)):
        for folder in folders_in(outer):
            images = pictures_in(folder / f"{folder.name}_Dermoscopic_Image")
            masks = pictures_in(folder / f"{folder.name}_lesion")
            if folder.name in images and f"{folder.name}_lesion" in masks:
                mask = {MaskKey(ONE_RATER): masks[f"{folder.name}_lesion"]}
                found.append(FoundCase(folder.name, images[folder.name], mask))
    return sorted(found, key=lambda case: case.name) or None


def ham10000(root: Path) -> list[FoundCase] | None:
    """HAM10000: images in HAM10000_images_part_1 and _2, masks in *segmentations*, HAM10000_metadata with lesion_id."""
    folders = [*folders_in(root), *(inner for folder in folders_in(root) for inner in folders_in(folder))]
    images = {
        name: path for folder in folders if "ham10000_images" in folder.name.lower()
        for name, path in pictures_in(folder).items()
    }  # fmt: skip
    if not images:
        return None
    masks = {
        MASK_ENDING.sub("", name): path for folder in folders if "segmentation" in folder.name.lower()
        for name, path in pictures_in(folder).items()
    }  # fmt: skip
    if absent := sorted(images.keys() - masks.keys()):
        raise DatasetLayoutError(f"{len(absent)} images of HAM10000 in {root} have no mask: {some_of(absent)}.")
    table = next((path for path in files_in(root) if path.stem.lower().startswith("ham10000_metadata")), None)
    lesions = {} if table is None else groups_in(table, "lesion_id")
    return [
        FoundCase(name, path, {MaskKey(ONE_RATER): masks[name]}, group=lesions.get(name))
        for name, path in sorted(images.items())
    ]


def named_parts(root: Path) -> list[FoundCase] | None:
    """train/, val/ and test/, each with images/ and masks/ of the same names."""
    parts = {PARTS[folder.name.lower()]: folder for folder in folders_in(root) if folder.name.lower() in PARTS}
    found: list[FoundCase] = []
    for part, folder in sorted(parts.items()):
        there = {inner.name.lower(): inner for inner in folders_in(folder)}
        images = next((there[name] for name in IMAGE_FOLDERS if name in there), None)
        masks = next((there[name] for name in MASK_FOLDERS if name in there), None)
        if images is None or masks is None:
            continue
        marked = {MASK_ENDING.sub("", name): path for name, path in pictures_in(masks).items()}
        for name, path in sorted(pictures_in(images).items()):
            if name not in marked:
                raise DatasetLayoutError(f"{path} has no mask in {masks}.")
            found.append(FoundCase(name, path, {MaskKey(ONE_RATER): marked[name]}, part=part))
    twice = [name for name, count in Counter(case.name for case in found).items() if count > 1]
    if twice:
        raise DatasetLayoutError(f"{root} has {some_of(twice)} in two parts.")
    return found or None


def npz_packs(root: Path) -> list[FoundCase] | None:
    """.npz files with images (N, H, W[, 3]) and masks (N, R, H, W), or reader_bits (N, H, W), bit r that of rater r.

    A file is a part, if it is called after one; `patient`, (N,), names what belongs together.
    """
    files = [root] if root.is_file() else files_in(root)
    packs = [path for path in files if path.suffix.lower() == ".npz"]
    found = [case for path in sorted(packs) for case in _of_pack(path)]
    return found or None


def _of_pack(path: Path) -> Iterator[FoundCase]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError) as error:
        raise DatasetLayoutError(f"cannot read {path}: {one_line(error)}.") from error
    images = next((arrays[name] for name in ("images", "image") if name in arrays), None)
    masks = next((arrays[name] for name in ("masks", "mask", "labels") if name in arrays), None)
    if masks is None and (bits := arrays.get("reader_bits")) is not None:
        raters = max(int(bits.max(initial=0)).bit_length(), 1)
        masks = (bits[:, None] >> np.arange(raters, dtype=bits.dtype)[:, None, None]) & 1
    if images is None or masks is None:
        raise DatasetLayoutError(f"{path} has {some_of(sorted(arrays))}, and no images with masks or reader_bits.")
    if images.ndim not in (3, 4) or masks.ndim != 4 or masks.shape[0] != len(images):
        raise DatasetLayoutError(
            f"{path} has images of shape {images.shape} and masks of {masks.shape}: (N, H, W[, 3]) and (N, R, H, W)."
        )
    part, patients = PARTS.get(path.stem.lower()), arrays.get("patient")
    digits = len(str(len(images) - 1))
    for number, (image, own) in enumerate(zip(images, masks, strict=True)):
        patient = None if patients is None else str(patients[number])
        name = f"{path.stem}{number:0{digits}d}" + ("" if patient is None else f"_p{patient}")
        of_raters = {MaskKey(str(rater)): mask.astype(np.uint8) for rater, mask in enumerate(own, 1)}
        yield FoundCase(name, image, of_raters, part=part, group=patient)


def monai_label(root: Path) -> list[FoundCase] | None:
    """MONAI Label's folder: pictures, and labels/<version>/ with a label of the same name; a version is a rater."""
    labels = root / "labels"
    if not labels.is_dir() or not folders_in(labels):
        return None
    pictures: Mapping[str, Path] = pictures_in(root)
    versions = {folder.name: pictures_in(folder) for folder in sorted(folders_in(labels))}
    if not pictures or not any(versions.values()):
        return None
    return [
        FoundCase(name, path, {MaskKey(version): own[name] for version, own in versions.items() if name in own})
        for name, path in sorted(pictures.items())
    ]
