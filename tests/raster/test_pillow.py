"""What Pillow reads as it is."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from monai_ext.raster import pillow as raster_pillow


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
