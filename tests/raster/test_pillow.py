"""What Pillow reads as it is, and the orientation of TIFFs by their list of tags."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import tifffile
from upscaling_toys import noise, save_turned

from monai_ext.raster import pillow as raster_pillow
from monai_ext.raster.pillow import tiff_orientation


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


@pytest.mark.parametrize("options", [{}, {"bigtiff": True}, {"byteorder": ">"}, {"bigtiff": True, "byteorder": ">"}])
def test_the_turn_is_found_in_every_kind_of_tiff(tmp_path, options):
    source = save_turned(tmp_path / "a.tif", noise(1, 4, 6), 6, **options)
    assert tiff_orientation(source) == 6


def test_damaged_lists_of_tags_turn_nothing(tmp_path):
    whole = save_turned(tmp_path / "a.tif", noise(1, 4, 6), 6).read_bytes()
    path = tmp_path / "b.tif"
    far = struct.pack("<2sHL", b"II", 42, 2**32 - 1)
    for content in (b"", b"II", whole[:9], whole[:30], far, struct.pack("<2sHHHQ", b"II", 43, 8, 0, 2**64 - 1)):
        path.write_bytes(content)
        assert tiff_orientation(path) == 1
    for orientation in (0, 9, 65535):
        assert tiff_orientation(save_turned(path, noise(1, 4, 6), orientation)) == 1
    assert tiff_orientation(tmp_path / "none.tif") == 1
