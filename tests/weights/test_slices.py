"""Slices of one file a part become cases."""

from __future__ import annotations

import nibabel
import numpy as np

from weights.slices import main


def test_every_reader_gets_the_mask_of_its_bit(tmp_path):
    rng = np.random.default_rng(0)
    for part in ("train", "validation", "test"):
        np.savez(tmp_path / part, images=rng.integers(0, 256, (2, 6, 5), np.uint8),
            reader_bits=rng.integers(0, 16, (2, 6, 5), np.uint8), patient=np.array([7, 1012], np.int16))  # fmt: skip
    main(str(tmp_path), str(tmp_path / "out"))
    cases = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").glob("*/*"))
    prefixes = {"Testing": "te", "Training": "tr", "Validation": "va"}
    assert cases == [
        f"{folder}/{prefix}{name}" for folder, prefix in prefixes.items() for name in ("0000_p0007", "0001_p1012")
    ]
    case, given = tmp_path / "out" / "Testing" / "te0001_p1012", np.load(tmp_path / "test.npz")
    assert np.array_equal(nibabel.load(case / "image.nii").get_fdata(), given["images"][1])
    masks = [nibabel.load(case / f"task01_seg{reader:02d}.nii").get_fdata() for reader in (1, 2, 3, 4)]
    assert np.array_equal(sum(mask * 2**k for k, mask in enumerate(masks)), given["reader_bits"][1])
    assert (tmp_path / "out" / "complete.txt").read_text().startswith("Training 2, Validation 2, Testing 2")
