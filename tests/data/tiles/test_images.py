"""Reading of tiles of every depth and number of bands."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from tile_files import colour_png_16bit, geotiff, numbers, tile

from monai_ext.data.device.dataset import DeviceDataset
from monai_ext.data.device.loader import DeviceLoader
from monai_ext.data.tiles.images import DecodeTiled, read_tile
from monai_ext.data.tiles.listing import tile_items
from monai_ext.data.tiles.split import take_places
from monai_ext.raster import gdal
from monai_ext.raster.images import ImageFileError


def test_colour_and_grey_pictures_keep_their_bands(tmp_path):
    values = numbers(5, 6, 3)
    assert torch.equal(read_tile(tile(tmp_path / "a.png", values)), torch.from_numpy(values).permute(2, 0, 1))
    assert torch.equal(read_tile(tile(tmp_path / "b.tif", values)), torch.from_numpy(values).permute(2, 0, 1))
    assert torch.equal(read_tile(tile(tmp_path / "c.png", values[..., 0])), torch.from_numpy(values[None, ..., 0]))
    assert read_tile(tile(tmp_path / "d.jpg", values)).shape == (3, 5, 6)


def test_grey_of_16_bits_keeps_them(tmp_path):
    values = numbers(5, 6, dtype=np.uint16)
    for name in ("a.png", "a.tif"):
        pixels = read_tile(tile(tmp_path / name, values))
        assert pixels.dtype == torch.uint16 and np.array_equal(pixels[0].numpy(), values)


def test_bands_are_picked_by_number_and_grey_stands_for_all(tmp_path):
    values = numbers(5, 6, 3)
    pixels = read_tile(tile(tmp_path / "a.png", values), bands=[3, 1])
    assert np.array_equal(pixels.numpy(), values[..., [2, 0]].transpose(2, 0, 1)) and pixels.is_contiguous()
    grey = read_tile(tile(tmp_path / "b.png", values[..., 0]), bands=[1, 2, 3])
    assert grey.shape == (3, 5, 6) and torch.equal(grey[0], grey[2])
    with pytest.raises(ImageFileError, match="a.png has 3 bands: band 4 is wanted"):
        read_tile(tmp_path / "a.png", bands=[4])


def test_transparent_pixels_become_black_and_alpha_is_no_band(tmp_path):
    values = np.full((2, 2, 4), 200, np.uint8)
    values[..., 3] = [[0, 51], [255, 255]]
    pixels = read_tile(tile(tmp_path / "a.png", values))
    assert pixels.shape == (3, 2, 2) and pixels[0].tolist() == [[0, 40], [200, 200]]


def test_colour_pngs_of_16_bits_keep_them(tmp_path):
    pytest.importorskip("rasterio", reason="needs rasterio")
    values = numbers(5, 6, 3, dtype=np.uint16)
    pixels = read_tile(colour_png_16bit(tmp_path / "a.png", values))
    assert pixels.dtype == torch.uint16 and np.array_equal(pixels.numpy(), values.transpose(2, 0, 1))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("count", [1, 2, 4, 5, 13])
def test_geotiffs_keep_all_bands_and_bits(tmp_path, dtype, count):
    values = numbers(count, 5, 6, dtype=dtype)
    pixels = read_tile(geotiff(tmp_path / "a.tif", values, photometric="minisblack"))
    assert np.array_equal(pixels.numpy(), values) and pixels.numpy().dtype == dtype


def test_red_green_blue_and_infrared_in_one_geotiff_are_four_bands(tmp_path):
    values = numbers(4, 5, 6)
    path = geotiff(tmp_path / "a.tif", values, photometric="rgb", alpha="no", compress="lzw", interleave="pixel")
    assert np.array_equal(read_tile(path).numpy(), values)
    assert np.array_equal(read_tile(path, bands=[4, 1]).numpy(), values[[3, 0]])


def test_the_alpha_band_of_a_geotiff_hides_pixels(tmp_path):
    values = np.full((4, 1, 3), 60000, np.uint16)
    values[3] = [0, 13107, 65535]
    pixels = read_tile(geotiff(tmp_path / "a.tif", values, photometric="rgb", alpha="yes"))
    assert pixels.shape == (3, 1, 3) and pixels[1, 0].tolist() == [0, 12000, 60000]


def test_the_alpha_band_of_signed_16_bits_is_opaque_at_their_highest(tmp_path):
    values = np.full((4, 1, 3), 20000, np.int16)
    values[3] = [0, 16384, 32767]
    pixels = read_tile(geotiff(tmp_path / "a.tif", values, photometric="rgb", alpha="yes"))
    assert pixels.dtype == torch.uint16 and pixels[2, 0].tolist() == [0, 10000, 20000]


def test_the_mask_of_signed_16_bits_hides_pixels(tmp_path):
    rasterio = pytest.importorskip("rasterio", reason="needs rasterio")
    path = geotiff(tmp_path / "a.tif", np.full((3, 1, 3), 20000, np.int16))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="YES"), rasterio.open(path, "r+") as raster:
        raster.write_mask(np.array([[False, True, True]]))
    assert read_tile(path)[0].tolist() == [[0, 20000, 20000]]


def test_a_turned_tile_is_upright_and_grey_whose_0_is_white_as_it_looks(tmp_path):
    values = numbers(5, 6, 3)
    Image.fromarray(values).save(tmp_path / "a.tif", tiffinfo={274: 6})
    assert np.array_equal(read_tile(tmp_path / "a.tif").numpy(), np.rot90(values, -1).transpose(2, 0, 1))
    Image.fromarray(values[..., 0]).save(tmp_path / "b.tif", tiffinfo={262: 0})
    with Image.open(tmp_path / "b.tif") as picture:
        assert picture.tag_v2[262] == 0
        assert np.array_equal(read_tile(tmp_path / "b.tif").numpy(), np.asarray(picture)[None])


def test_signed_16_bits_without_negatives_are_unsigned_and_others_are_refused(tmp_path):
    values = np.arange(6, dtype=np.int16).reshape(1, 2, 3) * 1000
    assert read_tile(geotiff(tmp_path / "a.tif", values)).dtype == torch.uint16
    with pytest.raises(ImageFileError, match="tile .*b.tif holds int16 values: save it as unsigned 8- or 16-bit"):
        read_tile(geotiff(tmp_path / "b.tif", -values))
    with pytest.raises(ImageFileError, match="holds float32 values"):
        read_tile(geotiff(tmp_path / "c.tif", values.astype(np.float32)))


def test_damaged_and_missing_files_are_named(tmp_path):
    path = tile(tmp_path / "a.jpg", numbers(64, 64, 3))
    path.write_bytes(path.read_bytes()[:900])
    (tmp_path / "b.png").write_text("<html>")
    for name in ("a.jpg", "b.png", "c.jpg"):
        with pytest.raises(ImageFileError, match=name):
            read_tile(tmp_path / name)


def test_tiles_are_cut_to_whole_multiples(tmp_path):
    values = numbers(11, 18, 3)
    path = tile(tmp_path / "a.png", values)
    item = DecodeTiled(multiple=4, keep_paths=True)({"id": "t", "image": path, "place": "x"})
    assert np.array_equal(item["image"].numpy(), values[:8, :16].transpose(2, 0, 1))
    assert item["id"] == "t" and item["image_path"] == str(path) and item["place"] == "x"
    assert DecodeTiled(multiple=[2, 3])({"image": path})["image"].shape == (3, 6, 18)
    with pytest.raises(ImageFileError, match="a.png is 11 x 18 pixels: at least 12 are needed"):
        DecodeTiled(multiple=12)({"image": tmp_path / "a.png"})


@pytest.mark.parametrize("bands", [[], [0, 1], "12", [1.5]])
def test_bands_that_are_no_numbers_from_1_are_refused(bands):
    with pytest.raises(ValueError, match="bands is"):
        DecodeTiled(bands)


def test_tiles_go_through_split_and_device_dataset_into_batches(tmp_path):
    for x in range(6):
        tile(tmp_path / "tiles" / f"{x}_0.png", numbers(8, 8, 3) if x % 2 else np.full((8, 8), x, np.uint8))
    train, test = take_places(tile_items(tmp_path / "tiles", block=2), 1 / 3, seed=0)
    for part, count in ((train, 4), (test, 2)):
        dataset = DeviceDataset(
            part, DecodeTiled([1, 2, 3]), cache_dir=tmp_path / "cache", num_workers=0, progress=False
        )
        batch = next(iter(DeviceLoader(dataset, 8)))
        assert batch["image"].shape == (count, 3, 8, 8) and batch["image"].dtype == torch.uint8
        assert batch["id"] == [item["id"] for item in part] == [item["id"] for item in dataset.data]
    assert len(list((tmp_path / "cache").glob("decoded-*"))) == 2


def test_tiles_of_16_bits_stay_so_in_batches(tmp_path):
    values = numbers(8, 8, dtype=np.uint16)
    dataset = DeviceDataset([{"image": tile(tmp_path / "a.png", values)}], DecodeTiled(), num_workers=0, progress=False)
    batch = dataset.batch([0, 0])
    assert batch["image"].dtype == torch.uint16 and np.array_equal(batch["image"][1, 0].numpy(), values)


def test_keys_that_it_does_not_know_stay_and_further_pages_are_named(tmp_path, caplog):
    pages = [Image.fromarray(np.full((8, 8, 3), 50 * number, np.uint8)) for number in (1, 2, 3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    decoded = DecodeTiled()({"id": "a", "image": str(tmp_path / "a.tif"), "place": "p", "host": {"x": 1}})
    assert decoded["place"] == "p" and decoded["host"] == {"x": 1} and set(decoded["image"].unique().tolist()) == {50}
    if gdal.available():
        assert [r.getMessage() for r in caplog.records] == [
            f"{tmp_path / 'a.tif'} has 2 further pages, which are not read"
        ]
