"""Errors of a data set's files."""

from __future__ import annotations

from dataclasses import replace

import pytest
from many_hr import SETTINGS, build

from monai_ext.data.many_hr.build import build_many_hr
from monai_ext.data.tiles.listing import tile_items
from monai_ext.transforms.degradation import Degradation


def test_errors_name_the_way_out(tiles, tmp_path):
    with pytest.raises(ValueError, match="65 records are more than the tiles allow, 64"):
        build(tiles, tmp_path, records=65)
    with pytest.raises(ValueError, match="none of the 8 tiles has 256 x 256 pixels: choose a smaller size"):
        build(tiles, tmp_path, settings=replace(SETTINGS, size=256))
    with pytest.raises(ValueError, match="kinds capture make no targets that agree exactly"):
        build(tiles, tmp_path, settings=replace(SETTINGS, kinds=("capture",)))
    with pytest.raises(ValueError, match=r"the part test shows one place alone, \w+ \(1 tile.*--test_fraction"):
        build(tiles, tmp_path, settings=replace(SETTINGS, test_fraction=0.1))
    with pytest.raises(ValueError, match="targets=1 must be at least 2"):
        replace(SETTINGS, targets=1)
    with pytest.raises(ValueError, match="the operator draws noise"):
        build_many_hr(tile_items(tiles), tmp_path, degradation=Degradation(4, noise=0.1), settings=SETTINGS)
    assert not list(tmp_path.rglob("*.npy"))
