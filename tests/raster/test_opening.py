"""Rasters by rows: grey whose 0 is white, turned TIFFs, masks of signed pixels, and what files beside an image say."""

from __future__ import annotations

import logging
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from upscaling_toys import (
    HAS_RASTERIO,
    UTM,
    needs_rasterio,
    noise,
    read,
    repeated,
    repeating,
    save_picture,
    save_raster,
    save_turned,
    upscaler,
)

from monai_ext.raster import gdal as raster_gdal
from monai_ext.raster import pillow as raster_pillow
from monai_ext.raster.images import ImageFileError
from monai_ext.raster.info import RasterInfo
from monai_ext.raster.opening import check_output, has_georeference, open_raster
from monai_ext.raster.pillow import tiff_orientation
from monai_ext.upscaling import upscale_file
from monai_ext.upscaling.pixel_coding import PixelCoding

WORLD = "0.5\n0\n0\n-0.25\n500000.25\n3999999.875\n"  # of the first pixel's centre
PLACE = (0.5, 0.0, 500000.0, 0.0, -0.25, 4000000.0)
SRS = f"<PAMDataset><SRS>{UTM}</SRS>"


def info_of(path: Path, **options: object) -> RasterInfo:
    with closing(open_raster(path, **options)) as raster:
        return raster.info


def both_ways(monkeypatch: pytest.MonkeyPatch, path: Path) -> list[np.ndarray]:
    """Pixels with rasterio, if it is installed, and without."""
    found = [read(path)]
    with monkeypatch.context() as patch:
        patch.setattr(raster_gdal, "available", lambda: False)
        return [*found, read(path)]


# Grey whose 0 is white


def save_negative(path: Path, pixels: np.ndarray, **options: object) -> Path:
    """`pixels` (H, W) as they are stored, 0 white."""
    tifffile.imwrite(path, pixels, photometric="miniswhite", **options)
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_whose_0_is_white_is_read_and_written_as_it_looks(tmp_path, monkeypatch, dtype):
    stored = noise(9, 13, dtype=dtype)
    source = save_negative(tmp_path / "a.tif", stored)
    looks = np.iinfo(dtype).max - stored[None]
    for found in both_ways(monkeypatch, source):
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, looks)
    if dtype == np.uint8:
        with Image.open(source) as picture:
            np.testing.assert_array_equal(looks[0], np.asarray(picture))
    upscale_file(source, tmp_path / "b.tif", upscaler=upscaler(repeating(1)))
    np.testing.assert_array_equal(read(tmp_path / "b.tif"), repeated(looks))
    with Image.open(tmp_path / "b.tif") as picture:
        assert picture.tag_v2[262] == 1  # 0 is black
        np.testing.assert_array_equal(np.asarray(picture), repeated(looks)[0])


@pytest.mark.parametrize("photometric", ["miniswhite", "minisblack"])
def test_black_and_white_of_one_bit_stays_one_band(tmp_path, monkeypatch, photometric):
    bits = noise(9, 13) > 99
    tifffile.imwrite(tmp_path / "a.tif", bits, photometric=photometric)
    white = ~bits if photometric == "miniswhite" else bits
    for found in both_ways(monkeypatch, tmp_path / "a.tif"):
        np.testing.assert_array_equal(found, np.where(white, 255, 0)[None])


@needs_rasterio
@pytest.mark.parametrize(
    ("dtype", "options", "ends"),
    [(np.int16, {}, -1), (np.uint8, {"nbits": 4}, 15), (np.uint16, {"nbits": 12}, 4095), (np.uint32, {}, 2**32 - 1)],
)
def test_other_whole_numbers_are_inverted_within_their_range(tmp_path, dtype, options, ends):
    stored = noise(1, 5, 6, dtype=dtype)
    stored = stored % (ends + 1) if options else stored
    save_raster(tmp_path / "a.tif", stored, photometric="MINISWHITE", **options)
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), (ends - stored.astype(np.int64)).astype(dtype))


@needs_rasterio
def test_nodata_and_masks_of_negatives_still_mark_the_same_pixels(tmp_path):
    import rasterio

    stored = np.maximum(noise(1, 8, 9), 1)
    stored[0, :3] = 0
    save_raster(tmp_path / "a.tif", stored, photometric="MINISWHITE", nodata=0)
    assert info_of(tmp_path / "a.tif").nodata == (255.0,)
    upscale_file(tmp_path / "a.tif", tmp_path / "b.tif", upscaler=upscaler(repeating(1)))
    with rasterio.open(tmp_path / "b.tif") as dataset:
        assert dataset.nodata == 255
        np.testing.assert_array_equal(dataset.read(1), repeated(255 - stored)[0])
    save_raster(tmp_path / "m.tif", stored, photometric="MINISWHITE")
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="YES"), rasterio.open(tmp_path / "m.tif", "r+") as dataset:
        dataset.write_mask(stored[0] > 0)
    np.testing.assert_array_equal(read(tmp_path / "m.tif"), [255 - stored[0], np.where(stored[0] > 0, 255, 0)])


