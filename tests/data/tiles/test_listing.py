"""Lists of tiles, their places, the split by place, and reading of every depth and number of bands."""

from __future__ import annotations

import logging
import struct
import zlib
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from monai_ext.data.device.dataset import DeviceDataset, DeviceLoader
from monai_ext.data.isic import DatasetLayoutError
from monai_ext.data.tiles.images import DecodeTiled, read_tile
from monai_ext.data.tiles.listing import split_by_place, tile_items
from monai_ext.raster.images import ImageFileError


def tile(path, values=None):
    """Write a tile; values (H, W[, C])."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((4, 4, 3), np.uint8) if values is None else values).save(path)
    return path


def places_of(folder, **options):
    return {item["id"]: item["place"] for item in tile_items(folder, **options)}


def colour_png_16bit(path, values):
    """values (H, W, 3) uint16; Pillow cannot write these."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(tag, data):
        return struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    return path


def geotiff(path, bands, **options):
    """bands (C, H, W); skips where rasterio is missing."""
    rasterio = pytest.importorskip("rasterio", reason="needs rasterio (the extra geo)")
    count, height, width = bands.shape
    profile = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": bands.dtype}
    where = {"crs": "EPSG:3857", "transform": rasterio.Affine(2, 0, 500, 0, -2, 900)}
    with rasterio.open(path, "w", **profile, **where, **options) as raster:
        raster.write(bands)
    return path


def numbers(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


# --- places --------------------------------------------------------------------------------------------------------


def test_jimutmap_names_form_blocks_of_neighbours(tmp_path):
    for x, y in ((16, 8), (23, 15), (24, 8), (16, 16)):
        tile(tmp_path / f"{x}_{y}.jpg")
    assert places_of(tmp_path) == {"16_8": "x16 y8", "23_15": "x16 y8", "24_8": "x24 y8", "16_16": "x16 y16"}
    assert len(set(places_of(tmp_path, block=1).values())) == 4
    assert len(set(places_of(tmp_path, block=32).values())) == 1


def test_both_spellings_of_an_address_give_the_same_place(tmp_path):
    tile(tmp_path / "a" / "12" / "2443" / "1717.png")
    tile(tmp_path / "12_2443_1718@2x.jpg")
    tile(tmp_path / "b" / "12" / "2448" / "1717.tif")
    places = places_of(tmp_path)
    assert places["a_12_2443_1717"] == places["12_2443_1718@2x"] == "z12 x2440 y1712"
    assert places["b_12_2448_1717"] == "z12 x2448 y1712"


def test_the_folder_itself_may_be_the_zoom_or_the_column(tmp_path):
    tile(tmp_path / "12" / "2443" / "1717.png")
    assert set(places_of(tmp_path / "12").values()) == {"z12 x2440 y1712"}
    assert set(places_of(tmp_path / "12" / "2443").values()) == {"z12 x2440 y1712"}


def test_tiles_of_finer_zooms_belong_to_the_block_they_lie_in(tmp_path):
    tile(tmp_path / "10_511_340.jpg")
    tile(tmp_path / "11_1023_681.jpg")  # its south-eastern quarter
    tile(tmp_path / "13_4095_2727.jpg")  # the south-eastern quarter of that one's
    tile(tmp_path / "13_4096_2727.jpg")  # one tile further east
    places = places_of(tmp_path)
    assert places["10_511_340"] == places["11_1023_681"] == places["13_4095_2727"] == "z10 x504 y336"
    assert places["13_4096_2727"] == "z10 x512 y336"


def test_numbers_that_are_no_address_and_other_names_are_their_own_places(tmp_path):
    for name in ("2_4_1.jpg", "99_1_1.jpg", "roof.jpg", "2021-05-12.png"):
        tile(tmp_path / name)
    places = places_of(tmp_path)
    assert all(name == place for name, place in places.items()) and len(places) == 4


def test_items_are_sorted_and_pass_over_what_is_no_tile(tmp_path):
    for name in ("b.jpg", "sub/c.PNG", "a.tif", ".a-xyz.jpg", ".cache/d.jpg"):
        tile(tmp_path / name)
    (tmp_path / "attribution.json").write_text("{}")
    items = tile_items(tmp_path)
    assert [item["id"] for item in items] == ["a", "b", "sub_c"]
    assert items[2]["image"] == str(tmp_path / "sub" / "c.PNG")


def test_a_manifest_beside_the_folder_gives_the_places(tmp_path):
    for name in ("a.jpg", "b.jpg", "3_3.jpg"):
        tile(tmp_path / "aerial" / name)
    text = 'file,Place\naerial/a.jpg,"Nairobi, Kenya"\naerial/b.jpg,Nepal\naerial/3_3.jpg,Nepal\n'
    (tmp_path / "aerial_manifest.csv").write_text("\ufeff" + text, encoding="utf-8")
    assert places_of(tmp_path / "aerial") == {"a": "Nairobi, Kenya", "b": "Nepal", "3_3": "Nepal"}
    assert places_of(tmp_path / "aerial", manifest=None) == {"a": "a", "b": "b", "3_3": "x0 y0"}


def test_a_manifest_may_name_files_from_the_folder_and_lie_anywhere(tmp_path):
    tile(tmp_path / "tiles" / "x" / "a.jpg")
    manifest = tmp_path / "lists" / "mine.csv"
    manifest.parent.mkdir()
    manifest.write_text("place,filename,n\nhere,x/a.jpg,1\n")
    assert places_of(tmp_path / "tiles", manifest=manifest) == {"x_a": "here"}


def test_tiles_that_a_manifest_lists_and_the_folder_lacks_are_told(tmp_path, caplog):
    tile(tmp_path / "a.jpg")
    (tmp_path / "manifest.csv").write_text("file,place\na.jpg,here\nb.jpg,here\n")
    with caplog.at_level(logging.WARNING):
        assert len(tile_items(tmp_path)) == 1
    assert "1 tiles of" in caplog.text


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("file,site\na.jpg,here\n", r"has the columns file, site: it needs 'place' and 'file'"),
        ("file,place\nb.jpg,here\n", r"1 of the 1 tiles in .* are not in the manifest .*manifest.csv: a.jpg; add them"),
        ("file,place\na.jpg,\n", r"gives no place for 'a.jpg'"),
        ("", r"has the columns none"),
    ],
)
def test_incomplete_manifests_are_refused(tmp_path, text, sentence):
    tile(tmp_path / "a.jpg")
    (tmp_path / "manifest.csv").write_text(text)
    with pytest.raises(DatasetLayoutError, match=sentence):
        tile_items(tmp_path)


