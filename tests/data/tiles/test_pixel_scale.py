"""One range for a set of tiles: found, given, or that of the weights."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from tile_files import geotiff, numbers, tile

from monai_ext.data.tiles.images import DecodeTiled
from monai_ext.data.tiles.listing import tile_items
from monai_ext.data.tiles.pixel_scale import PixelScale, find_scale, keep_scale, scale_beside


def reflectance(dtype, seed=0):
    return np.random.default_rng(seed).integers(0, 3001, (3, 40, 40)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.int32, np.uint32, np.float32])
def test_reflectance_of_any_type_has_its_own_range(tmp_path, dtype, caplog):
    geotiff(tmp_path / "a.tif", reflectance(dtype))
    values = reflectance(dtype, 1)
    values[:, :2, :2] = 20_000  # a cloud
    geotiff(tmp_path / "b.tif", values)
    with caplog.at_level(logging.INFO):
        scale = find_scale(tile_items(tmp_path))
    assert scale.dtype == np.dtype(dtype).name and scale.low == 0 and 3000 <= scale.high <= 6000
    assert "from 0 to 20000: 0 to" in caplog.text and "--intensity_range" in caplog.text
    given = find_scale(tile_items(tmp_path), intensity_range=[0, 3000])
    assert (given.low, given.high) == (0, 3000)
    image = DecodeTiled(scale=given)(tile_items(tmp_path)[0])["image"].numpy() / 65535
    assert np.abs(image - reflectance(dtype) / 3000).max() < 1e-5  # nothing is lost to 256 levels
    assert given.levels == (65535 if dtype == np.float32 else 3000)


def test_usual_pictures_and_full_16_bits_keep_the_range_of_their_type(tmp_path):
    tile(tmp_path / "eight" / "a.png", numbers(8, 8, 3) // 4)
    assert find_scale(tile_items(tmp_path / "eight")).is_plain
    path = geotiff(tmp_path / "a.tif", numbers(1, 30, 30, dtype=np.uint16))
    assert find_scale([{"image": str(path)}]) == PixelScale("uint16", 0, 65535)


def test_a_marker_that_no_file_declares_is_found(tmp_path, caplog):
    values = reflectance(np.int16)
    values[:, :5] = -9999
    geotiff(tmp_path / "a.tif", values)
    scale = find_scale(tile_items(tmp_path))
    assert scale.nodata == -9999 and scale.low == 0 and scale.high == 3000
    assert "-9999 lies apart from all other values of the 1 tiles" in caplog.text
    item = DecodeTiled(scale=scale, known=True)(tile_items(tmp_path)[0])
    assert item["known"][0, :5].sum() == 0 and item["known"][0, 5:].all()
    assert item["image"][:, 0].equal(item["image"][:, 5])  # filled


def test_the_range_of_the_weights_holds(tmp_path):
    (tmp_path / "tiles").mkdir()
    geotiff(tmp_path / "tiles" / "a.tif", reflectance(np.uint16))
    items = tile_items(tmp_path / "tiles")
    trained = PixelScale("uint16", 0, 10_000)
    keep_scale(tmp_path, trained)
    weights = tmp_path / "model.pt"
    assert find_scale(items, weights=weights) == trained
    assert find_scale(items, weights=weights, intensity_range=[0, 10_000]) == trained
    with pytest.raises(ValueError, match="trained on uint16 values of 0 to 10000, and these tiles hold uint16 of 0 to"):
        find_scale(items, weights=weights, intensity_range=[0, 3000])
    tile(tmp_path / "eight" / "a.png", numbers(8, 8, 3))
    for damaged in ('{"dtype": "object"}', '{"low": 5.0, "high": 5.0}', '{"high": null}', "[]", "{"):
        (tmp_path / "pixel_scale.json").write_text(damaged)
        with pytest.raises(ValueError, match="pixel_scale.json is damaged"):
            find_scale(items, weights=weights)
    keep_scale(tmp_path, trained)
    with pytest.raises(ValueError, match="trained on uint16 .* these tiles hold uint8"):
        find_scale(tile_items(tmp_path / "eight"), weights=weights)


def test_what_has_no_range_in_common_is_refused(tmp_path):
    tile(tmp_path / "a.png", numbers(8, 8, 3))
    geotiff(tmp_path / "b.tif", reflectance(np.uint16))
    with pytest.raises(ValueError, match="several types.*uint16 in .*b.tif, uint8 in .*a.png"):
        find_scale(tile_items(tmp_path))
    for wrong in ([3, 3], [5, 1], "all", [0, float("inf")]):
        with pytest.raises(ValueError, match="intensity_range=.* is empty"):
            find_scale(tile_items(tmp_path), intensity_range=wrong)


def test_a_training_is_resumed_with_its_scale(tmp_path):
    scale, other = PixelScale("uint16", 0, 3000), PixelScale("uint16", 0, 4000)
    keep_scale(tmp_path, scale, resume=True)  # nothing to resume yet
    (tmp_path / "last.pt").touch()
    keep_scale(tmp_path, scale, resume="true")
    with pytest.raises(ValueError, match="uint16 values of 0 to 3000.* is resumed with uint16 of 0 to 4000"):
        keep_scale(tmp_path, other, resume=True)
    keep_scale(tmp_path, other)
    assert scale_beside(tmp_path / "model.pt") == other
    keep_scale(tmp_path, PixelScale())  # usual pictures leave no record
    assert scale_beside(tmp_path / "model.pt") is None


def test_near_infrared_tagged_as_alpha_gets_a_warning_and_a_way_out(tmp_path, caplog):
    values = numbers(4, 40, 40)
    values[3, :20] = 0  # water
    for name in "ab":
        geotiff(tmp_path / f"{name}.tif", values, photometric="rgb", alpha="yes")
    items = tile_items(tmp_path)
    scale = find_scale(items)
    assert caplog.text.count("--no_alpha takes it as a band") == 1
    assert not DecodeTiled([1], scale=scale, known=True)(items[0])["known"][0, :20].any()
    scale = find_scale(items, no_alpha="true")
    item = DecodeTiled([4, 1], scale=scale, known=True)(items[0])
    assert scale.no_alpha and item["known"].all() and np.array_equal(item["image"].numpy(), values[[3, 0]])