@needs_rasterio
def test_floats_have_no_white_and_stay_as_they_are(tmp_path):
    values = noise(5, 6, dtype=np.float32)
    np.testing.assert_array_equal(read(save_negative(tmp_path / "a.tif", values)), values[None])


# Masks


@needs_rasterio
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16])
def test_a_mask_marks_the_same_pixels_whatever_their_type(tmp_path, dtype):
    import rasterio

    pixels = noise(3, 12, 14, dtype=dtype)
    known = np.ones((12, 14), bool)
    known[:4] = False
    source = save_raster(tmp_path / "a.tif", pixels)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="YES"), rasterio.open(source, "r+") as dataset:
        dataset.write_mask(known)
    np.testing.assert_array_equal(read(source)[3] > 0, known)
    limits = (np.iinfo(dtype).min, np.iinfo(dtype).max)
    with closing(open_raster(source)) as raster:
        coding = PixelCoding.of(raster, limits)
        channels = coding.decode(raster.rows(0, 12))
    np.testing.assert_array_equal(channels[0, 4] > 0, known)
    upscale_file(source, tmp_path / "b.tif", upscaler=upscaler())
    with rasterio.open(tmp_path / "b.tif") as dataset:
        np.testing.assert_array_equal(dataset.dataset_mask(), np.where(repeated(known), 255, 0))


# Turned TIFFs


@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiffs_are_turned_as_pillow_turns_them_with_and_without_rasterio(tmp_path, monkeypatch, orientation):
    pixels = noise(3, 7, 11)
    source = save_turned(tmp_path / "a.tif", pixels, orientation)
    with Image.open(source) as picture:
        expected = np.moveaxis(np.array(picture), -1, 0)
    assert expected.shape == ((3, 11, 7) if orientation > 4 else (3, 7, 11))
    for found in both_ways(monkeypatch, source):
        np.testing.assert_array_equal(found, expected)
    with closing(open_raster(source)) as raster:
        assert raster.info.size == expected.shape[1:]
        for top in range(0, raster.info.size[0], 3):
            rows = raster.rows(top, min(top + 3, raster.info.size[0]))
            np.testing.assert_array_equal(rows, expected[:, top : top + 3])
            assert rows.flags.c_contiguous
    upscale_file(source, tmp_path / "b.tif", upscaler=upscaler())
    np.testing.assert_array_equal(read(tmp_path / "b.tif"), repeated(expected))
    assert tiff_orientation(tmp_path / "b.tif") == 1


def test_a_turn_in_xmp_alone_is_applied(tmp_path, monkeypatch):
    pixels = noise(1, 4, 6)
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="8"/></x:xmpmeta>'
    tifffile.imwrite(tmp_path / "a.tif", pixels[0], extratags=[(700, 1, len(xmp), xmp, True)])
    for found in both_ways(monkeypatch, tmp_path / "a.tif"):
        np.testing.assert_array_equal(found, np.rot90(pixels, 1, (1, 2)))


