"""The command `many_hr`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from many_hr import SETTINGS, build
from many_hr_sets import read_lines, rows
from PIL import Image

from monai_ext.__main__ import main
from monai_ext.commands.datasets.many_hr import NetworkSampler
from monai_ext.data.many_hr.check import check_many_hr
from monai_ext.data.many_hr.format import ManyHrError
from monai_ext.networks.srresnet import SRResNet
from monai_ext.runtime.errors import explain


class Drawing(torch.nn.Module):
    """A network with samples: noise."""

    def sample(self, low_res, n, *, generator):
        size = (len(low_res), n, low_res.shape[1], *(4 * side for side in low_res.shape[2:]))
        return torch.rand(size, generator=generator)


STEADY = SRResNet(features=4, blocks=1, norm=None, residual=True)  # begins as plain interpolation


@pytest.mark.parametrize("network", [Drawing(), STEADY], ids=["samples", "deterministic"])
def test_a_networks_answers_are_exact_and_differ(tiles, tmp_path, network):
    settings = replace(SETTINGS, kinds=("sampled",), targets=3)
    index = build(tiles, tmp_path, records=2, settings=settings, sampler=NetworkSampler(network, "abc"))
    assert index.kinds == {"original": 2, "sampled": 4} and index.model == "abc"
    answers = [answer for answer in read_lines(tmp_path / "answers.jsonl") if answer["kind"] == "sampled"]
    assert all(answer["lr_psnr"] > 50 for answer in answers)
    assert check_many_hr(tmp_path).nearest > 0.2
    with pytest.raises(ManyHrError, match="other settings, tiles or weights"):
        build(tiles, tmp_path, records=2, settings=settings, sampler=NetworkSampler(network, "other"))


def test_a_network_of_another_scale_is_refused(tiles, tmp_path):
    sampler = NetworkSampler(SRResNet(features=4, blocks=1, scale=2), "")
    with pytest.raises(ValueError, match=r"makes \(1, 3, 32, 32\) of \(1, 3, 16, 16\), not \(1, 3, 64, 64\)"):
        build(tiles, tmp_path, records=1, settings=replace(SETTINGS, kinds=("sampled",)), sampler=sampler)


def test_help_says_that_sampled_needs_a_model(capsys):
    with pytest.raises(SystemExit):
        main(["many_hr", "build", "--help"])
    assert "sampled only with --bundle" in " ".join(capsys.readouterr().out.split())


def test_the_command_builds_checks_and_shows(tiles, tmp_path, capsys):
    output = tmp_path / "set"
    options = "--records 3 --targets 3 --size 32 --scale 2 --kinds texture mined --licence CC0-1.0"
    options += " --test_fraction 0 --validation_fraction 0"
    assert main(["many_hr", "build", "--tiles", str(tiles), "--output_dir", str(output), *options.split()]) == 0
    assert "3 records, 9 images (3 original, 3 texture, 3 mined)" in capsys.readouterr().err
    assert "Licence: CC0-1.0" in (output / "README.md").read_text()
    assert main(["many_hr", "check", str(output)]) == 0
    assert "all files and measures agree with the records" in capsys.readouterr().err
    assert main(["many_hr", "show", str(output), "--records", "000001"]) == 0
    with Image.open(output / "contact_sheet.png") as sheet:
        assert sheet.size == (5 * 36 - 4, 32 + 14)
        first = np.asarray(sheet)[14:, 36:68]
    assert np.array_equal(first.transpose(2, 0, 1), rows(output, read_lines(output / "records.jsonl")[1])[1][0])
    with pytest.raises(ValueError, match="record 000009 is not in") as caught:
        main(["many_hr", "show", str(output), "--records", "000009"])
    assert explain(caught.value)


def test_deep_tiles_are_read_by_a_range_and_blank_ones_left_out(tiles, tmp_path, caplog):
    rasterio = pytest.importorskip("rasterio", reason="needs rasterio")
    deep, plain = tmp_path / "deep", tmp_path / "plain"
    deep.mkdir()
    plain.mkdir()
    for number, path in enumerate(sorted(tiles.rglob("*.png"))[:6]):
        with Image.open(path) as picture:
            eight = np.asarray(picture.convert("RGB")).transpose(2, 0, 1)
        Image.fromarray(eight.transpose(1, 2, 0)).save(plain / f"{number}.png")
        about = {"driver": "GTiff", "count": 3, "height": eight.shape[1], "width": eight.shape[2], "dtype": "int16"}
        with rasterio.open(deep / f"{number}.tif", "w", **about) as dataset:
            dataset.write(np.rint(eight / 255 * 3000).astype(np.int16))
        if number < 3:
            with rasterio.open(deep / f"blank_{number}.tif", "w", **about) as dataset:
                dataset.write(np.full(eight.shape, 700, np.int16))
    options = "--records 4 --targets 2 --size 32 --scale 2 --kinds texture --test_fraction 0 --validation_fraction 0"
    for name, more in (("deep", ["--range", "0", "3000"]), ("plain", [])):
        words = ["many_hr", "build", "--tiles", str(tmp_path / name), "--output_dir", str(tmp_path / f"{name}_set")]
        assert main([*words, *options.split(), *more]) == 0
    assert "3 of 9 tiles left out, blank (one colour): blank_0, blank_1, blank_2" in caplog.text
    found = {
        name: rows(tmp_path / f"{name}_set", read_lines(tmp_path / f"{name}_set" / "records.jsonl")[0])
        for name in ("deep", "plain")
    }
    for of_deep, of_plain in zip(found["deep"], found["plain"], strict=True):
        assert np.abs(of_deep[:1].astype(int) - of_plain[:1].astype(int)).max() <= 1  # the original and its reduction
