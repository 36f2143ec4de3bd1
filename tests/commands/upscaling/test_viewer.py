"""The page of samples and uncertainty: all inside one file, read back as it was written, no text executed."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from upscaling_toys import ALL, NOISE_SD, Toy, bayesian_bundle, needs_rasterio, noise, save_picture, save_raster

from monai_ext.commands.command_line import parse_options
from monai_ext.commands.rendering import source
from monai_ext.commands.upscaling import viewer
from monai_ext.commands.upscaling.viewer import ViewerOptions
from monai_ext.commands.upscaling.viewer_page import ViewerScene, viewer_page
from monai_ext.metrics.conformal import Calibration, write_calibration
from monai_ext.upscaling import Upscaler
from monai_ext.upscaling.layers import DEVIATIONS, Layers

HOSTILE = "</script><script>alert(1)</script>&<img src=x onerror=alert(2)>"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return bayesian_bundle(tmp_path_factory.mktemp("bundle"))


class Tags(HTMLParser):
    """Names of all elements of a page, and what their attributes say."""

    def __init__(self, page: str):
        super().__init__()
        self.names: list[str] = []
        self.values: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.values += [value or "" for _, value in attrs]


def data_of(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


def decoded(source: str) -> np.ndarray:
    """(C, H, W) of 0 ... 255, as a canvas reads it."""
    head, body = source.split(",", 1)
    assert head == "data:image/png;base64"
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(body))))
    return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)


def scene(bands: int = 3, **changes: object) -> ViewerScene:
    generator = np.random.default_rng(0)
    names = ("mean", "sample 1", "lower", "upper")
    layers = {name: generator.random((bands, 8, 6)) for name in names}
    layers |= {name: generator.random((bands, 8, 6)) * 0.07 for name in DEVIATIONS}
    usual = {"low_res": generator.random((bands, 4, 3)), "layers": layers, "deviations": DEVIATIONS}
    return ViewerScene(**(usual | {"bands": [f"b{i}" for i in range(bands)]} | changes))


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
    script = (tmp_path / "page.html").read_text()
    assert "isKnown(at) ? 255 : 0" in script and "missing in the image" in script
    assert data_of(viewer_page(scene(), title="t"))["known"] is None


@pytest.mark.parametrize("bands", [1, 3])
def test_values_survive_the_way_through_the_page(bands):
    shown = scene(bands)
    data = data_of(viewer_page(shown, title="t"))
    np.testing.assert_allclose(decoded(data["low_res"]) / 255, shown.low_res, atol=0.5 / 255 + 1e-9)
    for name, layer in shown.layers.items():
        step = data["deviation_step"] if name in DEVIATIONS else 1 / 255
        np.testing.assert_allclose(decoded(data["layers"][name]) * step, layer, atol=step / 2 + 1e-9)
    assert data["deviation_step"] == pytest.approx(max(shown.layers[name].max() for name in DEVIATIONS) / 255)


def test_text_is_shown_and_never_executed():
    page = viewer_page(scene(bands=3, about=HOSTILE, unit=HOSTILE, interval=HOSTILE), title=HOSTILE)
    assert Tags(page).names.count("script") == 2 and "img" not in Tags(page).names
    assert page.count("</script>") == 2
    assert data_of(page)["about"] == HOSTILE
    assert "innerHTML" not in page and "eval(" not in page and "document.write" not in page


def test_the_page_fetches_nothing():
    page = viewer_page(scene(), title="t")
    assert "default-src 'none'" in page.replace("&#x27;", "'")
    assert set(re.findall(r"https?://[^\"' ]*", page)) == {"http://www.w3.org/2000/svg"}  # the name of a language
    assert not [value for value in Tags(page).values if value.startswith(("//", "http", "file"))]


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_its_script_parses(tmp_path):
    (tmp_path / "page.js").write_text(source("viewer.js"))
    subprocess.run(["node", "--check", str(tmp_path / "page.js")], check=True)


def test_every_part_that_the_script_asks_for_is_there():
    tags = Tags(viewer_page(scene(), title="t"))
    assert set(re.findall(r'(?:find|ById)\("(\w+)"\)', source("viewer.js"))) <= set(tags.values)


def test_scenes_that_a_page_cannot_show_are_refused():
    with pytest.raises(ValueError, match=r"mean \(2, 8, 6\) with bands \['b0', 'b1'\]: a page shows one band or three"):
        viewer_page(scene(bands=2), title="t")
    odd = scene()
    with pytest.raises(ValueError, match=r"layer 'extra' \(3, 2, 2\) must have the shape of the mean, \(3, 8, 6\)"):
        viewer_page(scene(layers=dict(odd.layers) | {"extra": np.zeros((3, 2, 2))}), title="t")


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


def test_the_command_writes_a_page_of_a_window(tmp_path, bundle):
    source = save_picture(tmp_path / "a <b>.png", noise(3, 40, 30))
    words = (source, tmp_path / "page.html", "--bundle", bundle, "--samples", 2, "--device", "cpu")
    assert viewer.run(typed(*words, "--window", 4, 6, 10, 8)) == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<h1>a &lt;b&gt;.png: 10 x 8 from column 4, row 6</h1>" in page
    data = data_of(page)
    low_res = np.moveaxis(np.asarray(Image.open(source)), -1, 0)[:, 6:14, 4:14]
    np.testing.assert_array_equal(decoded(data["low_res"]), low_res)
    assert decoded(data["layers"]["sample 2"]).shape == (3, 32, 40)
    assert (data["low"], data["high"], data["bands"]) == (0.0, 255.0, ["red", "green", "blue"])
    with pytest.raises(ValueError, match="--window 25 0 10 8: choose a part of the image of 30 x 40 pixels"):
        viewer.run(typed(*words, "--window", 25, 0, 10, 8))


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