@needs_rasterio
def test_palettes_and_masks_turn_with_the_pixels_and_georeferenced_tiffs_stay(tmp_path):
    import rasterio

    index = noise(4, 6) % 3
    table = np.zeros((3, 256), np.uint16)
    table[:, :3] = noise(3, 3).astype(np.uint16) * 257
    tag = [(274, "H", 1, 6, True)]
    tifffile.imwrite(tmp_path / "p.tif", index, photometric="palette", colormap=table, extratags=tag)
    expected = np.rot90((table // 257)[:, index], -1, (1, 2))
    np.testing.assert_array_equal(read(tmp_path / "p.tif"), expected)
    source = save_turned(tmp_path / "m.tif", noise(3, 4, 6), 6)
    known = noise(4, 6) > 99
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="YES"), rasterio.open(source, "r+") as dataset:
        dataset.write_mask(known)
    np.testing.assert_array_equal(read(source)[3] > 0, np.rot90(known, -1))
    pixels = noise(3, 4, 6)
    source = save_turned(tmp_path / "g.tif", pixels, 6)
    with rasterio.open(source, "r+") as dataset:
        dataset.crs, dataset.transform = UTM, rasterio.Affine(*PLACE)
    assert tiff_orientation(source) == 6
    np.testing.assert_array_equal(read(source), pixels)


def test_a_turned_tiff_with_a_georeference_beside_it_needs_rasterio(tmp_path, monkeypatch):
    pixels = noise(3, 4, 6)
    source = save_turned(tmp_path / "a.tif", pixels, 6)
    (tmp_path / "a.tfw").write_text(WORLD)
    if HAS_RASTERIO:
        np.testing.assert_array_equal(read(source), pixels)
    assert not raster_pillow.is_plain_tiff(source)
    assert raster_pillow.is_plain_tiff(save_turned(tmp_path / "b.tif", pixels, 6))
    monkeypatch.setattr(raster_gdal, "available", lambda: False)
    monkeypatch.setitem(__import__("sys").modules, "rasterio", None)
    with pytest.raises(ImageFileError, match="a.tif needs rasterio"):
        open_raster(source)


# What lies beside an image


@needs_rasterio
def test_georeference_and_nodata_beside_a_tiff_are_kept_and_no_file_is_added(tmp_path):
    import rasterio

    pixels = np.maximum(noise(3, 9, 11), 1)
    pixels[:, :, :4] = 0
    source = save_raster(tmp_path / "a.tif", pixels, crs=None, transform=None)
    bands = "".join(f'<PAMRasterBand band="{n}"><NoDataValue>0</NoDataValue></PAMRasterBand>' for n in (1, 2, 3))
    where = "<GeoTransform>500000, 0.5, 0, 4000000, 0, -0.25</GeoTransform>"
    overviews = '<Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">other.ovr</MDI></Metadata>'
    beside = tmp_path / "a.tif.aux.xml"
    beside.write_text(f"{SRS}{where}{overviews}{bands}</PAMDataset>")
    before = beside.read_bytes()
    upscale_file(source, tmp_path / "b.tif", upscaler=upscaler())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "a.tif.aux.xml", "b.tif"]
    assert beside.read_bytes() == before
    with rasterio.open(tmp_path / "b.tif") as dataset:
        assert dataset.crs.to_epsg() == 32618 and dataset.nodatavals == (0, 0, 0)
        assert tuple(dataset.transform)[:6] == (0.25, 0, 500000, 0, -0.125, 4000000)
        assert "OVERVIEWS" not in dataset.tag_namespaces()
        np.testing.assert_array_equal(dataset.read(), repeated(pixels))


@needs_rasterio
def test_nothing_is_written_beside_what_is_read(tmp_path):
    sources = [
        save_raster(tmp_path / "a.tif", noise(3, 9, 11), nodata=3),
        save_raster(tmp_path / "a.img", noise(1, 9, 11), driver="HFA"),
        save_raster(tmp_path / "a16.png", noise(3, 9, 11, dtype=np.uint16), driver="PNG", crs=None, transform=None),
        save_picture(tmp_path / "a.jpg", noise(3, 9, 11)),
        save_negative(tmp_path / "n.tif", noise(9, 11)),
    ]
    (tmp_path / "a.jgw").write_text(WORLD)
    for path in tmp_path.glob("*.aux.xml"):
        path.unlink()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for source in sources:
        read(source)
        with closing(open_raster(source)) as raster:
            PixelCoding.of(raster, "data")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@needs_rasterio
@pytest.mark.parametrize(
    ("name", "world"), [("w.jpg", "w.jgw"), ("w.png", "w.PGW"), ("w.jpeg", "w.jpegw"), ("w.bmp", "w.bpw")]
)
def test_a_picture_with_a_world_file_keeps_its_place_as_geotiff(tmp_path, name, world):
    import rasterio

    source = save_picture(tmp_path / name, noise(3, 8, 10))
    (tmp_path / world).write_text(WORLD)
    (tmp_path / f"{name}.aux.xml").write_text(f"{SRS}</PAMDataset>")
    upscale_file(source, tmp_path / "b.tif", upscaler=upscaler())
    with rasterio.open(tmp_path / "b.tif") as dataset:
        assert dataset.crs.to_epsg() == 32618
        assert tuple(dataset.transform)[:6] == (0.25, 0, 500000, 0, -0.125, 4000000)
        np.testing.assert_array_equal(dataset.read(), repeated(read(source)))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, world, f"{name}.aux.xml", "b.tif"])


@needs_rasterio
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_picture_upscaled_to_a_picture_warns_that_its_place_is_lost(tmp_path, caplog, suffix):
    source = save_picture(tmp_path / f"a{suffix}", noise(3, 8, 10))
    (tmp_path / f"a{suffix}.aux.xml").write_text(f"{SRS}</PAMDataset>")
    with caplog.at_level(logging.WARNING):
        upscale_file(source, tmp_path / f"b{suffix}", upscaler=upscaler())
    assert f"the georeference of {source} is lost" in caplog.text
    assert len(list(tmp_path.iterdir())) == 3


