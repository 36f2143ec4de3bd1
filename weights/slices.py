"""LIDC-IDRI slices of one file a part as cases in the layout of the QUBIQ challenge.

    python -m weights.slices SOURCE OUTPUT

SOURCE has train.npz, validation.npz and test.npz: images (N, H, W) uint8, reader_bits (N, H, W) uint8, whose bit k is
the mask of reader k + 1, and patient (N,) integers. OUTPUT gets Training, Validation and Testing, with cases such as
te0012_p0345, of patient 345.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nibabel
import numpy as np

from monai_ext.storage.files import write_text

__all__ = ["main"]

PARTS = {"train": "Training", "validation": "Validation", "test": "Testing"}
READERS = 4


def main(source: str, output: str) -> None:
    """Write all cases, and `complete.txt` last."""
    counts = []
    for part, folder in PARTS.items():
        with np.load(Path(source, f"{part}.npz"), allow_pickle=False) as arrays:
            images, masks, patients = arrays["images"], arrays["reader_bits"], arrays["patient"].tolist()
        for number, (image, bits, patient) in enumerate(zip(images, masks, patients, strict=True)):
            case = Path(output, folder, f"{part[:2]}{number:04d}_p{patient:04d}")
            case.mkdir(parents=True, exist_ok=True)
            _save(image, case / "image.nii")
            for reader in range(READERS):
                _save((bits >> reader) & 1, case / f"task01_seg{reader + 1:02d}.nii")
        counts.append(f"{folder} {len(images)}")
    write_text(Path(output, "complete.txt"), f"{', '.join(counts)} cases of {READERS} readers\n")
    print(", ".join(counts))


def _save(pixels: np.ndarray, path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(pixels.astype(np.uint8), np.eye(4)), path)


if __name__ == "__main__":
    main(*sys.argv[1:])
