"""TIFFs by address: read in part from a server of this machine, or refused in one sentence."""

from __future__ import annotations

import logging
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from range_server import serving_ranges
from upscaling_toys import needs_rasterio, noise, save_raster

from monai_ext.raster.images import ImageFileError
from monai_ext.raster.opening import open_raster
from monai_ext.raster.remote import Address, content_version, source_of
from monai_ext.raster.window import WindowRaster


def test_addresses_are_told_from_files_and_show_no_keys():
    address = source_of("/vsicurl/https://me:hidden@t.org/a//b%20c.TIFF?sig=hidden")
    assert address == Address("https://me:hidden@t.org/a//b%20c.TIFF?sig=hidden")
    assert f"{address}" == repr(address) == "https://***@t.org/a//b%20c.TIFF?sig=***"
    assert (address.name, address.suffix) == ("b c.tif", ".tif")
    assert Address("https://t.org/..").name == Address("https://t.org").name == "image.tif"
    assert source_of("https/a.tif") == Path("https/a.tif") and source_of(address) is address
    for text in ("s3://bucket/a.tif?sig=hidden", "/vsis3/bucket/a.tif", "file:///a.tif", "ftp://t.org/a.tif"):
        with pytest.raises(ValueError, match="only http and https addresses of TIFFs are read") as caught:
            source_of(text)
        assert "hidden" not in str(caught.value)


@needs_rasterio
def test_only_the_parts_that_are_read_are_fetched(tmp_path, caplog):
    pixels = noise(3, 1024, 1024)
    save_raster(tmp_path / "a.tif", pixels, tiled=True, blockxsize=128, blockysize=128)
    with serving_ranges(tmp_path) as server, caplog.at_level(logging.DEBUG):
        address = Address(f"{server.url}/a.tif?sig=hidden")
        with closing(WindowRaster(open_raster(address), (130, 260, 50, 60), margin=4)) as raster:
            np.testing.assert_array_equal(raster.rows(0, 60), pixels[:, 260:320, 126:184])
        with closing(open_raster(address, bands=[2])) as raster:
            assert raster.info.geo.crs and raster.info.bands == 1
        assert content_version(address)[0] == str((tmp_path / "a.tif").stat().st_size)
    assert {path for path, _ in server.sent} == {"/a.tif?sig=hidden"}
    assert sum(count for _, count in server.sent) < pixels.nbytes / 8
    assert "hidden" not in caplog.text


@needs_rasterio
def test_what_cannot_be_read_is_one_sentence(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"<html>no TIFF</html>")
    (tmp_path / "b.tif").write_text(f"<VRTDataset><SourceFilename>{tmp_path}/a.tif</SourceFilename></VRTDataset>")
    for name, options, sentence in (
        ("a.tif", {}, r"cannot read image http://127\S+/a.tif\?key=\*\*\*: .*not recognized"),
        ("b.tif", {}, r"cannot read image http://127\S+/b.tif\?key=\*\*\*: .*not recognized"),
        ("c.tif", {}, r"image http://127\S+/c.tif\?key=\*\*\* does not exist \(status 404\)"),
        ("a.tif", {"ranges": False}, "sends whole files only, no ranges of bytes: download it"),
        ("a.tif", {"status": 403}, r"the server refuses http://127\S+ \(status 403\): check address and key"),
    ):
        with serving_ranges(tmp_path, **options) as server, pytest.raises(ImageFileError, match=sentence) as caught:
            open_raster(Address(f"{server.url}/{name}?key=hidden"))
        assert "hidden" not in str(caught.value)
    with pytest.raises(ImageFileError, match=r"cannot read image http://127\S+: .*refused"):
        open_raster(Address(f"{server.url}/other.tif"))


@needs_rasterio
def test_redirects_are_followed_but_not_into_a_private_network(tmp_path, monkeypatch):
    save_raster(tmp_path / "a.tif", noise(1, 8, 8))
    with serving_ranges(tmp_path) as server:
        server.moved = {"/moved.tif": "/a.tif", "/trap.tif": f"http://localhost:{server.server_port}/a.tif?key=hidden"}
        with closing(open_raster(Address(f"{server.url}/moved.tif"))) as raster:
            assert raster.info.size == (8, 8)
        monkeypatch.setattr("monai_ext.runtime.redirects._is_private", lambda host: host == "localhost")
        server.sent.clear()
        with pytest.raises(
            ImageFileError, match=r"http://127\S+/trap.tif: it is redirected into a private .* instead: "
        ) as caught:
            open_raster(Address(f"{server.url}/trap.tif"))
    assert not server.sent and str(caught.value).endswith("/a.tif?key=***.")


def test_rasterio_is_needed(monkeypatch):
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(ImageFileError, match="http://127.0.0.1:9/a.tif needs rasterio: pip install rasterio"):
        open_raster(Address("http://127.0.0.1:9/a.tif"))
