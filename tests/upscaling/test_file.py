"""One file upscaled: pixels, place and tags kept, runs that broke off resumed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from upscaling_toys import (
    ALL,
    HAS_RASTERIO,
    Blurring,
    Broken,
    cut_into_tiles,
    needs_rasterio,
    noise,
    read,
    repeated,
    repeating,
    save_picture,
    save_raster,
    toy,
    upscaler,
    waves,
)

from monai_ext.data.tiles.neighbours import TileGrid
from monai_ext.raster import gdal as raster_gdal
from monai_ext.raster.images import ImageFileError
from monai_ext.raster.opening import written_by
from monai_ext.raster.partial_rows import PartialRows
from monai_ext.upscaling import Choices, upscale_file
from monai_ext.upscaling import file as upscaling_file
from monai_ext.upscaling import outputs as upscaling_outputs
from monai_ext.upscaling.layers import Layers


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (41, 37)])
@pytest.mark.parametrize("mode", ["halo", "feather"])
def test_a_png_has_each_pixel_repeated(tmp_path, size, mode):
    pixels = noise(3, *size)
    source = save_picture(tmp_path / "a.png", pixels, dpi=(100, 100))
    assert upscale_file(source, tmp_path / "b.png", upscaler=upscaler(mode=mode))
    np.testing.assert_array_equal(read(tmp_path / "b.png"), repeated(pixels))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.png"]  # nothing is left lying about


def test_grey_stays_grey_and_16_bits_stay_16(tmp_path):
    for dtype in (np.uint8, np.uint16):
        pixels = noise(1, 20, 30, dtype=dtype)
        source = save_picture(tmp_path / "a.png", pixels)
        upscale_file(source, tmp_path / "b.png", upscaler=upscaler())
        found = read(tmp_path / "b.png")
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, repeated(pixels))


def test_palettes_become_colours_and_exif_turns_are_applied(tmp_path):
    palette = Image.fromarray(noise(12, 20)).convert("P")
    palette.save(tmp_path / "palette.png")
    upscale_file(tmp_path / "palette.png", tmp_path / "p.png", upscaler=upscaler())
    expected = repeated(np.moveaxis(np.asarray(palette.convert("RGB")), -1, 0))
    np.testing.assert_array_equal(read(tmp_path / "p.png"), expected)
    exif = Image.Exif()
    exif[274], exif[271] = 6, "Maker"  # turned by 90 degrees; a tag to keep
    pixels = noise(3, 10, 20)
    save_picture(tmp_path / "turned.png", pixels, exif=exif)
    upscale_file(tmp_path / "turned.png", tmp_path / "t.png", upscaler=upscaler())
    np.testing.assert_array_equal(read(tmp_path / "t.png"), repeated(np.rot90(pixels, -1, (1, 2))))
    with Image.open(tmp_path / "t.png") as picture:
        assert dict(picture.getexif()) == {271: "Maker"}


def test_a_jpeg_becomes_a_jpeg(tmp_path):
    smooth = np.broadcast_to(np.linspace(40, 200, 48).astype(np.uint8), (3, 32, 48))
    source = save_picture(tmp_path / "a.jpg", smooth, quality=95)
    upscale_file(source, tmp_path / "b.jpg", upscaler=upscaler())
    found = read(tmp_path / "b.jpg").astype(int)
    assert np.abs(found - repeated(read(source))).max() <= 6
    assert written_by(tmp_path / "b.jpg") is not None


@needs_rasterio
def test_a_geotiff_keeps_place_bands_tags_and_colours(tmp_path):
    import rasterio
    from rasterio.enums import ColorInterp

    pixels = noise(5, 30, 41, dtype=np.uint16)
    source = save_raster(tmp_path / "a.tif", pixels)
    with rasterio.open(source, "r+") as dataset:
        dataset.descriptions = ("rot & blau", "b2", "b3", "nir", None)
        dataset.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, *[ColorInterp.undefined] * 2]
        dataset.update_tags(SENSOR="WV-2 <a>", AREA_OR_POINT="Point")
        dataset.update_tags(ns="OWN", KEY="value")
        dataset.update_tags(2, WAVELENGTH="560", STATISTICS_MAXIMUM="7")
        dataset.scales, dataset.offsets, dataset.units = (0.1,) * 5, (2.0,) * 5, ("W",) * 5
    upscale_file(source, tmp_path / "b.tif", upscaler=upscaler(repeating(5)))
    with rasterio.open(source) as old, rasterio.open(tmp_path / "b.tif") as new:
        np.testing.assert_array_equal(new.read(), repeated(pixels))
        assert new.bounds == old.bounds
        assert new.res == (0.25, 0.25)
        for name in ("crs", "count", "dtypes", "descriptions", "colorinterp", "scales", "offsets", "units", "nodata"):
            assert getattr(new, name) == getattr(old, name), name
        assert old.tags().items() <= new.tags().items()
        assert new.tags(ns="OWN") == {"KEY": "value"}
        assert new.tags(2) == {"WAVELENGTH": "560"}  # the statistics no longer hold


@needs_rasterio
def test_a_finished_raster_of_many_bands_is_known_again(tmp_path):
    source = save_raster(tmp_path / "a.tif", noise(5, 8, 9, dtype=np.uint16))
    upscale_file(source, tmp_path / "b.tif", upscaler=upscaler(repeating(5)))
    choices = Choices(resume=True)
    assert not upscale_file(source, tmp_path / "b.tif", upscaler=upscaler(repeating(5)), choices=choices)


@needs_rasterio
def test_alpha_bands_and_masks_keep_their_place_and_stay_hard(tmp_path):
    import rasterio
    from rasterio.enums import ColorInterp, MaskFlags

    pixels = noise(4, 20, 30)
    pixels[1] = np.where(pixels[1] > 99, 255, 0)
    source = save_raster(tmp_path / "alpha.tif", pixels)
    with rasterio.open(source, "r+") as dataset:
        dataset.colorinterp = [ColorInterp.red, ColorInterp.alpha, ColorInterp.green, ColorInterp.blue]
    upscale_file(source, tmp_path / "b.tif", upscaler=upscaler())
    with rasterio.open(tmp_path / "b.tif") as dataset:
        assert [colour.name for colour in dataset.colorinterp] == ["red", "alpha", "green", "blue"]
        found, expected = dataset.read(), repeated(pixels)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(found[:, expected[1] > 0], expected[:, expected[1] > 0])
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="YES"):
        source = save_raster(tmp_path / "mask.tif", pixels[[0, 2, 3]])
        with rasterio.open(source, "r+") as dataset:
            dataset.write_mask(pixels[1] > 0)
    upscale_file(source, tmp_path / "m.tif", upscaler=upscaler())
    with rasterio.open(tmp_path / "m.tif") as dataset:
        assert dataset.count == 3 and MaskFlags.per_dataset in dataset.mask_flag_enums[0]
        np.testing.assert_array_equal(dataset.dataset_mask(), expected[1])


@needs_rasterio
def test_control_points_move_with_the_pixels_and_palettes_become_colours(tmp_path):
    import rasterio
    from rasterio.control import GroundControlPoint

    points = [GroundControlPoint(row=r, col=c, x=9 + c, y=50 - r) for r, c in ((0, 0), (0, 12), (10, 0), (10, 12))]
    source = save_raster(tmp_path / "a.tif", noise(3, 10, 12), crs="EPSG:4326", transform=None, gcps=points)
    upscale_file(source, tmp_path / "b.tif", upscaler=upscaler())
    with rasterio.open(tmp_path / "b.tif") as dataset:
        found, crs = dataset.gcps
        assert crs.to_epsg() == 4326
        assert [(p.row, p.col, p.x, p.y) for p in found] == [(2 * p.row, 2 * p.col, p.x, p.y) for p in points]
    index = noise(1, 10, 12) % 3
    source = save_raster(tmp_path / "palette.tif", index)
    table = {0: (255, 0, 0, 255), 1: (0, 80, 0, 255), 2: (1, 2, 3, 255)}
    with rasterio.open(source, "r+") as dataset:
        dataset.write_colormap(1, table)
    upscale_file(source, tmp_path / "p.tif", upscaler=upscaler())
    colours = np.array([table[value][:3] for value in range(3)], np.uint8)
    np.testing.assert_array_equal(read(tmp_path / "p.tif"), repeated(np.moveaxis(colours[index[0]], -1, 0)))


@needs_rasterio
def test_a_cloud_optimised_geotiff_has_overviews_and_the_same_pixels(tmp_path):
    import rasterio

    pixels = noise(3, 300, 320)
    source = save_raster(tmp_path / "a.tif", pixels, nodata=None)
    upscale_file(source, tmp_path / "b.tif", upscaler=upscaler(tile=128), choices=Choices(cog=True))
    with rasterio.open(tmp_path / "b.tif") as dataset:
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert dataset.overviews(1) == [2]
        assert dataset.crs.to_epsg() == 32618
        np.testing.assert_array_equal(dataset.read(), repeated(pixels))
    with pytest.raises(ValueError, match="a Cloud-Optimised GeoTIFF needs a name in .tif"):
        upscale_file(source, tmp_path / "c.png", upscaler=upscaler(), choices=Choices(cog=True))


@needs_rasterio
def test_16_bit_colour_pngs_keep_16_bits(tmp_path):
    pixels = noise(3, 9, 11, dtype=np.uint16)
    source = save_raster(tmp_path / "a.png", pixels, driver="PNG", crs=None, transform=None)
    upscale_file(source, tmp_path / "b.png", upscaler=upscaler())
    found = read(tmp_path / "b.png")
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, repeated(pixels))


@needs_rasterio
def test_a_world_file_is_told_where_it_is_lost_and_asks_for_new_work_where_it_came_later(tmp_path, caplog):
    source = save_picture(tmp_path / "a.png", noise(3, 8, 8))
    choices = Choices(resume=True)
    assert upscale_file(source, tmp_path / "b.tif", upscaler=upscaler(), choices=choices)
    assert not upscale_file(source, tmp_path / "b.tif", upscaler=upscaler(), choices=choices)
    (tmp_path / "a.pgw").write_text("2\n0\n0\n-2\n500001\n3999999\n")
    assert upscale_file(source, tmp_path / "b.tif", upscaler=upscaler(), choices=choices) and not caplog.records
    upscale_file(source, tmp_path / "b.png", upscaler=upscaler())
    assert f"the georeference of {source} is lost, only .tif keeps it" in caplog.text


@needs_rasterio
def test_a_georeference_that_the_format_cannot_keep_is_told(tmp_path, caplog):
    source = save_raster(tmp_path / "a.tif", noise(3, 9, 11))
    upscale_file(source, tmp_path / "b.png", upscaler=upscaler())
    assert "the georeference of" in caplog.text


def test_outputs_that_cannot_hold_the_image_are_refused_before_the_work(tmp_path):
    network = Blurring()
    source = save_picture(tmp_path / "a.png", noise(4, 8, 8))
    with pytest.raises(ValueError, match="'.jpg' cannot hold 3 band.s. and alpha of uint8"):
        upscale_file(source, tmp_path / "b.jpg", upscaler=upscaler(network))
    with pytest.raises(ValueError, match="'.gif' cannot be written"):
        upscale_file(source, tmp_path / "b.gif", upscaler=upscaler(network))
    with pytest.raises(ValueError, match="is its own input"):
        upscale_file(source, source, upscaler=upscaler(network))
    long = save_picture(tmp_path / "long.png", noise(1, 1, 33000))
    with pytest.raises(ValueError, match="2 x 66000 pixels are more than a JPEG can hold"):
        upscale_file(long, tmp_path / "b.jpg", upscaler=upscaler(network))
    assert network.windows == 4  # one for the scale of each upscaler
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "long.png"]


def test_without_rasterio_plain_tiffs_work_and_others_name_it(tmp_path, monkeypatch):
    pixels = noise(3, 9, 8)
    plain = save_picture(tmp_path / "plain.tif", pixels)
    if HAS_RASTERIO:
        geo = save_raster(tmp_path / "geo.tif", pixels)
    monkeypatch.setattr(raster_gdal, "available", lambda: False)
    monkeypatch.setitem(__import__("sys").modules, "rasterio", None)
    upscale_file(plain, tmp_path / "b.tif", upscaler=upscaler())
    np.testing.assert_array_equal(read(tmp_path / "b.tif"), repeated(pixels))
    assert written_by(tmp_path / "b.tif") is not None
    if HAS_RASTERIO:
        with pytest.raises(ImageFileError, match="geo.tif needs rasterio: pip install rasterio"):
            upscale_file(geo, tmp_path / "c.tif", upscaler=upscaler())


@pytest.mark.parametrize("name", ["a.png", "a.jpg", pytest.param("a.tif", marks=needs_rasterio)])
def test_a_truncated_file_is_one_sentence_and_leaves_the_old_output(tmp_path, name):
    source, target = tmp_path / name, tmp_path / f"b{Path(name).suffix}"
    if name == "a.tif":
        save_raster(source, noise(3, 64, 64), blockysize=16)
    else:
        save_picture(source, noise(3, 64, 64))
    source.write_bytes(source.read_bytes()[:-3000])
    target.write_bytes(b"precious")
    with pytest.raises(ImageFileError, match=f"cannot read image .*{name}: .*[^.].$"):
        upscale_file(source, target, upscaler=upscaler())
    assert target.read_bytes() == b"precious"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("mode", ["halo", "feather"])
@pytest.mark.parametrize("suffix", [".png", pytest.param(".tif", marks=needs_rasterio)])
def test_a_run_that_broke_off_goes_on_with_its_finished_strips(tmp_path, mode, suffix):
    pixels = noise(1, 100, 12, dtype=np.uint16)
    source = save_picture(tmp_path / "a.png", pixels)
    target, whole = tmp_path / f"b{suffix}", tmp_path / f"whole{suffix}"
    upscale_file(source, whole, upscaler=upscaler(Blurring(), mode=mode))
    target.write_bytes(b"precious")

    def kill(done: int, count: int) -> None:
        assert count == 7
        if done == 4:
            raise Broken

    with pytest.raises(Broken):
        upscale_file(source, target, upscaler=upscaler(Blurring(), mode=mode), progress=kill)
    assert target.read_bytes() == b"precious"
    with (tmp_path / f".b{suffix}.partial").open("ab") as file:
        file.write(b"a torn strip")
    network, resume = Blurring(), Choices(resume=True)
    assert upscale_file(source, target, upscaler=upscaler(network, mode=mode), choices=resume)
    assert network.windows == 1 + (3 if mode == "halo" else 4)  # feather needs the strip above again
    np.testing.assert_array_equal(read(target), read(whole))
    assert not list(tmp_path.glob(".*"))
    assert not upscale_file(source, target, upscaler=upscaler(network, mode=mode), choices=resume)  # there already


def test_strips_outlive_an_output_that_could_not_be_written(tmp_path, monkeypatch):
    source = save_picture(tmp_path / "a.png", noise(1, 100, 12))

    def full(*_: object, **__: object) -> None:
        raise ImageFileError("cannot write image: the disk is full.")

    with monkeypatch.context() as patch, pytest.raises(ImageFileError, match="the disk is full"):
        patch.setattr(upscaling_outputs, "write_raster", full)
        upscale_file(source, tmp_path / "b.png", upscaler=upscaler(Blurring()))
    network = Blurring()
    upscale_file(source, tmp_path / "b.png", upscaler=upscaler(network), choices=Choices(resume=True))
    assert network.windows == 1 + 1  # only the last strip is not kept


def test_strips_of_other_work_are_not_used(tmp_path):
    source = save_picture(tmp_path / "a.png", noise(1, 100, 12))

    def kill(done: int, count: int) -> None:
        if done == 2:
            raise Broken

    with pytest.raises(Broken):
        upscale_file(source, tmp_path / "b.png", upscaler=upscaler(), progress=kill)
    network = Blurring()
    choices = Choices(resume=True, identity="other weights")
    upscale_file(source, tmp_path / "b.png", upscaler=upscaler(network), choices=choices)
    assert network.windows == 1 + 7
    changed = save_picture(tmp_path / "a.png", noise(1, 90, 12))
    assert upscale_file(changed, tmp_path / "b.png", upscaler=upscaler(network), choices=choices)  # the source is new


def test_a_full_disk_is_told_before_the_work(tmp_path, monkeypatch):
    source = save_picture(tmp_path / "a.png", noise(3, 20, 20))
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr(upscaling_file.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(OSError, match="needs 5 KiB for its rows before compression, but .* has only 10 B left"):
        upscale_file(source, tmp_path / "b.png", upscaler=upscaler())


@pytest.mark.parametrize("suffix", [pytest.param(".tif", marks=needs_rasterio), ".png"])
def test_a_run_that_broke_off_goes_on_to_the_same_layers_whatever_the_windows(tmp_path, suffix, monkeypatch):
    layers = Layers(samples=2, bounds=ALL.bounds, weight_samples=2, latent_samples=2)
    source = save_picture(tmp_path / "a.png", noise(3, 100, 30))
    upscale_file(source, tmp_path / f"whole{suffix}", upscaler=toy(layers))
    target, calls, append = tmp_path / f"b{suffix}", [], PartialRows.append

    def killed(self: PartialRows, strip: np.ndarray, *, last: bool = False) -> None:
        calls.append(self.path)
        if len(calls) == (4 if suffix == ".tif" else 12):  # in between two files of one strip
            raise Broken
        append(self, strip, last=last)

    with monkeypatch.context() as patch, pytest.raises(Broken):
        patch.setattr(PartialRows, "append", killed)
        upscale_file(source, target, upscaler=toy(layers))
    partials = list(tmp_path.rglob("*.partial.json"))
    assert {json.loads(path.read_text())["strips"] for path in partials} == ({3} if suffix == ".tif" else {2, 3})
    assert upscale_file(source, target, upscaler=toy(layers), choices=Choices(resume=True))
    assert not list(tmp_path.rglob("*.partial*"))
    other = toy(layers, tile=64, overlap=16)
    upscale_file(source, tmp_path / f"other{suffix}", upscaler=other)
    for name in [target] if suffix == ".tif" else sorted((tmp_path / "b").iterdir()):
        relative = name.relative_to(target if suffix == ".tif" else tmp_path / "b")
        found = read(name)
        np.testing.assert_array_equal(found, read(_twin(tmp_path, "whole", suffix, relative)))
        wide = read(_twin(tmp_path, "other", suffix, relative)).astype(int)
        assert np.abs(found - wide).max() <= 1  # a rounding


def _twin(folder: Path, stem: str, suffix: str, relative: Path) -> Path:
    return folder / f"{stem}{suffix}" if suffix == ".tif" else folder / stem / relative


def joined(files: list[Path], columns: int) -> np.ndarray:
    """Upscaled tiles, which are listed row by row, as one picture."""
    tiles = [read(file) for file in files]
    return np.concatenate(
        [np.concatenate(tiles[row : row + columns], axis=2) for row in range(0, len(tiles), columns)], axis=1
    )


def upscaled_tiles(files: list[Path], folder: Path, *, grid: TileGrid | None, using) -> list[Path]:
    targets = []
    for file in files:
        targets.append(folder / f"{file.parent.name}_{file.stem}.png")
        upscale_file(file, targets[-1], upscaler=using, choices=Choices(grid=grid))
    return targets


@pytest.mark.parametrize(("mode", "tile", "tolerance"), [("halo", 24, 0), ("halo", 12, 0), ("feather", 24, 3)])
def test_tiles_of_a_grid_join_to_the_upscaled_picture(tmp_path, mode, tile, tolerance):
    pixels = waves(48, 64)
    files = cut_into_tiles(tmp_path / "tiles", pixels)
    using = upscaler(BlurringColours(), mode=mode, tile=tile, overlap=4)
    upscale_file(save_picture(tmp_path / "whole.png", pixels), tmp_path / "b.png", upscaler=using)
    with_context = joined(upscaled_tiles(files, tmp_path / "a", grid=TileGrid(files), using=using), 4)
    expected = read(tmp_path / "b.png").astype(int)
    assert np.abs(with_context - expected).max() <= tolerance
    alone = joined(upscaled_tiles(files, tmp_path / "c", grid=None, using=using), 4)
    assert np.abs(alone - expected).max() > tolerance + 3


def test_samples_and_deviations_of_tiles_join_as_well(tmp_path):
    pixels = waves(32, 32)
    files = cut_into_tiles(tmp_path / "tiles", pixels, first=(0, 0))  # so that the picture has the noise of the grid
    grid = TileGrid(files)
    upscale_file(save_picture(tmp_path / "whole.png", pixels), tmp_path / "b.png", upscaler=toy())
    for file in files:
        upscale_file(file, tmp_path / file.parent.name / file.name, upscaler=toy(), choices=Choices(grid=grid))
    for name in ("mean.png", "sample_2.png", "lower.png", *(["uncertainty.tif"] if HAS_RASTERIO else [])):
        found = joined([tmp_path / file.parent.name / file.stem / name for file in files], 2)
        np.testing.assert_allclose(found, read(tmp_path / "b" / name), atol=1 if name.endswith("png") else 1e-3)


def test_a_missing_neighbour_is_the_border_of_an_image(tmp_path, caplog):
    pixels = waves(16, 48)
    files = cut_into_tiles(tmp_path / "tiles", pixels)
    using = upscaler(BlurringColours(), overlap=4)
    save_picture(files[2], waves(16, 20))  # of another size
    targets = upscaled_tiles(files, tmp_path / "a", grid=TileGrid(files), using=using)
    assert "4.png has another size" in caplog.text and len(caplog.records) == 1
    upscale_file(save_picture(tmp_path / "two.png", pixels[..., :32]), tmp_path / "b.png", upscaler=using)
    np.testing.assert_array_equal(joined(targets[:2], 2), read(tmp_path / "b.png"))
    upscale_file(files[2], tmp_path / "c.png", upscaler=using)
    np.testing.assert_array_equal(read(targets[2]), read(tmp_path / "c.png"))
    files[1].write_bytes(files[1].read_bytes()[:-20])
    upscaled_tiles(files[:1], tmp_path / "a", grid=TileGrid(files), using=using)
    upscale_file(files[0], tmp_path / "d.png", upscaler=using)
    np.testing.assert_array_equal(read(targets[0]), read(tmp_path / "d.png"))


def test_a_finished_tile_is_upscaled_again_when_a_neighbour_has_come(tmp_path):
    files, using = cut_into_tiles(tmp_path / "tiles", waves(16, 48)), upscaler(BlurringColours(), overlap=4)

    def again(number: int, there: list[Path]) -> bool:
        choices = Choices(grid=TileGrid(there), resume=True)
        return upscale_file(files[number], tmp_path / f"{number}.png", upscaler=using, choices=choices)

    assert all(again(number, files[:2]) for number in (0, 1))
    assert not any(again(number, files[:2]) for number in (0, 1))
    assert not again(0, files) and again(1, files)


@needs_rasterio
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_window_is_that_part_of_the_upscaled_image(tmp_path, dtype):
    pixels = waves(48, 64).astype(dtype)
    source, using = save_raster(tmp_path / "a.tif", pixels), upscaler(BlurringColours(), overlap=4)
    limits = None if dtype == np.uint8 else (0, 255)
    upscale_file(source, tmp_path / "b.tif", upscaler=using, choices=Choices(limits=limits))
    for number, window in enumerate([(20, 10, 30, 29), (0, 0, 5, 48), (59, 47, 5, 1)]):
        target, choices = tmp_path / f"{number}.tif", Choices(limits=limits, window=window, resume=True)
        assert upscale_file(source, target, upscaler=using, choices=choices)
        left, top, width, height = (2 * side for side in window)
        expected = read(tmp_path / "b.tif")[:, top : top + height, left : left + width]
        np.testing.assert_array_equal(read(target), expected)
        assert not upscale_file(source, target, upscaler=using, choices=choices)


class BlurringColours(Blurring):
    in_channels = 3
