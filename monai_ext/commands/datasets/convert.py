"""`convert`: data sets in the layouts that others use, as folders that training, scoring and `check` read."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from monai_ext.commands.command_line import Positional
from monai_ext.commands.datasets.layout_names import LayoutName
from monai_ext.data.isic import DatasetLayoutError
from monai_ext.data.layouts import ONE_STRUCTURE, FoundCase, MaskKey, mask_of, read_layout
from monai_ext.raster.images import read_image
from monai_ext.raster.nifti import is_volume_file, open_nifti, save_nifti
from monai_ext.runtime.errors import some_of
from monai_ext.runtime.run_log import progress, tell
from monai_ext.storage.files import atomic_path, inside, write_table
from monai_ext.storage.pictures import save_picture

__all__ = ["ConvertOptions", "convert", "run", "write_cases"]

PARTS = {"training": "Training", "validation": "Validation", "test": "Testing"}
PLAIN = ("images", "masks")


@dataclass(frozen=True)
class ConvertOptions:
    """Write a data set in another layout as one that the bundles and commands read.

    With one mask for each picture: images/ and masks/. With several raters, or structures that overlap: the layout of
    the QUBIQ challenge, Training/case/image.nii.gz with task01_seg01.nii.gz and so on; raters.csv and tasks.csv have
    the names of the numbers. Parts and groups that the layout has become split.csv, for --split_file and --group.
    """

    source: Positional[Path]
    """the data set: a folder, or one file of COCO or .npz"""
    output_dir: Path
    """a new folder"""
    layout: LayoutName = "auto"
    """what docs/layouts.md calls it; auto: the first that fits"""
    raters: bool = False
    """write the layout of several raters although there is one"""

    def __post_init__(self) -> None:
        if self.output_dir.exists() and any(self.output_dir.iterdir() if self.output_dir.is_dir() else [1]):
            raise ValueError(f"{self.output_dir} is there already: choose a new folder.")


def run(options: ConvertOptions) -> int:
    """Convert, and print how to look at the result."""
    layout, cases = convert(options.source, options.output_dir, layout=options.layout, raters=options.raters)
    plain = (options.output_dir / PLAIN[0]).is_dir()
    kind = "lesion" if plain else "raters"
    tell(f"{len(cases)} cases of {options.source}, read as {layout}, are in {options.output_dir}")
    tell(f"look at them: monai_ext check {options.output_dir} --kind {kind}")
    return 0


def convert(
    source: Path, output_dir: Path, *, layout: str = "auto", raters: bool = False
) -> tuple[str, list[FoundCase]]:
    """Write the cases of `source` below `output_dir`; returns the name of the layout and the cases.

    Raises:
        DatasetLayoutError: see `read_layout`; structures of one rater overlap in a label map.
        ImageFileError, ValueError: see `mask_of`.
    """
    layout, cases = read_layout(source, layout)
    write_cases(cases, output_dir, raters=raters)
    return layout, cases


def write_cases(cases: Sequence[FoundCase], output_dir: Path, *, raters: bool = False) -> None:
    """Write cases in a layout that is read, see `ConvertOptions`; errors as `convert`."""
    numbers = sorted({key.rater for case in cases for key in case.masks}, key=_natural)
    structures = sorted({key.structure for case in cases for key in case.masks}, key=_natural)
    write = _write_raters if raters or len(numbers) > 1 or any(_is_volume(case) for case in cases) else _write_plain
    write(cases, output_dir, numbers, structures)
    _write_splits(cases, output_dir)


def _write_plain(cases: Sequence[FoundCase], folder: Path, raters: Sequence[str], structures: Sequence[str]) -> None:
    for case in _shown(cases):
        image = case.image
        suffix = ".png" if isinstance(image, np.ndarray) else image.suffix
        with atomic_path(inside(folder / PLAIN[0], f"{case.name}{suffix}")) as temporary:
            if isinstance(image, np.ndarray):
                save_picture(Image.fromarray(image), temporary)
            else:
                shutil.copyfile(image, temporary)
        labels = np.zeros(case.size(), dtype=np.uint8)
        for value, structure in enumerate(structures, 1):
            if (key := MaskKey(raters[0], structure)) in case.masks:
                mask = mask_of(case, key) > 0
                if (labels[mask] > 0).any():
                    raise DatasetLayoutError(
                        f"{structure} of {case.name} overlaps another structure, and a label map has one value: "
                        "add --raters, for a mask of each."
                    )
                labels[mask] = 255 if len(structures) == 1 else value
        with atomic_path(inside(folder / PLAIN[1], f"{case.name}.png")) as temporary:
            save_picture(Image.fromarray(labels), temporary)
    _write_names(folder / "labels.csv", structures, "value")


def _write_raters(cases: Sequence[FoundCase], folder: Path, raters: Sequence[str], structures: Sequence[str]) -> None:
    for case in _shown(cases):
        place = inside(folder / PARTS[case.part or "training"], case.name)
        place.mkdir(parents=True, exist_ok=True)
        for key in sorted(case.masks):
            name = f"task{structures.index(key.structure) + 1:02d}_seg{raters.index(key.rater) + 1:02d}.nii.gz"
            if _is_volume(case):
                _copy_volume(case.masks[key], place / name)
            else:
                save_nifti(_as_nifti(mask_of(case, key)), place / name)
        if _is_volume(case):
            _copy_volume(case.image, place / "image.nii.gz")
        else:
            save_nifti(_as_nifti(_grey_or_colours(case)), place / "image.nii.gz")
    _write_names(folder / "raters.csv", raters, "number")
    _write_names(folder / "tasks.csv", structures, "number")


def _write_names(path: Path, names: Sequence[str], key: str) -> None:
    if len(names) > 1 or names[0] not in (ONE_STRUCTURE, "1"):
        write_table(path, [{key: number, "name": name} for number, name in enumerate(names, 1)])


def _write_splits(cases: Sequence[FoundCase], folder: Path) -> None:
    columns = [name for name in ("part", "group") if any(getattr(case, name) for case in cases)]
    if columns:
        rows = [{"id": case.name, **{name: getattr(case, name) or "" for name in columns}} for case in cases]
        write_table(folder / "split.csv", rows)


def _is_volume(case: FoundCase) -> bool:
    return isinstance(case.image, Path) and is_volume_file(case.image)


def _copy_volume(source: object, place: Path) -> None:
    assert isinstance(source, Path)  # layouts of volumes have files
    if source.name.lower().endswith(".nii.gz"):
        with atomic_path(place) as temporary:
            shutil.copyfile(source, temporary)
    else:
        stored = open_nifti(source)
        save_nifti(nib.Nifti1Image(np.asanyarray(stored.dataobj), stored.affine), place)


def _as_nifti(pixels: NDArray[np.uint8]) -> nib.Nifti1Image:
    """Pixels (H, W[, 3]) with the column as the first axis, as other programs show them upright."""
    return nib.Nifti1Image(np.ascontiguousarray(np.swapaxes(pixels, 0, 1)), np.diag([-1.0, -1.0, 1.0, 1.0]))


def _grey_or_colours(case: FoundCase) -> NDArray[np.uint8]:
    if isinstance(case.image, np.ndarray):
        return case.image
    pixels = read_image(case.image).numpy()
    return pixels[0] if (pixels == pixels[:1]).all() else np.moveaxis(pixels, 0, -1)


def _natural(name: str) -> list[str | int]:
    return [int(piece) if place % 2 else piece for place, piece in enumerate(re.split(r"(\d+)", name))]


def _shown(cases: Sequence[FoundCase]) -> Iterable[FoundCase]:
    if twice := [name for name, count in Counter(case.name for case in cases).items() if count > 1]:
        raise DatasetLayoutError(f"two cases have the name {some_of(twice)}.")
    return progress(cases, "converting", "case")
