"""`viewer`: a page of a window of an image, its samples and uncertainty."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from range_server import serving_ranges
from upscaling_toys import ALL, NOISE_SD, Toy, bayesian_bundle, needs_rasterio, noise, save_picture, save_raster
from viewer_pages import data_of, decoded, scene

from monai_ext.commands.command_line import parse_options
from monai_ext.commands.upscaling import viewer
from monai_ext.commands.upscaling.viewer import ViewerOptions
from monai_ext.commands.upscaling.viewer_page import viewer_page
from monai_ext.metrics.conformal import Calibration, write_calibration
from monai_ext.upscaling import Upscaler
from monai_ext.upscaling.layers import Layers


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return bayesian_bundle(tmp_path_factory.mktemp("bundle"))


@needs_rasterio
def test_missing_pixels_are_named_in_the_page_and_not_painted(tmp_path, bundle):
    pixels = noise(3, 20, 24)
    pixels[:, :5] = 0
    source = save_raster(tmp_path / "a.tif", pixels, nodata=0)
    words = (source, tmp_path / "page.html", "--bundle", bundle, "--samples", 1, "--device", "cpu")
    viewer.run(parse_options(ViewerOptions, [str(word) for word in words]).options)
    known = decoded(data_of((tmp_path / "page.html").read_text())["known"])[0]
    np.testing.assert_array_equal(known[:5], 0)
    np.testing.assert_array_equal(known[5:][pixels[:, 5:].min(0) > 0], 255)
    assert "missing in the image" in (tmp_path / "page.html").read_text()
    assert data_of(viewer_page(scene(), title="t"))["known"] is None


def test_a_scene_is_what_the_network_says_of_the_image():
    torch.manual_seed(0)
    upscaler = Upscaler(Toy(), ALL)
    low_res, original = torch.rand(3, 10, 12), torch.rand(3, 20, 24)
    found = viewer.viewer_scene(upscaler, low_res, bands=("r", "g", "b"), high=255.0, original=original)
    np.testing.assert_array_equal(found.layers["original"], original)
    assert list(found.layers) == [*ALL.names, "original"] and found.interval == "90% interval"
    np.testing.assert_allclose(found.layers["aleatoric"], NOISE_SD, rtol=1e-5)
    np.testing.assert_allclose(found.layers["mean"], low_res.repeat_interleave(2, 1).repeat_interleave(2, 2), atol=0.3)
    assert "hold 90% of all values" in found.about and "2 of them are behind the slider" in found.about
    with pytest.raises(ValueError, match="a page shows uncertainty: choose Layers"):
        viewer.viewer_scene(Upscaler(Toy(), Layers(samples=1)), low_res, bands=("r", "g", "b"))


def typed(*words: object) -> ViewerOptions:
    return parse_options(ViewerOptions, [str(word) for word in words]).options


def test_the_command_writes_a_page_of_a_window_with_a_bar_of_its_images(tmp_path, bundle, monkeypatch, capsys):
    monkeypatch.setattr(viewer, "shows_progress", lambda: True)
    monkeypatch.setattr(viewer, "tqdm", partial(viewer.tqdm, mininterval=0, miniters=1))  # each image is shown
    source = save_picture(tmp_path / "a <b>.png", noise(3, 40, 30))
    words = (source, tmp_path / "page.html", "--bundle", bundle, "--samples", 2, "--device", "cpu")
    assert viewer.run(typed(*words, "--window", 4, 6, 10, 8, "--weight_samples", 2, "--latent_samples", 2)) == 0
    assert "| 6/6 [" in capsys.readouterr().err  # two samples, and two latents for each of two samples of the weights
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<h1>a &lt;b&gt;.png: 10 x 8 from column 4, row 6</h1>" in page
    data = data_of(page)
    low_res = np.moveaxis(np.asarray(Image.open(source)), -1, 0)[:, 6:14, 4:14]
    np.testing.assert_array_equal(decoded(data["low_res"]), low_res)
    assert decoded(data["layers"]["sample 2"]).shape == (3, 32, 40)
    assert (data["low"], data["high"], data["bands"]) == (0.0, 255.0, ["red", "green", "blue"])
    with pytest.raises(ValueError, match="--window 25 0 10 8: choose a part of the image of 30 x 40 pixels"):
        viewer.run(typed(*words, "--window", 25, 0, 10, 8))


@needs_rasterio
def test_of_a_tiff_by_its_address_the_window_alone_is_read(tmp_path, bundle, caplog):
    pixels = noise(3, 512, 512, dtype=np.uint16) % 900
    save_raster(tmp_path / "a.tif", pixels, tiled=True, blockxsize=64, blockysize=64)
    with serving_ranges(tmp_path) as server:
        words = (f"{server.url}/a.tif?sig=k3y", tmp_path / "page.html", "--bundle", bundle, "--device", "cpu")
        viewer.run(typed(*words, "--window", 70, 140, 10, 8, "--samples", 1, "--weight_samples", 1))
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<h1>a.tif: 10 x 8 from column 70, row 140</h1>" in page and "k3y" not in page
    assert data_of(page)["high"] == pixels[:, 140:148, 70:80].max()
    assert sum(count for _, count in server.sent) < pixels.nbytes / 4
    viewer.run(typed(tmp_path / "a.tif", *words[1:], "--window", 0, 0, 9, 9, "--samples", 1, "--preset", "sentinel2"))
    assert data_of((tmp_path / "page.html").read_text())["low"] == 1000 and "values lie below 1000" in caplog.text


def test_a_folder_and_a_page_that_no_browser_knows_are_refused(tmp_path):
    with pytest.raises(ValueError, match="is a folder: name one image in it"):
        ViewerOptions(tmp_path, tmp_path / "page.html")
    source = save_picture(tmp_path / "a.png", noise(3, 8, 8))
    with pytest.raises(ValueError, match="page': give it a name that ends in .html"):
        ViewerOptions(source, tmp_path / "page")


def test_a_calibration_of_other_weights_gives_a_page_without_intervals_and_a_word(tmp_path, bundle, caplog):
    weights = shutil.copy(bundle / "models" / "model.pt", tmp_path)
    calibration = Calibration("crc", 0.1, None, (1.7,), weight_samples=1, latent_samples=2, weights=("another",))
    write_calibration(calibration, tmp_path / "calibration.json")
    source = save_picture(tmp_path / "a.png", noise(3, 8, 8))
    words = (source, tmp_path / "page.html", "--bundle", bundle, "--samples", 1, "--device", "cpu")
    assert viewer.run(typed(*words, "--weights", weights, "--weight_samples", 1, "--latent_samples", 2)) == 0
    assert "no intervals on the page: the calibration " in caplog.text
    assert "lower" not in data_of((tmp_path / "page.html").read_text(encoding="utf-8"))["layers"]


def test_the_middle_is_shown_where_no_window_is_named():
    assert viewer._window(None, (40, 300)) == (86, 0, 128, 40)
    with pytest.raises(ValueError, match="at most 256 on a side"):
        viewer._window((0, 0, 257, 10), (300, 300))
