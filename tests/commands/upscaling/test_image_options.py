"""Devices, ranges and calibrations as options name them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from upscaling_toys import noise, save_picture, typed

from monai_ext.commands.upscaling import upscale as command
from monai_ext.commands.upscaling.image_options import ValueOptions, warn_without_epistemic
from monai_ext.data.tiles.pixel_scale import PixelScale, keep_scale


def test_devices_and_ranges_are_checked(capsys):
    assert command.devices("cpu,cpu") == [torch.device("cpu")] * 2
    for name, sentence in (
        ("gpu", "device 'gpu' is unknown: choose auto, all, cpu, cuda or"),
        ("cuda:99", "device 'cuda:99' is not here"),
    ):
        with pytest.raises(ValueError, match=sentence):
            command.devices(name)
    assert typed("a.png", "b.png", "--range", 0, 4095).values.range == (0.0, 4095.0)
    assert typed("a.png", "b.png", "--range", "data").values.range == "data"
    negative = typed("a.png", "b.png", "--range", "-1e-05", 255, "--nodata", "-3.4e38").values
    assert negative.range == (-1e-05, 255.0) and negative.nodata == -3.4e38
    assert typed("a.png", "b.png", "--range", -9999, "1e3", "--nodata", -9999).values.range == (-9999.0, 1000.0)
    with pytest.raises(SystemExit):
        typed("a.png", "b.png", "--range", 1)
    assert "--range takes {FLOAT FLOAT}|{data}, not '1'" in capsys.readouterr().err


def test_a_shipped_ensemble_is_named_in_few_words(tmp_path, caplog):
    (tmp_path / "models/ensemble").mkdir(parents=True)
    for seed in range(3):
        (tmp_path / f"models/ensemble/seed_{seed}.pt").touch()
    upscaler = SimpleNamespace(layers=SimpleNamespace(uncertainty=True, epistemic=False))
    warn_without_epistemic(upscaler, tmp_path)
    assert caplog.text.endswith(f"has: --weights for each of the 3 files in {tmp_path / 'models/ensemble'}\n")


def test_the_scale_of_the_training_holds_for_images_of_its_type(tmp_path):
    (tmp_path / "models").mkdir()
    assert ValueOptions().choices(tmp_path).scale is None
    trained = PixelScale("uint16", 0, 3000, nodata=65535, no_alpha=True)
    keep_scale(tmp_path / "models", trained)
    choices = ValueOptions().choices(tmp_path)
    assert choices.scale == trained and ValueOptions().choices(tmp_path, [tmp_path / "other.pt"]).scale is None
    pictures = {
        dtype: save_picture(tmp_path / f"{dtype}.png", noise(1, 8, 8, dtype=dtype)) for dtype in ("uint8", "uint16")
    }
    for dtype, expected in (("uint8", (None, (None,))), ("uint16", ((0, 3000), (65535,)))):
        raster = choices.open(pictures[dtype])
        assert (choices.limits_of(raster.info), raster.info.nodata) == expected
    chosen = ValueOptions(range=(0, 100), nodata=7).choices(tmp_path)
    raster = chosen.open(pictures["uint16"])
    assert (chosen.limits_of(raster.info), raster.info.nodata) == ((0, 100), (7,))
    chosen = ValueOptions(preset="sentinel2").choices(tmp_path, bands=(1,))
    raster = chosen.open(pictures["uint16"])
    assert (chosen.limits_of(raster.info), raster.info.nodata) == ((1000, 4000), (0,))


def test_a_preset_has_a_range_unless_one_is_given(tmp_path):
    assert ValueOptions(preset="sentinel2").choices(tmp_path).limits == (1000, 4000)
    assert ValueOptions(preset="sentinel2_harmonized").choices(tmp_path).limits == (0, 3000)
    assert ValueOptions(preset="sentinel2", range=(1000, 9000)).choices(tmp_path).limits == (1000, 9000)
    assert ValueOptions().choices(tmp_path).preset is None
