"""rasterio in threads."""

from __future__ import annotations

import threading
import time
import warnings

import numpy as np
from upscaling_toys import needs_rasterio, noise, repeating, save_raster, upscaler

from monai_ext.raster.opening import open_raster
from monai_ext.upscaling import upscale_file


@needs_rasterio
def test_threads_that_open_rasters_leave_the_warnings_as_they_were(tmp_path, monkeypatch):
    """Each waits inside until another one has had the chance to enter: without a lock their filters would be mixed."""
    import rasterio

    source = save_raster(tmp_path / "a.tif", noise(1, 8, 8), crs=None, transform=None)
    opened, inside, most = rasterio.open, [], []

    def slow(*arguments: object, **options: object) -> object:
        inside.append(threading.get_ident())
        most.append(len(inside))
        time.sleep(0.02)
        try:
            return opened(*arguments, **options)
        finally:
            inside.pop()

    monkeypatch.setattr(rasterio, "open", slow)
    before = list(warnings.filters)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        threads = [threading.Thread(target=lambda: open_raster(source).close()) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert max(most) == 1 and len(most) == 4
        upscale_file(source, tmp_path / "b.tif", upscaler=upscaler(repeating(1)))
    assert not [each for each in caught if "georeferenc" in str(each.message)]
    assert warnings.filters == before


@needs_rasterio
def test_palettes_of_16_bits_become_colours(tmp_path):
    import rasterio

    index = np.array([[0, 1, 300, 2]], np.uint16)
    colours = {0: (0, 0, 0, 255), 1: (255, 0, 0, 255), 2: (0, 0, 255, 255), 300: (10, 200, 30, 255)}
    about = {"driver": "GTiff", "count": 1, "height": 1, "width": 4, "dtype": "uint16", "photometric": "palette"}
    with rasterio.open(tmp_path / "a.tif", "w", **about) as dataset:
        dataset.write(index, 1)
        dataset.write_colormap(1, colours)
    raster = open_raster(tmp_path / "a.tif")
    assert raster.info.bands == 3 and raster.info.dtype == np.uint8
    assert raster.rows(0, 1)[:, 0].T.tolist() == [list(colours[int(i)][:3]) for i in index[0]]
