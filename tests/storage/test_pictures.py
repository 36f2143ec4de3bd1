"""Pictures are encoded by the suffix of their path."""

from __future__ import annotations

import pytest
from PIL import Image

from monai_ext.storage.pictures import save_picture


def test_the_suffix_decides_the_format_and_options_reach_the_encoder(tmp_path):
    picture = Image.radial_gradient("L")
    for name, kind in (("a.png", "PNG"), ("a.JPG", "JPEG"), ("a.tif", "TIFF")):
        save_picture(picture, tmp_path / name)
        assert Image.open(tmp_path / name).format == kind
    save_picture(picture, tmp_path / "b.jpg", quality=5)
    assert (tmp_path / "b.jpg").stat().st_size < (tmp_path / "a.JPG").stat().st_size
    with pytest.raises(KeyError):
        save_picture(picture, tmp_path / "a.unknown")
