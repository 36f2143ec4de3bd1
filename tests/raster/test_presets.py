"""Sentinel-2 reflectance: bands by name, range, nodata, the offset of newer products."""

from __future__ import annotations

import logging
from contextlib import closing

import numpy as np
import pytest
from upscaling_toys import needs_rasterio, noise, read, repeated, save_picture, save_raster, upscaler

from monai_ext.raster.info import BandTags, GeoTags, RasterInfo
from monai_ext.raster.presets import PRESETS
from monai_ext.upscaling import Choices, upscale_file


@pytest.mark.parametrize(
    ("names", "colours", "numbers"),
    [
        (("B2", "B3", "B4", "B8"), (), (3, 2, 1)),
        (("B02", "B03", "B04"), ("red", "green", "blue"), (3, 2, 1)),  # names come before colours
        (("B8A", "B12", "B4, central wavelength 665 nm", "B3", "B2"), (), (3, 4, 5)),
        (("Blue", "Green", "Red", "NIR"), (), (3, 2, 1)),
        ((None, None, None, None), ("blue", "green", "red", "undefined"), (3, 2, 1)),
        ((None, None, None), (), (1, 2, 3)),
        (("B8", "B4", "B3"), (), None),
        ((None,) * 4, (), None),
    ],
)
def test_red_green_and_blue_are_found_by_name(names, colours, numbers):
    colours = colours or ("undefined",) * len(names)
    bands = tuple(BandTags(n, colour, name) for n, (name, colour) in enumerate(zip(names, colours, strict=True)))
    info = RasterInfo("a.tif", (2, 2), len(names), np.dtype(np.uint16), (None,) * len(names), geo=GeoTags(bands=bands))
    if numbers is None:
        with pytest.raises(ValueError, match=r"not all of B4, B3 and B2 .*: choose --bands RED GREEN BLUE"):
            PRESETS["sentinel2"].numbers(info)
    else:
        assert PRESETS["sentinel2"].numbers(info) == numbers


@needs_rasterio
def test_reflectance_is_upscaled_in_its_range_and_keeps_what_lies_beyond(tmp_path, caplog):
    import rasterio

    pixels = noise(4, 12, 12, dtype=np.uint16) % 2000 + 1200
    pixels[:, 0, 0], pixels[:, 5, 5] = 0, 15000  # missing, and a cloud
    source = save_raster(tmp_path / "a.tif", pixels)
    with rasterio.open(source, "r+") as dataset:
        dataset.descriptions = ("B02", "B03", "B04", "B08")
    preset = PRESETS["sentinel2"]
    choices = Choices(limits=(preset.low, preset.high), preset=preset)
    upscale_file(source, tmp_path / "b.tif", upscaler=upscaler(), choices=choices)
    found, expected = read(tmp_path / "b.tif").astype(int), repeated(pixels[2::-1]).astype(int)
    around = np.s_[:, 8:14, 8:14]  # values beyond are interpolated
    assert np.abs(found - expected)[:, :8, :8].max() <= 1 and found[around].max() > 10000
    assert (found[:, :2, :2] == 0).all() and found[:, 2:].min() > 0
    with closing(choices.open(source)) as raster:
        assert raster.info.nodata == (0.0,) * 3
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        dark = save_raster(tmp_path / "c.tif", pixels[:3] % 700 + 1)
        upscale_file(dark, tmp_path / "d.tif", upscaler=upscaler(), choices=choices)
    assert "most values lie below 1000" in caplog.text and "--preset sentinel2_harmonized" in caplog.text
    with pytest.raises(ValueError, match=r"e.png holds uint8, and --preset sentinel2 is for reflectance in 16 bits"):
        choices.open(save_picture(tmp_path / "e.png", noise(3, 8, 8)))
