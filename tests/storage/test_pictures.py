"""Pictures are encoded by the suffix of their path."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure
from PIL import Image

from monai_ext.storage.pictures import save_figure, save_picture


def test_the_suffix_decides_the_format_and_options_reach_the_encoder(tmp_path):
    picture = Image.radial_gradient("L")
    for name, kind in (("a.png", "PNG"), ("a.JPG", "JPEG"), ("a.tif", "TIFF")):
        save_picture(picture, tmp_path / name)
        assert Image.open(tmp_path / name).format == kind
    save_picture(picture, tmp_path / "b.jpg", quality=5)
    assert (tmp_path / "b.jpg").stat().st_size < (tmp_path / "a.JPG").stat().st_size
    with pytest.raises(KeyError):
        save_picture(picture, tmp_path / "a.unknown")


def test_equal_figures_are_equal_files(tmp_path):
    for name in ("a", "b"):
        figure = Figure(figsize=(1, 1))
        figure.subplots().plot([0, 1])
        save_figure(figure, tmp_path / f"{name}.pdf")
    assert (tmp_path / "a.pdf").read_bytes() == (tmp_path / "b.pdf").read_bytes()
