"""Fixtures of this folder."""

from __future__ import annotations

import numpy as np
import pytest
from scored_folders import A, B, write, write_case


@pytest.fixture
def folders(tmp_path):
    """Truth of one case by raters A and B, and where its predictions go: (truth, predictions, the case's)."""
    write_case(tmp_path / "truth" / "Training" / "case01", {1: A, 2: B})
    return tmp_path / "truth", tmp_path / "predicted", tmp_path / "predicted" / "case01"


@pytest.fixture
def many(tmp_path):
    """Six cases of three patients with probability maps of different worth."""
    generator = np.random.default_rng(3)
    for index in range(6):
        name = f"patient{index // 2}-{index % 2}"
        masks = generator.integers(0, 2, (3, 4, 5))
        write_case(tmp_path / "truth" / name, dict(enumerate(masks, 1)))
        blurred = np.clip(masks.mean(0) + generator.normal(0, 0.1 * index, (4, 5)), 0, 1)
        write(tmp_path / "predicted" / name / "task01.nii.gz", blurred)
    return tmp_path / "truth", tmp_path / "predicted"
