"""Metadata of a finer raster."""

from __future__ import annotations

import pytest

from monai_ext.raster.gdal_write import FINER


@pytest.mark.parametrize(
    ("convention", "offset"), [({}, 20.0), ({"GEOREFERENCING_CONVENTION": "PIXEL_CENTER"}, (5 + 0.5) * 4 - 0.5)]
)
def test_arrays_of_coordinates_count_the_finer_pixels(convention, offset):
    tags = {"PIXEL_STEP": "10", "LINE_STEP": "2.5", "PIXEL_OFFSET": "5", "LINE_OFFSET": "5", "X_DATASET": "x.tif"}
    finer = FINER["GEOLOCATION"](tags | convention, 4)
    assert finer == tags | convention | {
        "PIXEL_STEP": "40.0", "LINE_STEP": "10.0", "PIXEL_OFFSET": repr(offset), "LINE_OFFSET": repr(offset)
    }  # fmt: skip
    assert FINER["GEOLOCATION"]({"PIXEL_STEP": "?"}, 4)["PIXEL_STEP"] == "?"
