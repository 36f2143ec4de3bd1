"""Layers in files: named bands of a TIFF, or pictures in a folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from upscaling_toys import (
    ALL,
    NOISE_SD,
    needs_rasterio,
    noise,
    read,
    repeated,
    save_picture,
    save_raster,
    toy,
    upscaler,
)

from monai_ext.raster.info import BandTags, GeoTags, RasterInfo
from monai_ext.upscaling import Choices, upscale_file
from monai_ext.upscaling.layers import DEVIATIONS, Layers
from monai_ext.upscaling.outputs import OutputFile, band_labels, layered_info


@needs_rasterio
def test_a_geotiff_gets_every_layer_as_named_bands_with_its_place_kept(tmp_path):
    import rasterio
    from rasterio.enums import ColorInterp

    source = save_raster(tmp_path / "a.tif", noise(3, 30, 41) // 2 + 64)
    with rasterio.open(source, "r+") as dataset:
        dataset.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue]
        dataset.scales, dataset.offsets, dataset.units = (0.1,) * 3, (2.0,) * 3, ("W",) * 3
    upscale_file(source, tmp_path / "b.tif", upscaler=toy())
    with rasterio.open(source) as old, rasterio.open(tmp_path / "b.tif") as new:
        assert new.bounds == old.bounds and new.crs == old.crs and new.res == (0.25, 0.25)
        names = [f"{layer}: {band}" for layer in ALL.names for band in ("red", "green", "blue")]
        assert list(new.descriptions) == names
        assert set(new.dtypes) == {"float32"} and new.interleaving.name == "band"
        assert [colour.name for colour in new.colorinterp[:4]] == ["red", "green", "blue", "undefined"]
        assert new.offsets[0] == 2.0 and new.offsets[-1] == 0.0 and set(new.scales) == {0.1} and new.units[-1] == "W"
        assert new.tags(4)["LAYER"] == "sample 1"
        settings = json.loads(new.tags()["MONAI_EXT_LAYERS"])
        assert settings["weight_samples"] == 3 and settings["bounds"]["multiplier"] == [2.0]
        layers = dict(zip(ALL.names, new.read().reshape(len(ALL.names), 3, 60, 82), strict=True))
    np.testing.assert_allclose(layers["aleatoric"], 255 * NOISE_SD, rtol=1e-4)
    parts = sum(layers[name] ** 2 for name in DEVIATIONS[:3])
    np.testing.assert_allclose(layers["total"] ** 2, parts, rtol=1e-3)
    np.testing.assert_allclose(layers["upper"] - layers["mean"], 2 * layers["total"], atol=1e-2)
    np.testing.assert_allclose(layers["mean"], repeated(read(source)), atol=60)


@needs_rasterio
def test_cells_of_a_geotiff_lie_where_they_are_on_the_ground(tmp_path):
    import rasterio

    source = save_raster(tmp_path / "a.tif", noise(3, 8, 12))
    cells = tuple(tuple(tmp_path / "out" / f"{row}_{column}.tif" for column in range(2)) for row in range(2))
    upscale_file(source, tmp_path / "whole.tif", upscaler=upscaler())
    upscale_file(source, tmp_path / "b.tif", upscaler=upscaler(), choices=Choices(cells=lambda target: cells))
    assert not (tmp_path / "b.tif").exists() and len(list((tmp_path / "out").iterdir())) == 4
    with rasterio.open(tmp_path / "whole.tif") as whole:
        for row, names in enumerate(cells):
            for column, name in enumerate(names):
                window = rasterio.windows.Window(12 * column, 8 * row, 12, 8)
                with rasterio.open(name) as cell:
                    np.testing.assert_array_equal(cell.read(), whole.read(window=window))
                    assert cell.transform.almost_equals(whole.window_transform(window)) and cell.crs == whole.crs
    for order, again in ((cells, False), (cells[::-1], True)):  # as when rows are counted from the other side
        choices = Choices(cells=lambda target, order=order: order, resume=True)
        assert upscale_file(source, tmp_path / "b.tif", upscaler=upscaler(), choices=choices) is again


def test_a_tile_that_cannot_be_cut_is_named_with_the_way_out(tmp_path):
    source = tmp_path / "a.png"
    Image.fromarray(np.zeros((9, 12, 3), np.uint8)).save(source)
    cells = tuple(tuple(tmp_path / f"out/{row}_{column}.png" for column in range(2)) for row in range(2))
    sentence = "a.png has 12 x 9 pixels, .* 2 x 2 tiles of one size: upscale it whole .* and whose height is one of 2"
    with pytest.raises(ValueError, match=sentence):
        upscale_file(source, tmp_path / "b.png", upscaler=upscaler(), choices=Choices(cells=lambda target: cells))
    assert not (tmp_path / "out").exists()


@needs_rasterio
def test_without_uncertainty_all_bands_stay_whole_numbers_of_the_sources_type(tmp_path):
    import rasterio

    source = save_raster(tmp_path / "a.tif", noise(3, 20, 20, dtype=np.uint16) // 2 + 9000)
    layers = Layers(samples=2)
    upscale_file(source, tmp_path / "b.tif", upscaler=toy(layers), choices=Choices(cog=True))
    with rasterio.open(tmp_path / "b.tif") as dataset:
        assert set(dataset.dtypes) == {"uint16"} and dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert [name.split(":")[0] for name in dataset.descriptions] == [n for n in layers.names for _ in range(3)]
        found = dataset.read()
    np.testing.assert_array_equal(found[:3], repeated(read(source)))
    assert 0 < np.abs(found[3:6].astype(float) - found[:3]).mean() < 6500


@needs_rasterio
@pytest.mark.parametrize("kind", ["nodata", "alpha"])
def test_what_is_missing_is_missing_in_every_layer(tmp_path, kind):
    import rasterio
    from rasterio.enums import ColorInterp

    pixels = np.full((2 if kind == "alpha" else 1, 40, 30), 90, np.uint8)
    pixels[-1, 20:] = 0
    source = save_raster(tmp_path / "a.tif", pixels, nodata=0 if kind == "nodata" else None)
    if kind == "alpha":
        with rasterio.open(source, "r+") as dataset:
            dataset.colorinterp = [ColorInterp.gray, ColorInterp.alpha]
    layers = Layers(samples=1, uncertainty=True, weight_samples=2, latent_samples=2)
    upscale_file(source, tmp_path / "b.tif", upscaler=toy(layers, bands=1))
    with rasterio.open(tmp_path / "b.tif") as dataset:
        found, names = dataset.read(), list(dataset.descriptions)
    if kind == "nodata":
        assert names == layers.names
        assert (found[:, 40:] == 0).all() and (found[:, :40] != 0).all()
    else:
        assert [name for name in names if name in layers.names] == layers.names
        np.testing.assert_array_equal(found[1], repeated(pixels)[1])  # in its place, and as opaque as it was
        assert np.isfinite(found).all()


@needs_rasterio
def test_pictures_become_a_folder_with_a_picture_for_each_layer(tmp_path):
    import rasterio

    pixels = noise(4, 20, 30)
    pixels[3] = 255
    source = save_picture(tmp_path / "scene.png", pixels)
    out = tmp_path / "out"
    assert upscale_file(source, out / "scene.png", upscaler=toy())
    names = ["lower.png", "mean.png", "sample_1.png", "sample_2.png", "uncertainty.tif", "upper.png"]
    assert sorted(path.name for path in (out / "scene").iterdir()) == names
    assert list(out.iterdir()) == [out / "scene"]
    images = {name: np.asarray(Image.open(out / "scene" / f"{name}.png")).astype(int) for name in ("lower", "upper")}
    assert images["lower"].shape == (40, 60, 4) and (images["lower"] <= images["upper"]).all()
    with rasterio.open(out / "scene" / "uncertainty.tif") as dataset:
        assert list(dataset.descriptions) == [f"{n}: {b}" for n in DEVIATIONS for b in ("red", "green", "blue")]
        assert dataset.read(1).mean() == pytest.approx(255 * NOISE_SD, rel=1e-4)
    assert not upscale_file(source, out / "scene.png", upscaler=toy(), choices=Choices(resume=True))


def test_a_label_for_each_band():
    plain = RasterInfo(Path("a"), (1, 1), 3, np.dtype(np.uint8), (None,) * 3)
    assert band_labels(plain) == ("red", "green", "blue")
    assert band_labels(RasterInfo(Path("a"), (1, 1), 1, np.dtype(np.uint8), (None,))) == (None,)
    geo = GeoTags(bands=(BandTags(1, "undefined"), BandTags(0, "undefined", "b & w")))
    two = RasterInfo(Path("a"), (1, 1), 2, np.dtype(np.uint8), (None,) * 2, geo=geo)
    assert band_labels(two) == ("b & w", "band 2")
    named = RasterInfo(Path("a"), (1, 1), 1, np.dtype(np.uint8), (None,))
    layers = layered_info(named, ["mean", "total"], dtype=np.dtype(np.float32))
    assert [band.description for band in layers.geo.bands] == ["mean", "total"] and layers.bands == 2


def test_planes_of_a_strip_are_chosen_rounded_and_cut_to_the_type_of_the_file():
    info = RasterInfo(Path("a"), (1, 4), 2, np.dtype(np.uint8), (None,) * 2)
    strip = np.array([[[-3.2, 0.4, 1.6, 255.6]], [[9.0] * 4], [[2.5, 3.5, 300.0, 7.0]]], np.float32)
    found = OutputFile(Path("a.png"), info, (2, 0)).pixels(strip)
    assert found.dtype == np.uint8
    assert found.tolist() == [[[2, 4, 255, 7]], [[0, 0, 2, 255]]]
    assert OutputFile(Path("a.tif"), replace(info, dtype=np.dtype(np.float32))).pixels(strip) is strip
