"""PNG written by strips: read back as it was, with what stands beside the pixels."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from monai_ext.raster.png_rows import write_png


def picture(planes, dtype=np.uint8):
    """Noise, a ramp and a flat part, so that each kind of prediction is best somewhere."""
    generator = np.random.default_rng(0)
    values = generator.integers(0, np.iinfo(dtype).max, (37, 23, planes), dtype=dtype)
    values[12:24] = (np.arange(23) * 5 + np.arange(12)[:, None] * 3)[..., None]
    values[24:] = 7
    return values


@pytest.mark.parametrize(
    ("planes", "dtype"), [(1, np.uint8), (2, np.uint8), (3, np.uint8), (4, np.uint8), (1, np.uint16)]
)
@pytest.mark.parametrize("step", [1, 5, 37])
def test_strips_make_up_the_picture(tmp_path, planes, dtype, step):
    values = picture(planes, dtype)
    strips = [values[top : top + step] for top in range(0, 37, step)]
    write_png(tmp_path / "a.png", strips, size=(37, 23))
    with Image.open(tmp_path / "a.png") as found:
        np.testing.assert_array_equal(np.asarray(found).reshape(values.shape), values)


def test_what_stands_beside_the_pixels_is_kept_and_prediction_saves_room(tmp_path):
    values = np.add.outer(np.arange(200), np.arange(300)).astype(np.uint8)[..., None].repeat(3, 2)
    text = PngImagePlugin.PngInfo()
    text.add_text("key", "value")
    exif = Image.Exif()
    exif[270] = "a roof"
    write_png(
        tmp_path / "a.png", [values], size=(200, 300), pnginfo=text, icc_profile=b"profile", dpi=(300, 300), exif=exif
    )
    with Image.open(tmp_path / "a.png") as found:
        assert found.info["key"] == "value" and found.info["icc_profile"] == b"profile"
        assert found.info["dpi"][0] == pytest.approx(300, abs=0.1) and found.getexif()[270] == "a roof"
        np.testing.assert_array_equal(np.asarray(found), values)
    assert (tmp_path / "a.png").stat().st_size < 3000
