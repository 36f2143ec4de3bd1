"""Shared by all tests: one thread, and where real data may lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets, from the environment variable MONAI_EXT_DATA; tests skip without."""
    folder = os.environ.get("MONAI_EXT_DATA")
    if not folder:
        pytest.skip("needs real data: set MONAI_EXT_DATA to the folder that holds isic/images and isic/masks")
    return Path(folder)
