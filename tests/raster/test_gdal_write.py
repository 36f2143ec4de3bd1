"""GeoTIFFs written through GDAL: pixels, place and tags, upscaled."""

from __future__ import annotations

import numpy as np
import pytest

from monai_ext.raster.gdal_write import write
from monai_ext.raster.info import BandTags, GeoTags, RasterInfo

rasterio = pytest.importorskip("rasterio")
AFFINE = (0.5, 0.0, 100.0, 0.0, -0.5, 200.0)


@pytest.mark.parametrize("cog", [False, True])
def test_pixels_place_nodata_and_tags_are_those_of_the_source_at_a_finer_pixel(cog, tmp_path):
    pixels = np.arange(6 * 2 * 8, dtype=np.uint16).reshape(6, 2, 8)  # (H, planes, W)
    pixels.tofile(tmp_path / "rows")
    bands = tuple(BandTags(plane, "gray", description=f"band {plane}") for plane in range(2))
    geo = GeoTags(crs="EPSG:32633", transform=AFFINE, tags={"": {"AUTHOR": "a"}}, bands=bands)
    info = RasterInfo(tmp_path / "a.tif", (3, 4), 2, np.dtype(np.uint16), nodata=(7.0, 7.0), geo=geo)
    write(tmp_path / "b.tif", tmp_path / "rows", info, scale=2, fingerprint="f", cog=cog)
    with rasterio.open(tmp_path / "b.tif") as found:
        assert np.array_equal(found.read(), pixels.transpose(1, 0, 2))
        assert tuple(found.transform)[:6] == (0.25, 0.0, 100.0, 0.0, -0.25, 200.0) and found.crs.to_epsg() == 32633
        assert found.nodatavals == (7.0, 7.0) and found.descriptions == ("band 0", "band 1")
        assert found.tags()["AUTHOR"] == "a"
    assert not list(tmp_path.glob("*.vrt"))