def test_folders_without_clear_tiles_are_refused(tmp_path):
    with pytest.raises(DatasetLayoutError, match="is not a folder of tiles"):
        tile_items(tmp_path / "none")
    with pytest.raises(DatasetLayoutError, match="no tile lies in .*: known are .jpeg .jpg"):
        tile_items(tmp_path)
    tile(tmp_path / "a.jpg")
    tile(tmp_path / "a.png")
    with pytest.raises(DatasetLayoutError, match="two tiles have the id a: .*a.jpg and .*a.png"):
        tile_items(tmp_path)
    with pytest.raises(ValueError, match="block is 0"):
        tile_items(tmp_path, block=0)
    with pytest.raises(DatasetLayoutError, match="manifest .*m.csv of .* does not exist"):
        tile_items(tmp_path, manifest=tmp_path / "m.csv")


# --- split ---------------------------------------------------------------------------------------------------------


def grid_items(columns, rows, block=8):
    return [{"id": f"{x}_{y}", "place": f"{x // block} {y // block}"} for x in range(columns) for y in range(rows)]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_fifth_is_for_testing_and_no_block_is_in_both_parts(seed):
    items = grid_items(120, 100)
    train, test = split_by_place(items, seed=seed)
    assert not {item["place"] for item in train} & {item["place"] for item in test}
    assert sorted(item["id"] for item in train + test) == sorted(item["id"] for item in items)
    assert len(test) / len(items) == pytest.approx(0.2, abs=0.005)


