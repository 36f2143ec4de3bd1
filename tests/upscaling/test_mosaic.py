"""Tiles joined to one GeoTIFF: place, mask, what cannot be joined."""

from __future__ import annotations

import numpy as np
import pytest
from upscaling_toys import cut_into_tiles, needs_rasterio, save_picture, waves

from monai_ext.data.tiles.grid import TileAddress
from monai_ext.data.tiles.neighbours import TileGrid
from monai_ext.raster.images import ImageFileError
from monai_ext.upscaling.mosaic import write_mosaic


@needs_rasterio
@pytest.mark.parametrize(("south", "cog", "strip"), [(False, False, 2**28), (True, True, 5 * 4 * 32)])
def test_tiles_are_joined_in_their_place(tmp_path, monkeypatch, south, cog, strip):
    import rasterio

    monkeypatch.setattr("monai_ext.upscaling.mosaic.STRIP_BYTES", strip)  # five rows at a time of tiles of 16

    pixels = waves(48, 32)
    files = cut_into_tiles(tmp_path / "tiles", pixels, south=south)
    grid = TileGrid(files)
    missing = files.pop(1)
    write_mosaic(tmp_path / "out" / "a.tif", {grid.address(file): file for file in files}, cog=cog)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.tif"]
    with rasterio.open(tmp_path / "out" / "a.tif") as dataset:
        assert dataset.crs.to_epsg() == 3857
        side = 2 * np.pi * 6378137 / 2**5
        row = grid.address(missing).y
        west, north = 3 * side - 16 * side, 16 * side - row * side
        np.testing.assert_allclose(dataset.bounds, (west, north - 3 * side, west + 2 * side, north), atol=1e-3)
        mask = dataset.dataset_mask()
        assert not mask[:16, 16:].any() and (mask > 0).sum() == 5 * 256
        np.testing.assert_array_equal(dataset.read()[:, mask > 0], pixels[:, mask > 0])


@needs_rasterio
def test_what_cannot_be_joined(tmp_path):
    files = cut_into_tiles(tmp_path, waves(16, 32))
    places = [TileAddress(5, 3, 4), TileAddress(5, 4, 4)]
    with pytest.raises(ValueError, match=r"a.png: name a .tif"):
        write_mosaic(tmp_path / "a.png", dict(zip(places, files, strict=True)))
    with pytest.raises(ValueError, match="of the zooms 5, 6"):
        write_mosaic(tmp_path / "a.tif", {places[0]: files[0], TileAddress(6, 1, 1): files[1]})
    files += cut_into_tiles(tmp_path / "below", waves(16, 16), first=(5, 3))
    places.append(TileAddress(5, 3, 5))
    save_picture(files[2], waves(16, 20))
    with pytest.raises(ImageFileError, match="20 x 16 pixels, .*they cannot be joined"):
        write_mosaic(tmp_path / "a.tif", dict(zip(places, files, strict=True)))
    assert not list(tmp_path.glob("*.tif")) and not list(tmp_path.glob(".*"))