@needs_rasterio
def test_the_place_of_a_turned_picture_turns_with_it(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    source = save_picture(tmp_path / "a.png", noise(3, 8, 10), exif=exif)
    (tmp_path / "a.pgw").write_text(WORLD)
    info = info_of(source)
    assert info.size == (10, 8)
    # The upright image's first pixel is the file's last row's first.
    assert info.geo.transform == (0.0, 0.5, 500000.0, 0.25, 0.0, 4000000.0 - 8 * 0.25)


@needs_rasterio
def test_nodata_beside_a_picture_counts_and_statistics_alone_change_nothing(tmp_path):
    source = save_picture(tmp_path / "a.png", noise(3, 8, 10))
    beside = tmp_path / "a.png.aux.xml"
    beside.write_text('<PAMDataset><PAMRasterBand band="2"><NoDataValue>7</NoDataValue></PAMRasterBand></PAMDataset>')
    assert info_of(source).nodata == (None, 7.0, None)
    assert info_of(source, bands=[3, 2]).nodata == (None, 7.0)
    assert info_of(source).geo is None
    mean = '<Metadata><MDI key="STATISTICS_MEAN">3</MDI></Metadata>'
    beside.write_text(f'<PAMDataset><PAMRasterBand band="1">{mean}</PAMRasterBand></PAMDataset>')
    info = info_of(source)
    assert info.nodata == (None, None, None) and info.geo is None and not has_georeference(info)
    palette = Image.fromarray(noise(8, 10)).convert("P")
    palette.save(source)
    beside.write_text('<PAMDataset><PAMRasterBand band="1"><NoDataValue>7</NoDataValue></PAMRasterBand></PAMDataset>')
    assert info_of(source, bands=[1]).nodata == (None,)  # 7 is an index, not a red


@pytest.mark.parametrize(
    "content", ["", "<PAMDataset>", "<PAMDataset><SRS>EPSG:0</SRS><GeoTransform>x</GeoTransform>", "\0"]
)
def test_damaged_files_beside_an_image_hinder_nothing(tmp_path, content):
    pixels = noise(3, 8, 10)
    for suffix, world in ((".png", ".pgw"), (".tif", ".tfw")):
        source = save_picture(tmp_path / f"a{suffix}", pixels)
        (tmp_path / f"a{suffix}.aux.xml").write_text(content)
        (tmp_path / f"a{world}").write_text(content)
        np.testing.assert_array_equal(read(source), pixels)


@needs_rasterio
def test_a_file_beside_an_image_that_makes_it_unreadable_is_left_out_with_a_warning(tmp_path, caplog):
    pixels = noise(3, 8, 10)
    source = save_picture(tmp_path / "a.tif", pixels)
    points = '<GCPList Projection="EPSG:0"><GCP Id="1" Pixel="1" Line="2" X="3" Y="4"/></GCPList>'
    (tmp_path / "a.tif.aux.xml").write_text(f"<PAMDataset>{points}</PAMDataset>")
    np.testing.assert_array_equal(read(source), pixels)
    assert f"{source}: files beside it are ignored" in caplog.text


def test_a_georeference_is_known_of_without_rasterio_and_asks_for_it(tmp_path, monkeypatch):
    monkeypatch.setattr(raster_gdal, "available", lambda: False)
    monkeypatch.setitem(__import__("sys").modules, "rasterio", None)
    source = save_picture(tmp_path / "a.jpg", noise(3, 8, 10))
    assert not has_georeference(info_of(source))
    check_output(tmp_path / "b.tif", info_of(source), scale=2)
    (tmp_path / "a.jgw").write_text(WORLD)
    info = info_of(source)
    assert has_georeference(info) and info.geo is None
    check_output(tmp_path / "b.png", info, scale=2)
    with pytest.raises(ImageFileError, match="b.tif needs rasterio"):
        check_output(tmp_path / "b.tif", info, scale=2)


@needs_rasterio
def test_a_world_file_alone_is_a_georeference(tmp_path):
    source = save_picture(tmp_path / "a.jpg", noise(3, 8, 10))
    (tmp_path / "a.wld").write_text(WORLD)
    info = info_of(source)
    assert info.geo.transform == PLACE and info.geo.crs is None and has_georeference(info)
    assert has_georeference(info_of(save_raster(tmp_path / "b.tif", noise(1, 4, 4))))
