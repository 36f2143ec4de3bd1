"""Ranges and markers that are found."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from monai_ext.raster.info import RasterInfo
from monai_ext.raster.value_range import ValueSample, known_values, settle_values


class Rows:
    """A raster in memory."""

    def __init__(self, tmp_path, planes, *, nodata=None, bits=None):
        count, height, width = planes.shape
        self.planes = planes
        self.info = RasterInfo(tmp_path / "a.tif", (height, width), count, planes.dtype, (nodata,) * count, bits=bits)

    def rows(self, top, bottom):
        return self.planes[:, top:bottom]

    def close(self):
        pass


def ramp(dtype, low=0, high=3000, rows=600):
    return np.linspace(low, high, rows * 20).reshape(1, rows, 20).astype(dtype)


def limits(raster, given=None):
    found = settle_values(raster, given)
    return found.low, found.high


@pytest.mark.parametrize(
    ("planes", "expected"),
    [
        (ramp(np.uint8, 10, 90), (0, 255)),
        (ramp(np.uint16), (0, 3000)),
        (ramp(np.int16), (0, 3000)),
        (ramp(np.int16, -20, 3000), (-20, 3000)),
        (ramp(np.uint16, 0, 60000), (0, 65535)),
        (ramp(np.int16, 0, 30000), (0, 32767)),
        (ramp(np.int32), (0, 3000)),
        (ramp(np.float32, 0, 0.3), (0, pytest.approx(0.3))),
        (ramp(np.float32, -0.02, 0.9), (0, 1)),
        (ramp(np.float32, 0, 3000), (0, 3000)),
        (ramp(np.float64, 270, 300), (270, 300)),
        (ramp(np.uint16, 7, 7), (0, 7)),
        (ramp(np.float32, 300, 300), (300, 301)),
    ],
)
def test_the_range_of_values(tmp_path, planes, expected):
    assert limits(Rows(tmp_path, planes)) == expected


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.float32])
def test_a_bright_cloud_does_not_widen_the_range(tmp_path, dtype, caplog):
    planes = ramp(dtype)
    planes[0, 400:405] = 28_000
    with caplog.at_level(logging.INFO):
        low, high = limits(Rows(tmp_path, planes))
    assert low == 0 and 3000 <= high <= 6000
    assert "values from 0 to 28000: 0 to" in caplog.text and "beyond is interpolated" in caplog.text


@pytest.mark.parametrize(("dtype", "marker"), [(np.int16, -9999), (np.int16, -32768), (np.float32, -3.4028235e38)])
def test_an_undeclared_marker_is_nodata(tmp_path, dtype, marker, caplog):
    planes = ramp(dtype)
    planes[0, :50] = marker
    raster = Rows(tmp_path, planes)
    assert limits(raster) == (0, 3000)
    assert raster.info.nodata == (float(dtype(marker)),) and "is taken for nodata, undeclared" in caplog.text
    known = known_values(planes, raster.info.nodata)[0]
    assert not known[:50].any() and known[50:].all()
    given = Rows(tmp_path, planes)
    assert limits(given, (0.0, 5000.0)) == (0, 5000) and given.info.nodata == raster.info.nodata


def test_a_marker_is_found_beside_a_cloud(tmp_path):
    planes = ramp(np.int16)
    planes[0, :50], planes[0, 400:405] = -9999, 28_000
    raster = Rows(tmp_path, planes)
    assert limits(raster)[0] == 0 and raster.info.nodata == (-9999,)


def test_values_among_others_are_no_markers(tmp_path):
    planes = ramp(np.int16, -12_000, 12_000)
    planes[0, 300, 0] = -9999
    raster = Rows(tmp_path, planes)
    assert limits(raster) == (-12_000, 12_000) and raster.info.nodata == (None,)
    near = Rows(tmp_path, np.where(planes < 0, planes / 2, 0).astype(np.int16))
    near.planes[0, 0, 0] = -9999  # beyond all others, by less than these span
    assert limits(near) == (-9999, 0) and near.info.nodata == (None,)
    declared = Rows(tmp_path, np.where(planes < 0, -1, planes).astype(np.int16), nodata=-1)
    assert limits(declared) == (0, 12_000)


def test_bits_and_infinities(tmp_path, caplog):
    assert limits(Rows(tmp_path, ramp(np.uint16), bits=12)) == (0, 4095)
    planes = ramp(np.float32, 0, 1)
    planes[0, 0, :3] = [np.inf, -np.inf, np.nan]
    assert limits(Rows(tmp_path, planes)) == (0, 1) and "2 values are infinite and count as missing" in caplog.text


def test_a_sample_of_nothing_has_the_range_of_its_type():
    assert (ValueSample(np.dtype(np.uint16)).range().high, ValueSample(np.dtype(np.float32)).range().high) == (65535, 1)
