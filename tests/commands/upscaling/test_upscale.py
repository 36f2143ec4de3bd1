"""`python -m monai_ext upscale`: pictures and GeoTIFFs enlarged, what they say of themselves kept, runs broken off."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from torch import nn
from upscaling_toys import (
    HAS_RASTERIO,
    Blurring,
    Broken,
    needs_rasterio,
    noise,
    read,
    repeated,
    repeating,
    save_picture,
    save_raster,
    typed,
    upscaler,
)

from monai_ext.commands.bundles.network import load_bundle_network
from monai_ext.commands.upscaling import image_options
from monai_ext.commands.upscaling import upscale as command
from monai_ext.commands.upscaling.upscale import Choices, UpscaleError, plan_outputs, upscale, upscale_file
from monai_ext.raster import gdal as raster_gdal
from monai_ext.raster import pillow as raster_pillow
from monai_ext.raster.images import ImageFileError
from monai_ext.raster.opening import open_raster, written_by
from monai_ext.raster.partial_rows import PartialRows
from monai_ext.upscaling import file as enlarge_file
from monai_ext.upscaling.pixel_coding import PixelCoding
from monai_ext.upscaling.upscaler import Upscaler


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    definition = "$torch.nn.Sequential(torch.nn.Conv2d(3, 12, 3, padding=1, bias=False), torch.nn.PixelShuffle(2))"
    config = {"imports": ["$import torch"], "network_def": definition}
    (folder / "configs" / "inference.json").write_text(json.dumps(config))
    torch.save(repeating().state_dict(), folder / "models" / "model.pt")
    return folder


# Pictures


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (41, 37)])
@pytest.mark.parametrize("mode", ["halo", "feather"])
def test_a_png_has_each_pixel_repeated(tmp_path, size, mode):
    pixels = noise(3, *size)
    source = save_picture(tmp_path / "a.png", pixels, dpi=(100, 100))
    assert upscale_file(source, tmp_path / "b.png", upscaler=upscaler(mode=mode))
    np.testing.assert_array_equal(read(tmp_path / "b.png"), repeated(pixels))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.png"]  # nothing is left lying about


def test_grey_stays_grey_and_16_bits_stay_16(tmp_path):
    for dtype in (np.uint8, np.uint16):
        pixels = noise(1, 20, 30, dtype=dtype)
        source = save_picture(tmp_path / "a.png", pixels)
        upscale_file(source, tmp_path / "b.png", upscaler=upscaler())
        found = read(tmp_path / "b.png")
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, repeated(pixels))


def test_soft_alpha_is_interpolated_and_what_lies_under_it_is_not_smeared(tmp_path):
    pixels = np.full((4, 16, 16), 200, np.uint8)
    pixels[3] = 255
    pixels[:, :, 8:] = 0  # black and transparent: a blur over all pixels would darken column 7
    source = save_picture(tmp_path / "a.png", pixels)
    upscale_file(source, tmp_path / "b.png", upscaler=upscaler(Blurring()))
    found = read(tmp_path / "b.png")
    assert (found[:3, :, :16] == 200).all()
    np.testing.assert_array_equal(found[3, 0, 12:20], [255, 255, 255, 191, 64, 0, 0, 0])


def test_palettes_become_colours_and_exif_turns_are_applied(tmp_path):
    palette = Image.fromarray(noise(12, 20)).convert("P")
    palette.save(tmp_path / "palette.png")
    upscale_file(tmp_path / "palette.png", tmp_path / "p.png", upscaler=upscaler())
    expected = repeated(np.moveaxis(np.asarray(palette.convert("RGB")), -1, 0))
    np.testing.assert_array_equal(read(tmp_path / "p.png"), expected)
    exif = Image.Exif()
    exif[274], exif[271] = 6, "Maker"  # turned by 90 degrees; a tag to keep
    pixels = noise(3, 10, 20)
    save_picture(tmp_path / "turned.png", pixels, exif=exif)
    upscale_file(tmp_path / "turned.png", tmp_path / "t.png", upscaler=upscaler())
    np.testing.assert_array_equal(read(tmp_path / "t.png"), repeated(np.rot90(pixels, -1, (1, 2))))
    with Image.open(tmp_path / "t.png") as picture:
        assert dict(picture.getexif()) == {271: "Maker"}


def test_a_jpeg_becomes_a_jpeg(tmp_path):
    smooth = np.broadcast_to(np.linspace(40, 200, 48).astype(np.uint8), (3, 32, 48))
    source = save_picture(tmp_path / "a.jpg", smooth, quality=95)
    upscale_file(source, tmp_path / "b.jpg", upscaler=upscaler())
    found = read(tmp_path / "b.jpg").astype(int)
    assert np.abs(found - repeated(read(source))).max() <= 6
    assert written_by(tmp_path / "b.jpg") is not None


# GeoTIFF


@needs_rasterio
def test_a_geotiff_keeps_place_bands_tags_and_colours(tmp_path):
    import rasterio
    from rasterio.enums import ColorInterp

    pixels = noise(5, 30, 41, dtype=np.uint16)
    source = save_raster(tmp_path / "a.tif", pixels)
    with rasterio.open(source, "r+") as dataset:
        dataset.descriptions = ("rot & blau", "b2", "b3", "nir", None)
        dataset.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, *[ColorInterp.undefined] * 2]
        dataset.update_tags(SENSOR="WV-2 <a>", AREA_OR_POINT="Point")
        dataset.update_tags(ns="OWN", KEY="value")
        dataset.update_tags(2, WAVELENGTH="560", STATISTICS_MAXIMUM="7")
        dataset.scales, dataset.offsets, dataset.units = (0.1,) * 5, (2.0,) * 5, ("W",) * 5
    upscale_file(source, tmp_path / "b.tif", upscaler=upscaler(repeating(5)))
    with rasterio.open(source) as old, rasterio.open(tmp_path / "b.tif") as new:
        np.testing.assert_array_equal(new.read(), repeated(pixels))
        assert new.bounds == old.bounds
        assert new.res == (0.25, 0.25)
        for name in ("crs", "count", "dtypes", "descriptions", "colorinterp", "scales", "offsets", "units", "nodata"):
            assert getattr(new, name) == getattr(old, name), name
        assert old.tags().items() <= new.tags().items()
        assert new.tags(ns="OWN") == {"KEY": "value"}
        assert new.tags(2) == {"WAVELENGTH": "560"}  # the statistics no longer hold


@needs_rasterio
def test_a_finished_raster_of_many_bands_is_known_again(tmp_path):
    source = save_raster(tmp_path / "a.tif", noise(5, 8, 9, dtype=np.uint16))
    upscale_file(source, tmp_path / "b.tif", upscaler=upscaler(repeating(5)))
    choices = Choices(resume=True)
    assert not upscale_file(source, tmp_path / "b.tif", upscaler=upscaler(repeating(5)), choices=choices)


@needs_rasterio
@pytest.mark.parametrize(
    ("dtype", "limits"),
    [(np.uint8, None), (np.int16, (-500.0, 3000.0)), (np.float32, None), (np.float64, "data"), (np.int32, "data")],
)
def test_every_type_comes_back_as_it_was(tmp_path, dtype, limits):
    pixels = noise(1, 20, 33, dtype=dtype)
    if dtype == np.float64:
        pixels = pixels * 3000 - 500
    source = save_raster(tmp_path / "a.tif", pixels)
    upscale_file(source, tmp_path / "b.tif", upscaler=upscaler(repeating(1)), choices=Choices(limits=limits))
    found = read(tmp_path / "b.tif")
    assert found.dtype == dtype
    # float32 between the range's ends: 32-bit integers keep 24 bits.
    span = float(np.ptp(pixels.astype(np.float64)))
    np.testing.assert_allclose(
        found, repeated(pixels), rtol=0, atol=0 if dtype in (np.uint8, np.int16) else span * 2e-7
    )


@needs_rasterio
@pytest.mark.parametrize("mode", ["halo", "feather"])
@pytest.mark.parametrize(("dtype", "nodata"), [(np.uint8, 0.0), (np.float32, -9999.0), (np.float32, None)])
def test_missing_pixels_stay_missing_and_are_not_smeared(tmp_path, dtype, nodata, mode):
    import rasterio

    pixels = np.full((1, 70, 60), 0.75 if dtype == np.float32 else 90, dtype)
    missing = np.zeros((70, 60), bool)
    missing[20:, :31], missing[3, 50] = True, True
    pixels[0, missing] = np.nan if nodata is None else nodata
    source = save_raster(tmp_path / "a.tif", pixels, nodata=nodata)
    network = Blurring()
    upscale_file(source, tmp_path / "b.tif", upscaler=upscaler(network, mode=mode))
    with rasterio.open(tmp_path / "b.tif") as dataset:
        assert dataset.nodata == nodata
    found = read(tmp_path / "b.tif")[0]
    wide = repeated(missing)
    expected = np.where(wide, np.nan if nodata is None else dtype(nodata), pixels[0, 0, 0])
    np.testing.assert_allclose(found, expected.astype(dtype), rtol=1e-6)
    assert network.windows < 2 * 16 + 8  # windows without a known pixel cost nothing


def test_a_known_pixel_never_becomes_nodata():
    coding = PixelCoding(np.dtype(np.uint8), 2, 0.0, 255.0, (0.0, 255.0), None, 2)
    channels = torch.tensor([[[[-0.1, 0.5]], [[1.2, 0.5]], [[1.0, 0.0]], [[1.0, 0.0]]]])
    assert coding.encode(channels).flatten().tolist() == [1, 0, 254, 255]
    floats = PixelCoding(np.dtype(np.float32), 1, 0.0, 1.0, (0.25,), None, 1)
    found = floats.encode(torch.tensor([[[[0.25, 0.7]], [[1.0, 0.0]]]])).flatten().tolist()
    assert found[1] == 0.25
    assert found[0] == pytest.approx(0.25) and found[0] != 0.25


@needs_rasterio
def test_alpha_bands_and_masks_keep_their_place_and_stay_hard(tmp_path):
    import rasterio
    from rasterio.enums import ColorInterp, MaskFlags

    pixels = noise(4, 20, 30)
    pixels[1] = np.where(pixels[1] > 99, 255, 0)
    source = save_raster(tmp_path / "alpha.tif", pixels)
    with rasterio.open(source, "r+") as dataset:
        dataset.colorinterp = [ColorInterp.red, ColorInterp.alpha, ColorInterp.green, ColorInterp.blue]
    upscale_file(source, tmp_path / "b.tif", upscaler=upscaler())
    with rasterio.open(tmp_path / "b.tif") as dataset:
        assert [colour.name for colour in dataset.colorinterp] == ["red", "alpha", "green", "blue"]
        found, expected = dataset.read(), repeated(pixels)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(found[:, expected[1] > 0], expected[:, expected[1] > 0])
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="YES"):
        source = save_raster(tmp_path / "mask.tif", pixels[[0, 2, 3]])
        with rasterio.open(source, "r+") as dataset:
            dataset.write_mask(pixels[1] > 0)
    upscale_file(source, tmp_path / "m.tif", upscaler=upscaler())
    with rasterio.open(tmp_path / "m.tif") as dataset:
        assert dataset.count == 3 and MaskFlags.per_dataset in dataset.mask_flag_enums[0]
        np.testing.assert_array_equal(dataset.dataset_mask(), expected[1])


@needs_rasterio
def test_control_points_move_with_the_pixels_and_palettes_become_colours(tmp_path):
    import rasterio
    from rasterio.control import GroundControlPoint

    points = [GroundControlPoint(row=r, col=c, x=9 + c, y=50 - r) for r, c in ((0, 0), (0, 12), (10, 0), (10, 12))]
    source = save_raster(tmp_path / "a.tif", noise(3, 10, 12), crs="EPSG:4326", transform=None, gcps=points)
    upscale_file(source, tmp_path / "b.tif", upscaler=upscaler())
    with rasterio.open(tmp_path / "b.tif") as dataset:
        found, crs = dataset.gcps
        assert crs.to_epsg() == 4326
        assert [(p.row, p.col, p.x, p.y) for p in found] == [(2 * p.row, 2 * p.col, p.x, p.y) for p in points]
    index = noise(1, 10, 12) % 3
    source = save_raster(tmp_path / "palette.tif", index)
    table = {0: (255, 0, 0, 255), 1: (0, 80, 0, 255), 2: (1, 2, 3, 255)}
    with rasterio.open(source, "r+") as dataset:
        dataset.write_colormap(1, table)
    upscale_file(source, tmp_path / "p.tif", upscaler=upscaler())
    colours = np.array([table[value][:3] for value in range(3)], np.uint8)
    np.testing.assert_array_equal(read(tmp_path / "p.tif"), repeated(np.moveaxis(colours[index[0]], -1, 0)))


@needs_rasterio
def test_a_cloud_optimised_geotiff_has_overviews_and_the_same_pixels(tmp_path):
    import rasterio

    pixels = noise(3, 300, 320)
    source = save_raster(tmp_path / "a.tif", pixels, nodata=None)
    upscale_file(source, tmp_path / "b.tif", upscaler=upscaler(tile=128), choices=Choices(cog=True))
    with rasterio.open(tmp_path / "b.tif") as dataset:
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert dataset.overviews(1) == [2]
        assert dataset.crs.to_epsg() == 32618
        np.testing.assert_array_equal(dataset.read(), repeated(pixels))
    with pytest.raises(ValueError, match="a Cloud-Optimised GeoTIFF needs a name in .tif"):
        upscale_file(source, tmp_path / "c.png", upscaler=upscaler(), choices=Choices(cog=True))


@needs_rasterio
def test_16_bit_colour_pngs_keep_16_bits(tmp_path):
    pixels = noise(3, 9, 11, dtype=np.uint16)
    source = save_raster(tmp_path / "a.png", pixels, driver="PNG", crs=None, transform=None)
    upscale_file(source, tmp_path / "b.png", upscaler=upscaler())
    found = read(tmp_path / "b.png")
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, repeated(pixels))


@needs_rasterio
@needs_rasterio
def test_a_world_file_is_told_where_it_is_lost_and_asks_for_new_work_where_it_came_later(tmp_path, caplog):
    source = save_picture(tmp_path / "a.png", noise(3, 8, 8))
    choices = Choices(resume=True)
    assert upscale_file(source, tmp_path / "b.tif", upscaler=upscaler(), choices=choices)
    assert not upscale_file(source, tmp_path / "b.tif", upscaler=upscaler(), choices=choices)
    (tmp_path / "a.pgw").write_text("2\n0\n0\n-2\n500001\n3999999\n")
    assert upscale_file(source, tmp_path / "b.tif", upscaler=upscaler(), choices=choices) and not caplog.records
    upscale_file(source, tmp_path / "b.png", upscaler=upscaler())
    assert f"the georeference of {source} is lost, only .tif keeps it" in caplog.text


def test_a_georeference_that_the_format_cannot_keep_is_told(tmp_path, caplog):
    source = save_raster(tmp_path / "a.tif", noise(3, 9, 11))
    upscale_file(source, tmp_path / "b.png", upscaler=upscaler())
    assert "the georeference of" in caplog.text


@needs_rasterio
@pytest.mark.parametrize("mode", ["halo", "feather"])
def test_windows_leave_no_seams(tmp_path, mode):
    rows, columns = np.mgrid[:100, :90]
    source = save_raster(tmp_path / "a.tif", (200 * rows + 300 * columns).astype(np.uint16)[None])
    tiled = upscaler(Blurring(), tile=40, overlap=12, mode=mode)
    upscale_file(source, tmp_path / "b.tif", upscaler=tiled)
    pixels = read(tmp_path / "b.tif")[0].astype(np.float64)
    for axis, slope, edges in ((0, 200, [25, 50, 75]), (1, 300, [22, 45, 67])):
        between = np.diff(np.moveaxis(pixels, axis, -1))[20:-20, 1::2]  # steps from one pixel of the source to the next
        across, inside = between[:, np.array(edges) - 1], between[:, 10:80]
        assert across.mean() == pytest.approx(inside.mean(), rel=0.002)
        np.testing.assert_allclose(across, slope, atol=2 if mode == "halo" else 6)
    assert tiled.inferer.strip_edges(100) == ([0, 25, 50, 75, 100] if mode == "halo" else [0, 19, 44, 69, 100])


@needs_rasterio
def test_a_dark_16_bit_image_gets_advice(tmp_path, caplog):
    source = save_raster(tmp_path / "a.tif", noise(1, 9, 11, dtype=np.uint16) % 4000)
    upscale_file(source, tmp_path / "b.tif", upscaler=upscaler(repeating(1)))
    assert "--range 0 39" in caplog.text
    caplog.clear()
    upscale_file(source, tmp_path / "b.tif", upscaler=upscaler(repeating(1)), choices=Choices(limits=(0, 4000)))
    assert not caplog.records


@needs_rasterio
def test_threads_that_open_rasters_leave_the_warnings_as_they_were(tmp_path, monkeypatch):
    """Each waits inside until another one has had the chance to enter: without a lock their filters would be mixed."""
    import rasterio

    source = save_raster(tmp_path / "a.tif", noise(1, 8, 8), crs=None, transform=None)
    opened, inside, most = rasterio.open, [], []

    def slow(*arguments: object, **options: object) -> object:
        inside.append(threading.get_ident())
        most.append(len(inside))
        time.sleep(0.02)
        try:
            return opened(*arguments, **options)
        finally:
            inside.pop()

    monkeypatch.setattr(rasterio, "open", slow)
    before = list(warnings.filters)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        threads = [threading.Thread(target=lambda: open_raster(source).close()) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert max(most) == 1 and len(most) == 4
        upscale_file(source, tmp_path / "b.tif", upscaler=upscaler(repeating(1)))
    assert not [each for each in caught if "georeferenc" in str(each.message)]
    assert warnings.filters == before


# What does not go together


@needs_rasterio
def test_bands_that_the_network_does_not_take(tmp_path):
    pixels = noise(5, 12, 14)
    source = save_raster(tmp_path / "a.tif", pixels)
    with pytest.raises(ValueError, match="takes 3 bands and the image has 5: choose 3 of them with --bands 1,2,3"):
        upscale_file(source, tmp_path / "b.tif", upscaler=upscaler())
    upscale_file(source, tmp_path / "b.tif", upscaler=upscaler(), choices=Choices(bands=(5, 1, 3)))
    np.testing.assert_array_equal(read(tmp_path / "b.tif"), repeated(pixels[[4, 0, 2]]))
    upscale_file(source, tmp_path / "b.tif", upscaler=upscaler(repeating(1)))  # one by one
    np.testing.assert_array_equal(read(tmp_path / "b.tif"), repeated(pixels))
    with pytest.raises(ImageFileError, match="has no bands 6: it has 5"):
        upscale_file(source, tmp_path / "b.tif", upscaler=upscaler(), choices=Choices(bands=(6,)))
    with pytest.raises(ValueError, match="takes 7 bands and the image has 5: choose a network for 5 or for 1"):
        upscale_file(source, tmp_path / "b.tif", upscaler=upscaler(repeating(7)))


@needs_rasterio
def test_floats_beyond_0_and_1_need_a_range(tmp_path):
    source = save_raster(tmp_path / "a.tif", noise(1, 8, 8, dtype=np.float32) * 0 + 300)
    with pytest.raises(ValueError, match="holds float32 from 300 to 300: say which values are black and white"):
        upscale_file(source, tmp_path / "b.tif", upscaler=upscaler(repeating(1)))
    with pytest.raises(ValueError, match="range 5 ... 5 is empty"):
        upscale_file(source, tmp_path / "b.tif", upscaler=upscaler(repeating(1)), choices=Choices(limits=(5.0, 5.0)))
    upscale_file(source, tmp_path / "b.tif", upscaler=upscaler(repeating(1)), choices=Choices(limits="data"))
    assert (read(tmp_path / "b.tif") == 300).all()  # a flat image has no range of its own


def test_outputs_that_cannot_hold_the_image_are_refused_before_the_work(tmp_path):
    network = Blurring()
    source = save_picture(tmp_path / "a.png", noise(4, 8, 8))
    with pytest.raises(ValueError, match="'.jpg' cannot hold 3 band.s. and alpha of uint8"):
        upscale_file(source, tmp_path / "b.jpg", upscaler=upscaler(network))
    with pytest.raises(ValueError, match="'.gif' cannot be written"):
        upscale_file(source, tmp_path / "b.gif", upscaler=upscaler(network))
    with pytest.raises(ValueError, match="is its own input"):
        upscale_file(source, source, upscaler=upscaler(network))
    long = save_picture(tmp_path / "long.png", noise(1, 1, 33000))
    with pytest.raises(ValueError, match="2 x 66000 pixels are more than a JPEG can hold"):
        upscale_file(long, tmp_path / "b.jpg", upscaler=upscaler(network))
    assert network.windows == 4  # one for the scale of each upscaler
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "long.png"]


def test_networks_that_are_none_for_upscaling_are_refused():
    with pytest.raises(ValueError, match="answers a window of shape .1, 3, 24, 24. with shape .1, 5, 24, 24."):
        upscaler(nn.Conv2d(3, 5, 1))
    with pytest.raises(ValueError, match="ReLU has neither an attribute in_channels nor a convolution"):
        upscaler(nn.ReLU())


def test_a_network_that_answers_nan_is_told(tmp_path):
    network = repeating()
    nn.init.constant_(network[0].weight, float("nan"))
    source = save_picture(tmp_path / "a.png", noise(3, 8, 8))
    with pytest.raises(ValueError, match="the network answers with NaN"):
        upscale_file(source, tmp_path / "b.png", upscaler=upscaler(network))


def test_without_rasterio_plain_tiffs_work_and_others_name_it(tmp_path, monkeypatch):
    pixels = noise(3, 9, 8)
    plain = save_picture(tmp_path / "plain.tif", pixels)
    if HAS_RASTERIO:
        geo = save_raster(tmp_path / "geo.tif", pixels)
    monkeypatch.setattr(raster_gdal, "available", lambda: False)
    monkeypatch.setitem(__import__("sys").modules, "rasterio", None)
    upscale_file(plain, tmp_path / "b.tif", upscaler=upscaler())
    np.testing.assert_array_equal(read(tmp_path / "b.tif"), repeated(pixels))
    assert written_by(tmp_path / "b.tif") is not None
    if HAS_RASTERIO:
        with pytest.raises(ImageFileError, match="geo.tif needs rasterio: pip install rasterio"):
            upscale_file(geo, tmp_path / "c.tif", upscaler=upscaler())


# Failing, breaking off, going on


@pytest.mark.parametrize("name", ["a.png", "a.jpg", pytest.param("a.tif", marks=needs_rasterio)])
def test_a_truncated_file_is_one_sentence_and_leaves_the_old_output(tmp_path, name):
    source, target = tmp_path / name, tmp_path / f"b{Path(name).suffix}"
    if name == "a.tif":
        save_raster(source, noise(3, 64, 64), blockysize=16)
    else:
        save_picture(source, noise(3, 64, 64))
    source.write_bytes(source.read_bytes()[:-3000])
    target.write_bytes(b"precious")
    with pytest.raises(ImageFileError, match=f"cannot read image .*{name}: .*[^.].$"):
        upscale_file(source, target, upscaler=upscaler())
    assert target.read_bytes() == b"precious"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("mode", ["halo", "feather"])
@pytest.mark.parametrize("suffix", [".png", pytest.param(".tif", marks=needs_rasterio)])
def test_a_run_that_broke_off_goes_on_with_its_finished_strips(tmp_path, mode, suffix):
    pixels = noise(1, 100, 12, dtype=np.uint16)
    source = save_picture(tmp_path / "a.png", pixels)
    target, whole = tmp_path / f"b{suffix}", tmp_path / f"whole{suffix}"
    upscale_file(source, whole, upscaler=upscaler(Blurring(), mode=mode))
    target.write_bytes(b"precious")

    def kill(done: int, count: int) -> None:
        assert count == 7
        if done == 4:
            raise Broken

    with pytest.raises(Broken):
        upscale_file(source, target, upscaler=upscaler(Blurring(), mode=mode), progress=kill)
    assert target.read_bytes() == b"precious"
    with (tmp_path / f".b{suffix}.partial").open("ab") as file:
        file.write(b"a torn strip")
    network, resume = Blurring(), Choices(resume=True)
    assert upscale_file(source, target, upscaler=upscaler(network, mode=mode), choices=resume)
    assert network.windows == 1 + (3 if mode == "halo" else 4)  # feather asks again for the strip above
    np.testing.assert_array_equal(read(target), read(whole))
    assert not list(tmp_path.glob(".*"))
    assert not upscale_file(source, target, upscaler=upscaler(network, mode=mode), choices=resume)  # there already


def test_a_killed_process_leaves_what_a_second_one_needs_for_the_same_file(tmp_path, bundle):
    """Really killed, by a signal that nobody can catch."""
    config = json.loads((bundle / "configs" / "inference.json").read_text())
    slow = "type('Slow', (torch.nn.Identity,), {'forward': lambda self, image: (time.sleep(0.02), image)[1]})()"
    config["imports"].append("$import time")
    config["network_def"] = config["network_def"][:-1] + f", {slow})"
    (bundle / "configs" / "inference.json").write_text(json.dumps(config))
    source = save_picture(tmp_path / "a.png", noise(3, 1600, 12))
    words = (source, tmp_path / "b.png", "--bundle", bundle, "--tile", 24, "--overlap", 8, "--device", "cpu")
    (tmp_path / "b.png").write_bytes(b"precious")
    child = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "monai_ext", "upscale", *map(str, words)], stderr=subprocess.DEVNULL
    )
    record = tmp_path / ".b.png.partial.json"
    try:
        while not (record.is_file() and json.loads(record.read_text())["strips"] >= 10):  # of 100
            assert child.poll() is None, "it ended before it could be killed"
            time.sleep(0.01)
    finally:
        child.kill()
        child.wait()
    assert child.returncode == -signal.SIGKILL
    assert (tmp_path / "b.png").read_bytes() == b"precious"
    done = json.loads(record.read_text())["strips"]
    assert 10 <= done < 100
    network, identity = load_bundle_network(bundle)
    counted = []
    network.register_forward_hook(lambda module, inputs, output: counted.append(len(inputs[0])))
    choices = Choices(resume=True, identity=identity)
    resumed = Upscaler(network, tile=24, overlap=8)
    assert upscale_file(source, tmp_path / "b.png", upscaler=resumed, choices=choices)
    assert sum(counted) == 1 + 100 - done  # one for the scale
    assert command.run(typed(source, tmp_path / "whole.png", *words[2:])) == 0
    np.testing.assert_array_equal(read(tmp_path / "b.png"), read(tmp_path / "whole.png"))
    assert (tmp_path / "b.png").read_bytes() == (tmp_path / "whole.png").read_bytes()
    assert not list(tmp_path.glob(".*"))


def test_strips_outlive_an_output_that_could_not_be_written(tmp_path, monkeypatch):
    source = save_picture(tmp_path / "a.png", noise(1, 100, 12))

    def full(*_: object, **__: object) -> None:
        raise ImageFileError("cannot write image: the disk is full.")

    with monkeypatch.context() as patch, pytest.raises(ImageFileError, match="the disk is full"):
        patch.setattr(enlarge_file, "write_raster", full)
        upscale_file(source, tmp_path / "b.png", upscaler=upscaler(Blurring()))
    network = Blurring()
    upscale_file(source, tmp_path / "b.png", upscaler=upscaler(network), choices=Choices(resume=True))
    assert network.windows == 1 + 1  # only the last strip is not kept


def test_strips_of_other_work_are_not_used(tmp_path):
    source = save_picture(tmp_path / "a.png", noise(1, 100, 12))

    def kill(done: int, count: int) -> None:
        if done == 2:
            raise Broken

    with pytest.raises(Broken):
        upscale_file(source, tmp_path / "b.png", upscaler=upscaler(), progress=kill)
    network = Blurring()
    choices = Choices(resume=True, identity="other weights")
    upscale_file(source, tmp_path / "b.png", upscaler=upscaler(network), choices=choices)
    assert network.windows == 1 + 7
    changed = save_picture(tmp_path / "a.png", noise(1, 90, 12))
    assert upscale_file(changed, tmp_path / "b.png", upscaler=upscaler(network), choices=choices)  # the source is new


def test_two_runs_do_not_write_one_image_at_a_time(tmp_path):
    row = {"planes": 1, "width": 4, "dtype": np.dtype(np.uint8), "fingerprint": "f"}
    with PartialRows(tmp_path / "a.png", **row), pytest.raises(BlockingIOError, match="another run is writing .*a.png"):
        PartialRows(tmp_path / "a.png", **row)
    with PartialRows(tmp_path / "a.png", **row) as partial, pytest.raises(ValueError, match="expected .1, rows, 4."):
        partial.append(np.zeros((1, 2, 5), np.uint8))


def test_a_full_disk_is_told_before_the_work(tmp_path, monkeypatch):
    source = save_picture(tmp_path / "a.png", noise(3, 20, 20))
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr(enlarge_file.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(OSError, match="needs 5 KiB for its rows before compression, but .* has only 10 B left"):
        upscale_file(source, tmp_path / "b.png", upscaler=upscaler())


# The command


def test_the_command_enlarges_a_folder_with_its_subfolders(tmp_path, bundle, caplog, capsys):
    folder, out = tmp_path / "in", tmp_path / "out"
    (folder / "sub").mkdir(parents=True)
    images = {"a.png": noise(3, 10, 12), "sub/b.png": noise(3, 5, 5, seed=1), "sub/c.bmp": noise(3, 6, 7, seed=2)}
    for name, pixels in images.items():
        save_picture(folder / name, pixels)
    (folder / "notes.txt").write_text("no image")
    (folder / "broken.png").write_bytes(b"\x89PNG nothing")
    words = (folder, out, "--bundle", bundle, "--tile", 16, "--overlap", 4, "--device", "cpu", "--jobs", 2)
    with caplog.at_level(logging.CRITICAL), pytest.raises(UpscaleError, match="1 of 4 images could not be enlarged"):
        command.run(typed(*words))
    for name, pixels in images.items():
        np.testing.assert_array_equal(read((out / name).with_suffix(".png")), repeated(pixels))
    assert not (out / "broken.png").exists()
    (folder / "broken.png").unlink()
    assert command.run(typed(*words, "--resume", "--scale", 2)) == 0
    assert "0 of 3 images enlarged 2 times, 3 were there already" in capsys.readouterr().err
    with pytest.raises(ValueError, match="enlarges 2 times, not 4"):
        command.run(typed(*words, "--scale", 4))


def test_a_run_that_is_interrupted_stops_the_images_at_hand(tmp_path, monkeypatch):
    pairs = []
    for number in range(3):
        source = save_picture(tmp_path / f"{number}.png", noise(1, 100, 12))
        pairs.append((source, tmp_path / "out" / source.name))

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        upscale(pairs, upscalers=[upscaler(Blurring())], choices=Choices())
    assert not (tmp_path / "out" / "2.png").exists()


def test_one_file_may_name_its_output_and_collisions_are_refused(tmp_path):
    for name in ("a.png", "b.webp", "b.png"):
        save_picture(tmp_path / name, noise(3, 4, 4))
    assert plan_outputs([tmp_path / "a.png"], tmp_path / "x.tif") == [(tmp_path / "a.png", tmp_path / "x.tif")]
    assert plan_outputs([tmp_path / "a.png"], tmp_path / "out") == [(tmp_path / "a.png", tmp_path / "out" / "a.png")]
    with pytest.raises(ValueError, match="would both be written to .*b.png"):
        plan_outputs([tmp_path], tmp_path / "out")
    with pytest.raises(ValueError, match="a.png is one of the inputs"):
        plan_outputs([tmp_path / "a.png"], tmp_path)
    with pytest.raises(FileNotFoundError, match="input .*none.png does not exist"):
        plan_outputs([tmp_path / "none.png"], tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no images in .*empty"):
        plan_outputs([tmp_path / "empty"], tmp_path / "out")
    with pytest.raises(ValueError, match="x.xyz is of an unknown kind: choose one of .tif"):
        plan_outputs([tmp_path / "a.png"], tmp_path / "x.xyz")
    assert plan_outputs([tmp_path / "a.png"], tmp_path / "run.v2")[0][1] == tmp_path / "run.v2" / "a.png"
    (tmp_path / "x.xyz").mkdir()
    assert plan_outputs([tmp_path / "a.png"], tmp_path / "x.xyz")[0][1] == tmp_path / "x.xyz" / "a.png"
    with pytest.raises(ValueError, match="b.webp is a file, and the images go to a folder"):
        plan_outputs([tmp_path], tmp_path / "b.webp")


def test_devices_and_ranges_are_checked():
    assert command.devices("cpu,cpu") == [torch.device("cpu")] * 2
    for name, sentence in (("gpu", "device 'gpu' is unknown"), ("cuda:99", "device 'cuda:99' is not here")):
        with pytest.raises(ValueError, match=sentence):
            command.devices(name)
    assert image_options.pixel_limits(["0", "4095"]) == (0.0, 4095.0)
    with pytest.raises(ValueError, match="--range 1: give two numbers, or 'data'"):
        image_options.pixel_limits(["1"])


def test_bundles_that_are_not_complete_are_told(tmp_path, bundle):
    with pytest.raises(FileNotFoundError, match="no configs/inference.json in the bundle"):
        load_bundle_network(tmp_path)
    with pytest.raises(FileNotFoundError, match="no weights at .*other.pt"):
        load_bundle_network(bundle, tmp_path / "other.pt")
    torch.save(repeating(5).state_dict(), tmp_path / "five.pt")
    with pytest.raises(ValueError, match="the weights .*five.pt' do not fit the network_def"):
        load_bundle_network(bundle, tmp_path / "five.pt")
    assert load_bundle_network(bundle)[1] != load_bundle_network(bundle, bundle / "models" / "model.pt")[0]


@pytest.mark.parametrize(
    ("channels", "photometric", "extra", "plain"),
    [
        (1, "minisblack", [], True),
        (3, "rgb", [], True),
        (4, "rgb", ["unassalpha"], True),
        (4, "rgb", ["unspecified"], False),  # red, green, blue, near infrared
        (2, "minisblack", ["unspecified"], False),
    ],
)
def test_tiffs_whose_further_bands_pillow_would_drop_are_not_plain(tmp_path, channels, photometric, extra, plain):
    pixels = np.zeros((8, 9, channels), np.uint8)
    options = {"extrasamples": extra} if extra else {}
    tifffile.imwrite(tmp_path / "a.tif", pixels.squeeze(), photometric=photometric, planarconfig="contig", **options)
    assert raster_pillow.is_plain_tiff(tmp_path / "a.tif") is plain
