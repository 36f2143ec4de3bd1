"""Map tiles among the images: context, a deeper zoom, one picture."""

from __future__ import annotations

import numpy as np
import pytest
from upscaling_toys import (
    HAS_RASTERIO,
    cut_into_tiles,
    needs_rasterio,
    noise,
    read,
    repeated,
    save_picture,
    save_raster,
    typed,
    waves,
)

from monai_ext.commands.upscaling import upscale as command


def test_tiles_of_a_grid_keep_their_names_and_have_each_other_as_context(tmp_path, bundle, capsys, caplog):
    files = cut_into_tiles(tmp_path / "in", waves(32, 32))
    (tmp_path / "in" / "attribution.json").write_text("{}")
    words = ("--bundle", bundle, "--tile", 24, "--overlap", 4, "--device", "cpu")
    assert command.run(typed(tmp_path / "in", tmp_path / "out", *words)) == 0
    assert "4 of 4 images are tiles of a grid: their neighbours are their context" in capsys.readouterr().err
    for file in files:
        np.testing.assert_array_equal(read(tmp_path / "out" / file.relative_to(tmp_path / "in")), repeated(read(file)))
    assert len([path for path in (tmp_path / "out").rglob("*") if path.is_file()]) == 4
    assert command.run(typed(tmp_path / "in", tmp_path / "out", *words, "--resume", "--no_context")) == 0
    assert "4 of 4 images upscaled" in capsys.readouterr().err  # other work than with context
    with pytest.raises(ValueError, match="a.tif: the images are no grid of map tiles"):
        command.run(typed(files[0], tmp_path / "one", *words, "--mosaic", tmp_path / "a.tif"))
    with pytest.raises(ValueError, match="3.4.png: it is one of the images"):
        command.run(typed(tmp_path / "in", tmp_path / "one", *words, "--mosaic", files[0]))
    with pytest.raises(ValueError, match=r"mosaic .*a.png: name a .tif"):
        command.run(typed(tmp_path / "in", tmp_path / "one", *words, "--mosaic", tmp_path / "a.png"))
    for folder in "ab":
        cut_into_tiles(tmp_path / "two" / folder, waves(32, 32))
    with pytest.raises(ValueError, match="a/5/3/4.png and .*b/5/3/4.png would lie at one place"):
        command.run(typed(tmp_path / "two", tmp_path / "one", *words, "--mosaic", tmp_path / "a.tif"))
    assert not (tmp_path / "one").exists()
    for number, file in enumerate(files):
        save_picture(file, noise(3, 16, 16, seed=number))
    command.run(typed(tmp_path / "in", tmp_path / "out", *words))
    assert "4 of 4 images have names of map tiles, but their borders do not fit together" in caplog.text


@pytest.mark.parametrize("south", [False, True])
def test_tiles_are_cut_into_tiles_of_a_deeper_zoom(tmp_path, bundle, capsys, south):
    pixels, words = waves(32, 16), ("--bundle", bundle, "--overlap", 4, "--device", "cpu", "--deeper")
    files = cut_into_tiles(tmp_path / "in", pixels, south=south)
    mosaic = ("--mosaic", tmp_path / "a.tif") if HAS_RASTERIO else ()
    for folder, out in (("in", "out"), ("in/5", "column"))[south:]:
        command.run(typed(tmp_path / folder, tmp_path / out, *words, *mosaic))
        found = sorted((tmp_path / out).rglob("*.png"))
        assert len(found) == 8 and {file.parts[-3] for file in found} == {"6"}
        expected = repeated(pixels)
        for file in found:
            column, row = int(file.parent.name) - 6, int(file.stem) - 8
            top = 16 * (3 - row if south else row)
            np.testing.assert_array_equal(read(file), expected[:, top : top + 16, 16 * column : 16 * column + 16])
        assert not mosaic or np.array_equal(read(tmp_path / "a.tif")[:3], expected)
    found[0].unlink()
    command.run(typed(tmp_path / "in", tmp_path / "column", *words, "--resume"))
    assert "1 of 2 images upscaled 2 times, 1 were there already" in capsys.readouterr().err and found[0].is_file()
    assert {file.suffix for file in (tmp_path / "column").rglob("*") if file.is_file()} == {".png"}
    save_picture(tmp_path / "photo.png", waves(16, 16))
    for source, output, message in (
        (tmp_path / "photo.png", tmp_path / "out", "photo.png is no map tile Z/X/Y.png"),
        (files[0], tmp_path / "one.png", "one.png is a file, and the tiles go to a folder"),
        (save_picture(tmp_path / "5_1_2.png", waves(15, 16)), tmp_path / "out", "cannot be cut into 2 x 2 tiles"),
    ):
        with pytest.raises(ValueError, match=message):
            command.run(typed(source, output, *words))


def test_the_count_of_rows_may_be_given(tmp_path, bundle, capsys):
    files = cut_into_tiles(tmp_path / "in", noise(3, 32, 32))  # whose borders do not fit
    words = (tmp_path / "in", tmp_path / "out", "--bundle", bundle, "--overlap", 4, "--device", "cpu", "--deeper")
    with pytest.raises(ValueError, match="if it is one, --scheme xyz"):
        command.run(typed(*words))
    command.run(typed(*words, "--scheme", "tms"))
    assert "4 of 4 images are tiles of a grid, rows from the south" in capsys.readouterr().err
    np.testing.assert_array_equal(read(tmp_path / "out" / "6" / "6" / "9.png"), repeated(read(files[0]))[:, :16, :16])
    if HAS_RASTERIO:
        save_picture(files[0], waves(16, 20))
        words = (*words, "--scheme", "xyz", "--mosaic", tmp_path / "a.tif")
        with pytest.raises(ValueError, match=r"several sizes, 16 x 16 \(.*\), 20 x 16 \(.*3/4.png\)"):
            command.run(typed(*words))


@needs_rasterio
def test_deep_tiles_of_a_grid_have_one_range(tmp_path, bundle, capsys, caplog):
    pixels = waves(16, 32).astype(np.uint16) * 12
    for column in (0, 1):
        file = tmp_path / "in" / "5" / str(column) / "0.tif"
        file.parent.mkdir(parents=True)
        save_raster(file, pixels[..., 16 * column :][..., :16], crs=None, transform=None)
    with caplog.at_level("INFO"):
        command.run(typed(tmp_path / "in", tmp_path / "out", "--bundle", bundle, "--overlap", 4, "--device", "cpu"))
    assert caplog.text.count(f"0 to {pixels.max()} become 0 to 1 (--range LOW HIGH sets them)") == 1
    words = ("--bundle", bundle, "--overlap", 4, "--device", "cpu", "--resume", "--mosaic", tmp_path / "a.tif")
    command.run(typed(tmp_path / "in", tmp_path / "out", *words))
    assert "0 of 2 images upscaled 2 times, 2 were there already" in capsys.readouterr().err
    np.testing.assert_array_equal(read(tmp_path / "a.tif")[:3], repeated(pixels))
