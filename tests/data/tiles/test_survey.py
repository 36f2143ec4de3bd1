"""Tiles that show nothing are left out, counted and named."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from tile_files import geotiff, numbers, tile

from monai_ext.data.isic import DatasetLayoutError
from monai_ext.data.tiles.listing import tile_items
from monai_ext.data.tiles.pixel_scale import PixelScale
from monai_ext.data.tiles.survey import survey_tiles, usable_tiles


def picture(seed):
    return np.random.default_rng(seed).integers(30, 200, (64, 64, 3)).astype(np.uint8)


def placeholder():
    values = picture(9)
    values[:40] = 225
    return values


def test_blank_tiles_placeholders_and_collars(tmp_path, caplog):
    for seed in range(4):
        tile(tmp_path / f"good_{seed}.png", picture(seed))
    for name, colour in (("grey", 204), ("black", 0)):
        tile(tmp_path / f"{name}.jpg", np.full((64, 64, 3), colour, np.uint8))
    written = np.full((64, 64, 3), 204, np.uint8)
    written[30:34, 10:50] = numbers(4, 40, 3)  # a server's sentence
    tile(tmp_path / "sentence.png", written)
    for number in range(3):
        tile(tmp_path / f"logo_{number}.png", placeholder())
    half, most = picture(5), picture(6)
    half[:16], most[:40] = 0, 255
    tile(tmp_path / "half.png", half)
    tile(tmp_path / "most.png", most)
    with caplog.at_level(logging.WARNING):
        names = [item["id"] for item in usable_tiles(tile_items(tmp_path))]
    assert names == ["good_0", "good_1", "good_2", "good_3", "half"]
    assert len(usable_tiles(tile_items(tmp_path), whole=True)) == 4
    messages = "\n".join(record.getMessage() for record in caplog.records)
    assert "2 of 12 tiles left out, blank (one colour): grey, sentence" in messages
    assert "2 of 12 tiles left out, more than 50% missing: black, most" in messages
    assert "3 of 12 tiles left out, a server's placeholder: logo_0, logo_1, logo_2" in messages
    assert "1 of 5 tiles show no ground in some pixels (5.0% of all pixels)" in messages and "half" in messages


def test_equal_pictures_that_show_something_stay(tmp_path):
    for number in range(3):
        tile(tmp_path / f"{number}.png", picture(0))
    survey = survey_tiles(tile_items(tmp_path))
    assert len(survey.items) == 3 and not survey.lines()


def test_declared_and_given_nodata_count_as_missing(tmp_path):
    values = numbers(1, 20, 20, dtype=np.int16) // 20 + 900
    values[:, :5] = -9999
    geotiff(tmp_path / "declared.tif", values, nodata=-9999)
    geotiff(tmp_path / "undeclared.tif", values)
    found = survey_tiles(tile_items(tmp_path), scale=PixelScale("int16", 0, 3000))
    assert found.partly == {"declared": 0.25}
    found = survey_tiles(tile_items(tmp_path), scale=PixelScale("int16", 0, 3000, nodata=-9999))
    assert found.partly == {"declared": 0.25, "undeclared": 0.25}


def test_a_set_of_blank_tiles_is_refused(tmp_path):
    tile(tmp_path / "a.png")
    with pytest.raises(DatasetLayoutError, match="none of the 1 tiles shows ground"):
        usable_tiles(tile_items(tmp_path))
