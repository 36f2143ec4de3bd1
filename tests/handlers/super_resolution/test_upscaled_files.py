"""Enlarged pictures in files: what is missing in the source is missing there, and nothing else."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from upscaling_toys import needs_rasterio

from monai_ext.data.tiles.images import DecodeTiled, read_tile
from monai_ext.data.tiles.pixel_scale import PixelScale
from monai_ext.handlers import UpscaledWriter
from monai_ext.transforms import ToUnitRanged

HOLE = (slice(None), slice(2, 5), slice(1, 4))


def geotiff(path, pixels: np.ndarray, nodata: float | None):
    import rasterio

    height, width = pixels.shape[1:]
    about = {"width": width, "height": height, "count": len(pixels), "dtype": pixels.dtype, "nodata": nodata}
    place = {"crs": "EPSG:32633", "transform": rasterio.transform.from_origin(5e5, 5e6, 1, 1)}
    with rasterio.open(path, "w", driver="GTiff", **about, **place) as dataset:
        dataset.write(pixels)
    return path


def write(folder, source, prediction: torch.Tensor, levels: int) -> np.ndarray:
    import rasterio

    state = SimpleNamespace(
        batch=[{"id": "a", "image_path": str(source), "levels": levels}], output=[{"pred": prediction}]
    )
    UpscaledWriter(folder).write(SimpleNamespace(state=state))
    with rasterio.open(folder / "a.tif") as dataset:
        assert dataset.crs.to_epsg() == 32633
        return dataset.read(masked=True)


@needs_rasterio
@pytest.mark.parametrize(("nodata", "levels"), [(0, 255), (255, 255), (0, 65535), (65535, 65535)])
def test_nodata_stays_nodata_and_known_pixels_stay_known(tmp_path, nodata, levels):
    generator = np.random.default_rng(0)
    dtype = np.uint8 if levels == 255 else np.uint16
    pixels = generator.integers(1, levels, (3, 8, 6)).astype(dtype)
    pixels[HOLE] = nodata
    source = geotiff(tmp_path / "source.tif", pixels, nodata)
    answer = torch.from_numpy(np.round(generator.random((3, 32, 24)) * 20) / 20)  # its own 0 and 1 are no holes
    written = write(tmp_path / "out", source, answer, levels)
    hole = np.repeat(np.repeat(pixels == nodata, 4, axis=1), 4, axis=2)
    np.testing.assert_array_equal(np.ma.getmaskarray(written), hole)
    apart = np.abs(written.data[~hole] - np.round(answer.numpy() * levels)[~hole])
    assert apart.max() <= 1 and (apart == 1).any()  # those that came out as the marker moved by one


@needs_rasterio
def test_a_network_sees_known_values_where_nothing_is_known(tmp_path):
    pixels = np.full((3, 8, 6), 90, np.uint8)
    pixels[1] = 120
    pixels[HOLE] = 0
    source = geotiff(tmp_path / "source.tif", pixels, 0)
    assert read_tile(source)[HOLE].eq(0).all()
    filled = DecodeTiled([2, 1], fill_missing=True)({"image": str(source)})["image"]
    assert filled[0].eq(120).all() and filled[1].eq(90).all()
    without = geotiff(tmp_path / "without.tif", pixels, None)
    assert read_tile(without, fill_missing=True).equal(torch.from_numpy(pixels))


@needs_rasterio
@pytest.mark.parametrize("kind", ["mask", "alpha"])
def test_what_is_hidden_stays_hidden_in_its_place_on_the_ground(tmp_path, kind):
    import rasterio

    pixels = np.full((4 if kind == "alpha" else 3, 8, 6), 90, np.uint8)
    options = {"photometric": "rgb", "alpha": "yes"} if kind == "alpha" else {}
    source, hidden = tmp_path / "source.tif", np.zeros((8, 6), bool)
    hidden[:3] = True
    pixels[:, hidden] = 0
    if kind == "alpha":
        pixels[3, ~hidden] = 255
    about = {"width": 6, "height": 8, "count": len(pixels), "dtype": "uint8", "crs": "EPSG:32633"}
    place = rasterio.transform.from_origin(5e5, 5e6, 1, 1)
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(source, "w", driver="GTiff", transform=place, **about, **options) as dataset,
    ):
        dataset.write(pixels)
        if kind == "mask":
            dataset.write_mask(~hidden)
    item = DecodeTiled([1, 2, 3], fill_missing=True, keep_paths=True)({"image": str(source)})
    assert item["image"].eq(90).all()  # the network sees no black
    prediction = torch.full((3, 32, 24), 0.5)
    state = SimpleNamespace(batch=[item | {"id": "a"}], output=[{"pred": prediction}])
    UpscaledWriter(tmp_path / "out", bands=[1, 2, 3]).write(SimpleNamespace(state=state))
    with rasterio.open(tmp_path / "out" / "a.tif") as dataset:
        assert dataset.crs.to_epsg() == 32633 and dataset.res == (0.25, 0.25)
        np.testing.assert_array_equal(dataset.dataset_mask() == 0, hidden.repeat(4, 0).repeat(4, 1))
        assert (dataset.read(1)[12:] == 128).all()


@needs_rasterio
@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.float32])
def test_the_range_of_the_set_leads_back_to_values_of_the_file(tmp_path, dtype):
    import rasterio

    pixels = np.random.default_rng(0).integers(0, 3001, (1, 8, 6)).astype(dtype)
    pixels[0, 4, 4] = 20_000  # a cloud
    source = geotiff(tmp_path / "source.tif", pixels, None)
    scale = PixelScale(np.dtype(dtype).name, 0, 3000)
    item = ToUnitRanged()(DecodeTiled([1], fill_missing=True, keep_paths=True, scale=scale)({"image": str(source)}))
    prediction = item["image"].repeat_interleave(4, 1).repeat_interleave(4, 2)
    state = SimpleNamespace(batch=[item | {"id": "a"}], output=[{"pred": prediction}])
    UpscaledWriter(tmp_path / "out", bands=[1], scale=scale).write(SimpleNamespace(state=state))
    with rasterio.open(tmp_path / "out" / "a.tif") as dataset:
        found = dataset.read(1).astype(float)
        assert dataset.dtypes[0] == np.dtype(dtype).name
    far = np.s_[:12]  # from the cloud
    np.testing.assert_allclose(found[far], pixels[0].repeat(4, 0).repeat(4, 1)[far], atol=0.1)
    assert found[18, 18] > 10_000
