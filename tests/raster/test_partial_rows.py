"""Rows on disk: one writer at a time, shapes checked."""

from __future__ import annotations

import numpy as np
import pytest

from monai_ext.raster.partial_rows import PartialRows


def test_two_runs_do_not_write_one_image_at_a_time(tmp_path):
    row = {"planes": 1, "width": 4, "dtype": np.dtype(np.uint8), "fingerprint": "f"}
    with PartialRows(tmp_path / "a.png", **row), pytest.raises(BlockingIOError, match="another run is writing .*a.png"):
        PartialRows(tmp_path / "a.png", **row)
    with PartialRows(tmp_path / "a.png", **row) as partial, pytest.raises(ValueError, match="expected .1, rows, 4."):
        partial.append(np.zeros((1, 2, 5), np.uint8))
