"""Drawn aerial scenes: replay, texture apart from layout, a spectrum like that of photographs, bands, files."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from monai_ext.data.tiles.listing import tile_items
from monai_ext.phantoms.aerial import HIDDEN_SCALE, aerial_layers, draw_aerial, write_aerial_phantoms
from monai_ext.phantoms.aerial_scene import OVERSAMPLING, Scene

SEEDS = range(6)


@pytest.fixture(scope="module")
def scenes():
    return [draw_aerial(layout_seed=seed) for seed in SEEDS]


def reduced(pixels, scale=HIDDEN_SCALE):
    """Pillow's bicubic reduction of uint8 (3, H, W), as int64."""
    picture = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    size = picture.width // scale, picture.height // scale
    return torch.from_numpy(np.array(picture.resize(size, Image.Resampling.BICUBIC))).permute(2, 0, 1).long()


def enlarged(pixels, scale=HIDDEN_SCALE):
    picture = Image.fromarray(pixels.byte().permute(1, 2, 0).numpy())
    size = picture.width * scale, picture.height * scale
    return torch.from_numpy(np.array(picture.resize(size, Image.Resampling.BICUBIC))).permute(2, 0, 1).long()


def psnr(one, other):
    return 10 * math.log10(255**2 / (one.double() - other.double()).square().mean().item())


def test_the_same_seeds_give_the_same_scene_and_others_another(scenes):
    assert torch.equal(draw_aerial(layout_seed=0), scenes[0])
    assert not torch.equal(scenes[0], scenes[1])
    small = [draw_aerial((64, 64), layout_seed=seed) for seed in ((1, 2), (1, 2), (2, 1))]
    assert torch.equal(small[0], small[1]) and not torch.equal(small[0], small[2])


def test_scenes_that_differ_in_texture_have_one_layout_and_one_reduced_image(scenes):
    for seed in (1, 3):  # fields, where there is much of it
        other = draw_aerial(layout_seed=seed, texture_seed=1)
        assert psnr(scenes[seed], other) < 30
        difference = reduced(scenes[seed]) - reduced(other)
        assert difference.abs().max() <= 3 and psnr(reduced(scenes[seed]), reduced(other)) > 50
        assert torch.equal(
            aerial_layers((64, 64), layout_seed=seed, texture_seed=0)[0],
            aerial_layers((64, 64), layout_seed=seed, texture_seed=1)[0],
        )


def test_texture_and_layout_add_up_to_the_scene():
    layout, texture = aerial_layers((64, 48), layout_seed=3, texture_seed=5)
    expected = ((layout + texture).clamp(0, 1) * 255).round().byte()
    assert torch.equal(draw_aerial((64, 48), layout_seed=3, texture_seed=5), expected)
    assert texture.std() > 0.02


def test_a_reduction_by_four_loses_what_can_be_seen(scenes):
    losses = [psnr(scene, enlarged(reduced(scene))) for scene in scenes]
    assert all(20 < loss < 31 for loss in losses)  # photographs from the air: 21 to 31 dB
    assert 22 < np.mean(losses) < 28


def test_the_spectrum_falls_off_as_that_of_photographs(scenes):
    window = np.outer(np.hanning(256), np.hanning(256))
    y, x = np.mgrid[-128:128, -128:128]
    radius = np.hypot(y, x).astype(int)
    slopes = []
    for scene in scenes:
        grey = scene.double().mean(0).numpy()
        power = np.abs(np.fft.fftshift(np.fft.fft2((grey - grey.mean()) * window))) ** 2
        mean = np.bincount(radius.ravel(), power.ravel()) / np.bincount(radius.ravel())
        slopes.append(np.polyfit(np.log(np.arange(6, 100)), np.log(mean[6:100]), 1)[0])
    assert -3.3 < np.mean(slopes) < -2.0  # of photographs from the air: -2.8


def test_scenes_are_exposed_like_photographs(scenes):
    for scene in scenes:
        values = scene.float()
        assert 50 < values.mean() < 180 and values.std() > 15
        assert ((scene == 0) | (scene == 255)).float().mean() < 0.02


@pytest.mark.parametrize("bands", [1, 2, 3, 4, 7])
def test_any_number_of_bands_and_any_size(bands):
    scene = draw_aerial((45, 70), bands=bands)
    assert scene.shape == (bands, 45, 70) and scene.dtype == torch.uint8
    assert all(band.float().std() > 3 for band in scene)


