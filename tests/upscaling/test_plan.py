"""The strips of a raster: no seams, fills that do not depend on strips, advice."""

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

from monai_ext.raster.opening import open_raster
from monai_ext.upscaling import Choices, upscale_file


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
    with closing(open_raster(source)) as raster:
        assert tiled.plan(raster).edges == ([0, 25, 50, 75, 100] if mode == "halo" else [0, 19, 44, 69, 100])


@needs_rasterio
def test_a_dark_16_bit_image_has_the_range_of_its_values(tmp_path, caplog):
    caplog.set_level("INFO")
    source = save_raster(tmp_path / "a.tif", noise(1, 9, 11, dtype=np.uint16) % 4000)
    upscale_file(source, tmp_path / "b.tif", upscaler=upscaler(repeating(1)))
    assert "0 to 39" in caplog.text and "--range LOW HIGH sets them" in caplog.text
    caplog.clear()
    bright = save_raster(tmp_path / "bright.tif", noise(1, 9, 11, dtype=np.uint16))
    upscale_file(bright, tmp_path / "b.tif", upscaler=upscaler(repeating(1)))
    assert not caplog.records
    upscale_file(source, tmp_path / "b.tif", upscaler=upscaler(repeating(1)), choices=Choices(limits=(0, 4000)))
    assert not caplog.records


class FromFourBelow(nn.Module):
    """Each pixel becomes the one four rows below it: the whole context of an overlap of 8 matters."""

    in_channels = 1

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        return nn.functional.pad(windows, (0, 0, 0, 4))[..., 4:, :]


@needs_rasterio
def test_fills_of_missing_pixels_do_not_depend_on_where_a_strip_ends(tmp_path):
    """Missing pixels at the end of a strip's context take the value of the known row right below it."""
    rows = np.full((64, 8), 50, np.uint8)
    rows[16:20], rows[20:] = 0, 200  # 16: where the first of four strips ends, 20: where its context does
    source = save_raster(tmp_path / "a.tif", rows[None], nodata=0)
    choices, network = Choices(), FromFourBelow()
    with closing(open_raster(source)) as raster:
        assert upscaler(network).plan(raster).edges == [0, 16, 32, 48, 64]
    upscale_file(source, tmp_path / "strips.tif", upscaler=upscaler(network), choices=choices)
    upscale_file(source, tmp_path / "whole.tif", upscaler=upscaler(network, tile=96), choices=choices)
    found = read(tmp_path / "strips.tif")
    np.testing.assert_array_equal(found[0, 12:16, 0], [50, 50, 200, 200])  # rows 16 to 19, filled from both sides
    np.testing.assert_array_equal(found, read(tmp_path / "whole.tif"))


def test_a_plan_is_a_loop_over_its_strips(tmp_path):
    pixels = noise(3, 48, 10)
    with closing(open_raster(save_picture(tmp_path / "a.png", pixels))) as raster:
        plan = upscaler().plan(raster)
        strips = [strip.copy() for strip in plan]
        assert len(strips) == len(plan) == len(plan.edges) - 1 == 3
        np.testing.assert_array_equal(np.concatenate(strips, axis=1), repeated(pixels))
        np.testing.assert_array_equal(next(plan.strips(first=2)), strips[2])