def test_the_split_depends_on_the_seed_and_not_on_the_order():
    items = grid_items(40, 40)
    chosen = {item["id"] for item in split_by_place(items, seed=3)[1]}
    assert {item["id"] for item in split_by_place(items[::-1], seed=3)[1]} == chosen
    assert {item["id"] for item in split_by_place(items, seed=4)[1]} != chosen


def test_parts_keep_the_order_and_all_places_take_their_turn():
    items = grid_items(40, 8)  # five places
    tested = Counter()
    for seed in range(60):
        train, test = split_by_place(items, seed=seed)
        assert [item for item in items if item in test] == test
        assert len(test) == 64
        tested.update({item["place"] for item in test})
    assert len(tested) == 5 and min(tested.values()) >= 4


def test_places_too_large_for_the_share_are_told(caplog):
    items = [{"id": str(i), "place": "large" if i < 90 else "small"} for i in range(100)]
    with caplog.at_level(logging.WARNING):
        train, test = split_by_place(items)
    assert {item["place"] for item in test} == {"small"}
    assert "10 % of the tiles are for testing, not 20 %" in caplog.text
    halves = [{"id": str(i), "place": str(i % 2)} for i in range(10)]
    assert list(map(len, split_by_place(halves, test_fraction=0.1))) == [5, 5]  # one place is the least
    assert list(map(len, split_by_place(halves, test_fraction=0.9))) == [5, 5]  # and one is left


def test_what_cannot_be_split_is_refused():
    with pytest.raises(ValueError, match=r"the 2 tiles have 1 place\(s\)"):
        split_by_place([{"id": "a", "place": "x"}, {"id": "b", "place": "x"}])
    with pytest.raises(ValueError, match="item 'a' has no place"):
        split_by_place([{"id": "a"}, {"id": "b", "place": "x"}])
    with pytest.raises(ValueError, match="test_fraction is 1"):
        split_by_place(grid_items(16, 16), test_fraction=1)


# --- pixels --------------------------------------------------------------------------------------------------------


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
    with pytest.raises(ImageFileError, match="a.png has 3 bands: band 4 is asked for"):
        read_tile(tmp_path / "a.png", bands=[4])


def test_transparent_pixels_become_black_and_alpha_is_no_band(tmp_path):
    values = np.full((2, 2, 4), 200, np.uint8)
    values[..., 3] = [[0, 51], [255, 255]]
    pixels = read_tile(tile(tmp_path / "a.png", values))
    assert pixels.shape == (3, 2, 2) and pixels[0].tolist() == [[0, 40], [200, 200]]


def test_colour_pngs_of_16_bits_keep_them(tmp_path):
    pytest.importorskip("rasterio", reason="needs rasterio (the extra geo)")
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
    rasterio = pytest.importorskip("rasterio", reason="needs rasterio (the extra geo)")
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
    assert item["id"] == "t" and item["image_path"] == str(path) and "place" not in item
    with pytest.raises(ImageFileError, match="a.png is 11 x 18 pixels: at least 12 are needed"):
        DecodeTiled(multiple=12)({"image": tmp_path / "a.png"})


@pytest.mark.parametrize("bands", [[], [0, 1], "12", [1.5]])
def test_bands_that_are_no_numbers_from_1_are_refused(bands):
    with pytest.raises(ValueError, match="bands is"):
        DecodeTiled(bands)


def test_tiles_go_through_split_and_device_dataset_into_batches(tmp_path):
    for x in range(6):
        tile(tmp_path / "tiles" / f"{x}_0.png", numbers(8, 8, 3) if x % 2 else np.full((8, 8), x, np.uint8))
    train, test = split_by_place(tile_items(tmp_path / "tiles", block=2), test_fraction=1 / 3)
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


def test_real_tiles_split_into_whole_places(real_data):
    folder = real_data / "aerial"
    if not folder.is_dir():
        pytest.skip("MONAI_EXT_DATA has no folder aerial")
    items = tile_items(folder)
    train, test = split_by_place(items)
    assert len({item["place"] for item in items}) == 7
    assert 0.1 < len(test) / len(items) < 0.3