def test_bands_have_their_meaning():
    rgbn = aerial_layers((96, 96), layout_seed=2, bands=4)[0]
    assert torch.equal(rgbn[:3], aerial_layers((96, 96), layout_seed=2, bands=3)[0])
    grey = aerial_layers((96, 96), layout_seed=2, bands=1)[0]
    expected = (rgbn[:3] * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0)
    assert (grey[0] - expected).abs().mean() < 0.01
    green = (rgbn[1] > 1.1 * rgbn[0]) & (rgbn[1] > 1.1 * rgbn[2])
    assert green.any() and (rgbn[3] > rgbn[0])[green].float().mean() > 0.95  # plants shine in the infrared
    six = aerial_layers((96, 96), layout_seed=2, bands=6)[0]
    low, high = torch.minimum(six[0], six[3]) - 0.02, torch.maximum(six[0], six[3]) + 0.02
    assert ((low <= six[4:]) & (six[4:] <= high)).all()  # between red and infrared


def test_16_bits_are_the_same_scene_in_finer_steps():
    fine, coarse = draw_aerial((64, 64), bits=16), draw_aerial((64, 64))
    assert fine.dtype == torch.uint16
    assert (fine.double() / 257 - coarse.double()).abs().max() <= 0.51
    assert len(fine.unique()) > 300


def test_what_is_high_throws_a_shadow_away_from_the_sun_and_none_on_itself():
    scene = Scene(128, 128, 0.3, np.random.default_rng(1))
    scene.shade.paste(0, (0, 0, *scene.shade.size))
    square = np.array([(-2, -2), (2, -2), (2, 2), (-2, 2)], dtype=float)
    number = scene.add((0.5, 0.5, 0.5, 0.5))
    scene.fill(square, number, height_m=10)
    middle = np.array(scene.shade.size) / 2
    step = scene.sun * OVERSAMPLING / 0.3  # one metre
    below, behind, before = (
        tuple((middle + metres * step).round().astype(int).tolist()) for metres in (0, 4 + 5 * scene.shadow_length, -4)
    )
    assert [scene.shade.getpixel(place) for place in (below, behind, before)] == [0, 255, 0]
    assert scene.numbers.getpixel(below) == number != scene.numbers.getpixel(behind)


def test_phantoms_are_written_once_and_listed_as_places_of_their_own(tmp_path):
    assert write_aerial_phantoms(tmp_path, count=2, size=(40, 48), seed=7) == 2
    first = tmp_path / "phantom_0000.png"
    expected = draw_aerial((40, 48), layout_seed=(7, 0), texture_seed=(7, 0))
    assert np.array_equal(np.asarray(Image.open(first)), expected.permute(1, 2, 0).numpy())
    written = first.stat().st_mtime_ns
    assert write_aerial_phantoms(tmp_path, count=3, size=(40, 48), seed=7) == 3
    assert first.stat().st_mtime_ns == written
    items = tile_items(tmp_path)
    assert [item["place"] for item in items] == ["phantom_0000", "phantom_0001", "phantom_0002"]
    with pytest.raises(ValueError, match="holds phantoms of .* choose another folder"):
        write_aerial_phantoms(tmp_path, count=3, size=(40, 48), seed=8)


def test_grey_phantoms_are_grey_files(tmp_path):
    write_aerial_phantoms(tmp_path, count=1, size=(40, 48), bands=1)
    assert Image.open(tmp_path / "phantom_0000.png").mode == "L"


def test_arguments_out_of_range_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"size is \(31, 64\): a scene needs at least 32"):
        draw_aerial((31, 64))
    with pytest.raises(ValueError, match="bands=0"):
        draw_aerial(bands=0)
    with pytest.raises(ValueError, match="pixel_size_m=0"):
        draw_aerial(pixel_size_m=0)
    with pytest.raises(ValueError, match="bits is 12"):
        draw_aerial(bits=12)
    with pytest.raises(ValueError, match="count is 0"):
        write_aerial_phantoms(tmp_path, count=0)
    with pytest.raises(ValueError, match="bands is 4: PNG files hold 1 or 3"):
        write_aerial_phantoms(tmp_path, bands=4)
