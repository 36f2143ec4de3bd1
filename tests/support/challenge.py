"""A challenge in the layout of QUBIQ on phantoms, with its irregularities."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from monai_ext.data import write_rater_phantoms

SIZE = (32, 32)


def write_region(
    folder: Path,
    *,
    raters: int = 3,
    tasks: int = 1,
    shape: tuple[int, ...] = SIZE,
    channels: int = 1,
    validated: bool = True,
    missing: tuple[int, int] | None = None,
) -> None:
    """Eight training, two validation and two test cases (without masks) of phantoms.

    Args:
        shape: of the files; what the size has not is a trailing singleton axis, or slices that are alike.
        channels: of the images, along a last axis, if there are several.
        validated: whether the validation part has masks.
        missing: case and rater without masks.
    """
    write_rater_phantoms(folder, count=12, size=SIZE)
    for place, case in enumerate(sorted((folder / "Training").iterdir())):
        part = "Training" if place < 8 else "Validation" if place < 10 else "Testing"
        known = {int(path.name[10:12]): _array(path) for path in case.glob("task01_seg*")}
        image = np.broadcast_to(_array(case / "image.nii.gz").reshape(*SIZE, *[1] * (len(shape) - 2)), shape)
        if channels > 1:
            image = np.stack([image] * channels, axis=-1)
        for path in case.iterdir():
            path.unlink()
        _save(image.astype(np.float32), case / "image.nii.gz")
        for task in range(1, tasks + 1):
            for rater in range(1, raters + 1):
                if part == "Testing" or (part == "Validation" and not validated) or (place, rater) == missing:
                    continue
                mask = known[(rater + task - 2) % 5 + 1].reshape(*SIZE, *[1] * (len(shape) - 2))
                _save(np.broadcast_to(mask, shape).astype(np.uint8), case / f"task{task:02d}_seg{rater:02d}.nii.gz")
        (folder / part).mkdir(exist_ok=True)
        case.rename(folder / part / case.name)


def _array(path: Path) -> np.ndarray:
    image = nib.load(path)
    assert isinstance(image, nib.Nifti1Image)
    return np.asarray(image.dataobj)


def _save(values: np.ndarray, path: Path) -> None:
    nib.save(nib.Nifti1Image(values, np.eye(4)), path)
