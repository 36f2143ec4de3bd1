"""Augmentation on a CPU beside other libraries: what is installed is measured, what is not is named."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmarks import cpu_augmentation as ways
from benchmarks.workbench import Bench


def test_ways_that_are_installed_are_rows_and_the_others_are_named(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(ways, "_installed", lambda name: False)
    monkeypatch.setattr(ways, "opencv", lambda: None)
    result = ways.run(Bench(torch.device("cpu"), tmp_path, rounds=1, quick=True))
    (table,) = result.tables
    assert [row[0] for row in table.rows] == [ways.TORCH, ways.TORCH + ways.WITH_COLOUR]
    assert table.rows[0][2] == "1.00" and result.values == {}
    assert list(result.notes) == ["Left out, since not installed: albumentations, kornia, cv2."]
