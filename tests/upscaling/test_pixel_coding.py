"""Pixels as channels and back: types, ranges, missing values, alpha."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest
import torch
from torch import nn
from upscaling_toys import (
    Blurring,
    needs_rasterio,
    noise,
    read,
    repeated,
    repeating,
    save_picture,
    save_raster,
    upscaler,
)

from monai_ext.raster.images import ImageFileError
from monai_ext.raster.opening import open_raster
from monai_ext.upscaling import Choices, upscale_file
from monai_ext.upscaling.pixel_coding import BandNetwork, PixelCoding


@needs_rasterio
@pytest.mark.parametrize(
    ("dtype", "limits"),
    [(np.uint8, None), (np.int16, (-40000.0, 40000.0)), (np.float32, None), (np.float64, "data"), (np.int32, "data")],
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


@pytest.mark.parametrize("deviations", [0, 1])
def test_what_lies_beyond_the_range_is_interpolated_beside_the_network(deviations):
    """A cloud over land, and a network that cuts its output to [0, 1] as a projection does."""
    coding = PixelCoding(np.dtype(np.uint16), 1, 0.0, 3000.0, (None,), None, 0)
    pixels = np.full((1, 8, 8), 1500, np.uint16)
    pixels[0, 3:6, 3:6] = 30_000

    def network(windows):
        assert windows.min() >= 0 and windows.max() <= 1
        return repeating(1)(windows).repeat(1, 1 + deviations, 1, 1).clamp(0, 1)

    whole = BandNetwork(network, coding, channels=1, scale=2, images=1 + deviations, deviations=deviations)
    with torch.no_grad():
        output = whole(coding.decode(pixels))
    found = coding.encode(output[:, :1])[0, 0].numpy()
    assert found[8, 8] == 30_000 and (found[:4] == 1500).all() and found.min() == 1500
    if deviations:
        assert output[:, 1:].max() <= 1


@needs_rasterio
def test_undeclared_nodata_and_infinities_stay_missing(tmp_path, caplog):
    import rasterio

    pixels = np.linspace(0, 3000, 20 * 24).reshape(1, 20, 24).astype(np.int16)
    pixels[0, :5] = -9999
    source = save_raster(tmp_path / "a.tif", pixels)
    with caplog.at_level("INFO"):
        upscale_file(source, tmp_path / "b.tif", upscaler=upscaler(Blurring()))
    assert "-9999 lies apart from all other values and is taken for nodata" in caplog.text
    assert "int16 values from 751 to 3000: 0 to 3000 become 0 to 1 (--range LOW HIGH sets them)" in caplog.text
    with rasterio.open(tmp_path / "b.tif") as dataset:
        assert dataset.nodata == -9999
    found = read(tmp_path / "b.tif")[0]
    assert (found[:10] == -9999).all() and found[10:].min() >= 600
    upscale_file(source, tmp_path / "c.tif", upscaler=upscaler(Blurring()), choices=Choices(nodata=751))
    found = read(tmp_path / "c.tif")[0]
    assert found[10, 0] == 751 and (found[:10] < -5000).all()  # given nodata, -9999 is a value
    floats = save_raster(tmp_path / "f.tif", np.where(pixels < 0, np.inf, pixels / 3000).astype(np.float32))
    upscale_file(floats, tmp_path / "g.tif", upscaler=upscaler(Blurring()))
    found = read(tmp_path / "g.tif")[0]
    assert np.isnan(found[:10]).all() and np.isfinite(found[10:]).all()
    assert "120 values are infinite and count as missing" in caplog.text


@needs_rasterio
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_near_infrared_tagged_as_alpha_is_a_band_if_told_so(tmp_path, dtype, caplog):
    import rasterio

    pixels = noise(4, 24, 30, dtype=dtype)
    pixels[3, :8] = 0  # water
    source = save_raster(tmp_path / "a.tif", pixels, photometric="rgb", alpha="yes")
    upscale_file(source, tmp_path / "b.tif", upscaler=upscaler())
    assert "band tagged as alpha has" in caplog.text and "--no_alpha takes it as a band" in caplog.text
    caplog.clear()
    choices = Choices(no_alpha=True)
    upscale_file(source, tmp_path / "c.tif", upscaler=upscaler(repeating(4)), choices=choices)
    with rasterio.open(tmp_path / "c.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(), repeated(pixels))
        assert "alpha" not in [each.name for each in dataset.colorinterp]
    upscale_file(source, tmp_path / "d.tif", upscaler=upscaler(), choices=Choices(no_alpha=True, bands=(4, 1, 2)))
    np.testing.assert_array_equal(read(tmp_path / "d.tif"), repeated(pixels[[3, 0, 1]]))
    assert not caplog.text


def test_a_known_pixel_never_becomes_nodata():
    coding = PixelCoding(np.dtype(np.uint8), 2, 0.0, 255.0, (0.0, 255.0), None, 2)
    channels = torch.tensor([[[[-0.1, 0.5]], [[1.2, 0.5]], [[1.0, 0.0]], [[1.0, 0.0]]]])
    assert coding.encode(channels).flatten().tolist() == [1, 0, 254, 255]
    for marker in (0.0, 0.25, 1.0):
        floats = PixelCoding(np.dtype(np.float32), 1, 0.0, 1.0, (marker,), None, 1)
        found = floats.encode(torch.tensor([[[[marker, 0.7]], [[1.0, 0.0]]]])).flatten().tolist()
        assert found[1] == marker
        assert found[0] == pytest.approx(marker) and found[0] != marker


def test_soft_alpha_is_interpolated_and_what_lies_under_it_is_not_smeared(tmp_path):
    pixels = np.full((4, 16, 16), 200, np.uint8)
    pixels[3] = 255
    pixels[:, :, 8:] = 0  # black and transparent: a blur over all pixels would darken column 7
    source = save_picture(tmp_path / "a.png", pixels)
    upscale_file(source, tmp_path / "b.png", upscaler=upscaler(Blurring()))
    found = read(tmp_path / "b.png")
    assert (found[:3, :, :16] == 200).all()
    np.testing.assert_array_equal(found[3, 0, 12:20], [255, 255, 255, 191, 64, 0, 0, 0])


@needs_rasterio
def test_bands_that_the_network_does_not_take(tmp_path):
    pixels = noise(5, 12, 14)
    source = save_raster(tmp_path / "a.tif", pixels)
    with pytest.raises(ValueError, match="takes 3 bands and the image has 5: choose 3 of them with --bands 1 2 3"):
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
def test_floats_beyond_0_and_1_have_the_range_of_their_values(tmp_path):
    source = save_raster(tmp_path / "a.tif", noise(1, 8, 8, dtype=np.float32) * 0 + 300)
    upscale_file(source, tmp_path / "b.tif", upscaler=upscaler(repeating(1)))
    assert (read(tmp_path / "b.tif") == 300).all()
    with pytest.raises(ValueError, match="range 5 ... 5 is empty"):
        upscale_file(source, tmp_path / "b.tif", upscaler=upscaler(repeating(1)), choices=Choices(limits=(5.0, 5.0)))
    upscale_file(source, tmp_path / "b.tif", upscaler=upscaler(repeating(1)), choices=Choices(limits="data"))
    assert (read(tmp_path / "b.tif") == 300).all()  # a flat image has no range of its own


def test_an_output_of_nan_is_refused(tmp_path):
    network = repeating()
    nn.init.constant_(network[0].weight, float("nan"))
    source = save_picture(tmp_path / "a.png", noise(3, 8, 8))
    with pytest.raises(ValueError, match="the network's output has NaN"):
        upscale_file(source, tmp_path / "b.png", upscaler=upscaler(network))
    assert list(tmp_path.iterdir()) == [source]  # no strips for a run that would fail again


def test_the_range_of_a_file_is_that_of_its_known_pixels(tmp_path):
    pixels = noise(4, 600, 3) // 2 + 60  # 60 ... 187, more rows than are scanned at a time
    pixels[3] = 255
    pixels[:3, 599, 0], pixels[:3, 0, 1] = 250, 20
    pixels[:, 300] = np.array([[255], [0], [255], [0]])  # transparent
    with closing(open_raster(save_picture(tmp_path / "a.png", pixels))) as raster:
        coding = PixelCoding.of(raster, "data")
    assert (coding.low, coding.high) == (20, 250)
