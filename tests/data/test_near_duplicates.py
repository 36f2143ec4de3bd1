"""Near-duplicates are found and nothing else, and what was found is kept until a file changes."""

from __future__ import annotations

import logging
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.fft import dct

from monai_ext.data import near_duplicates
from monai_ext.data.folds import assign_folds
from monai_ext.data.isic import lesion_items
from monai_ext.data.near_duplicates import duplicate_groups, near_duplicate_groups, perceptual_hash
from monai_ext.phantoms.lesions import draw_lesion
from monai_ext.raster.images import read_image

COUNT = 40  # phantoms, see conftest.py; three of them are there twice


def grey(image: torch.Tensor) -> np.ndarray:
    return np.tensordot(near_duplicates.GREY, image.numpy(), 1)


def test_hash_equals_a_slow_reference():
    image = draw_lesion((64, 64), seed=3)[0]
    luminance = np.zeros((32, 32))
    for y in range(64):
        for x in range(64):
            red, green, blue = image[:, y, x].tolist()
            luminance[y // 2, x // 2] += (0.299 * red + 0.587 * green + 0.114 * blue) / 4
    low = dct(dct(luminance, axis=0), axis=1)[:8, :8].ravel()
    median = sorted(low[1:])[31]
    expected = int("0" + "".join("1" if value > median else "0" for value in low[1:]), 2)
    assert perceptual_hash(image) == expected


def test_hash_ignores_scale_and_brightness_and_tells_pictures_apart():
    image = draw_lesion((128, 128), seed=3)[0]
    same = torch.nn.functional.interpolate(image[None].float() * 0.8, (200, 150), mode="bilinear")[0].byte()
    assert (perceptual_hash(image) ^ perceptual_hash(same)).bit_count() <= 4
    hashes = [perceptual_hash(draw_lesion((64, 64), seed=(1, n))[0]) for n in range(12)]
    distances = [(a ^ b).bit_count() for n, a in enumerate(hashes) for b in hashes[:n]]
    assert min(distances) > 4 and 24 < np.mean(distances) < 36


def test_equal_thumbnails_are_one_group_numbered_by_first_occurrence():
    a, b, c = (grey(draw_lesion((64, 64), seed=(2, n))[0]) for n in range(3))
    assert near_duplicate_groups(np.stack([a, b, a, c, b, a])).tolist() == [0, 1, 0, 2, 1, 0]


def test_groups_equal_a_slow_comparison_of_all_pairs(items):
    thumbnails = np.stack([grey(read_image(i["image"], spatial_size=(64, 64), draft=True)) for i in items])
    textures = near_duplicates._textures(thumbnails)
    bits = near_duplicates._hash_bits(thumbnails)
    expected = list(range(len(items)))
    for i in range(len(items)):
        for j in range(i):
            if (bits[i] != bits[j]).sum() > near_duplicates.MAX_HASH_DISTANCE:
                continue
            shifted = (np.roll(textures[j], (y, x), (0, 1)) for y in range(-4, 5) for x in range(-4, 5))
            if max((textures[i] * other).sum() for other in shifted) >= near_duplicates.MIN_CORRELATION:
                expected = [expected[i] if group == expected[j] else group for group in expected]
    groups = near_duplicate_groups(thumbnails)
    assert np.array_equal(groups[:, None] == groups, np.equal.outer(expected, expected))


@pytest.mark.parametrize("block", [1, 3, 7])
def test_groups_do_not_depend_on_the_blocks_that_they_are_found_in(items, monkeypatch, block):
    thumbnails = np.stack([grey(read_image(i["image"], spatial_size=(64, 64), draft=True)) for i in items])
    expected = near_duplicate_groups(thumbnails)
    assert len(set(expected.tolist())) < len(items)
    monkeypatch.setattr(near_duplicates, "BLOCK", block)
    assert np.array_equal(near_duplicate_groups(thumbnails), expected)


def test_pictures_without_texture_do_not_chain_into_one_group():
    levels = np.repeat(np.linspace(0, 255, 30, dtype=np.float32)[:, None, None], 64, 1).repeat(64, 2)
    noise = np.random.default_rng(0).normal(0, 1, levels.shape).astype(np.float32)
    assert len(set(near_duplicate_groups(np.clip(levels + noise, 0, 255)).tolist())) == 30


def test_re_saved_pictures_are_grouped_and_nothing_else(items, cache):
    groups = duplicate_groups(items, cache_dir=cache)
    named = {item["id"]: group for item, group in zip(items, groups, strict=True)}
    assert named["quality"] == named["phantom_0004"] == "phantom_0004"
    assert named["colour"] == named["phantom_0009"] == "colour"
    assert named["shift"] == named["phantom_0017"] == "phantom_0017"
    assert sorted(Counter(groups).values()) == [1] * (COUNT - 3) + [2] * 3


def test_thumbnails_of_a_wrong_shape_are_refused():
    with pytest.raises(ValueError, match=r"thumbnails have the shape \(2, 32, 32\): expected \(N, 64, 64\)"):
        near_duplicate_groups(np.zeros((2, 32, 32)))


def count_readings(monkeypatch) -> list[str]:
    paths: list[str] = []

    def reading(path, **options):
        paths.append(path)
        return read_image(path, **options)

    monkeypatch.setattr(near_duplicates, "read_image", reading)
    return paths


def test_a_second_call_reads_no_image_until_a_file_changes(items, dataset, tmp_path, monkeypatch):
    copies = lesion_items(shutil.copytree(dataset, tmp_path / "data"))[:6]
    readings = count_readings(monkeypatch)
    first = assign_folds(copies, folds=2, cache_dir=tmp_path / "cache")
    assert len(readings) == 6
    assert assign_folds(copies, folds=2, cache_dir=tmp_path / "cache") == first
    assert len(readings) == 6
    os.utime(copies[0]["label"], ns=(1, 1))
    assign_folds(copies, folds=2, cache_dir=tmp_path / "cache")
    assert len(readings) == 12


@pytest.mark.parametrize("damage", [b"", b"garbage", "half", "flipped"])
def test_a_damaged_cache_is_replaced_with_a_word(items, tmp_path, caplog, damage):
    first = assign_folds(items[:6], folds=2, cache_dir=tmp_path)
    (file,) = tmp_path.iterdir()
    good = file.read_bytes()
    if damage == "half":
        damage = good[: len(good) // 2]
    if damage == "flipped":
        damage = good.replace(np.array([1, 2], "<i8").tobytes(), np.array([7, 7], "<i8").tobytes(), 1)
        assert damage != good
    file.write_bytes(damage)
    with caplog.at_level(logging.WARNING):
        assert assign_folds(items[:6], folds=2, cache_dir=tmp_path) == first
    assert "is damaged" in caplog.text
    assert file.read_bytes() == good


def test_a_cache_that_cannot_be_written_is_warned_about_and_done_without(items, tmp_path):
    (tmp_path / "file").touch()
    with pytest.warns(UserWarning, match="cannot keep what the images are like in .*file"):
        assigned = assign_folds(items[:6], folds=2, cache_dir=tmp_path / "file")
    assert assigned == assign_folds(items[:6], folds=2, cache_dir=tmp_path / "good")


def test_the_environment_names_the_cache(items, tmp_path, monkeypatch):
    monkeypatch.setenv("MONAI_EXT_CACHE", str(tmp_path / "named"))
    assign_folds(items[:6], folds=2)
    assert len(list((tmp_path / "named").iterdir())) == 1


@pytest.mark.skipif(not os.environ.get("MONAI_EXT_DATA"), reason="set MONAI_EXT_DATA to the folder that holds isic/")
def test_near_duplicates_of_isic_2017_are_found_and_nothing_else(tmp_path):
    items = lesion_items(Path(os.environ["MONAI_EXT_DATA"]) / "isic")
    groups: dict[str, list[str]] = {}
    for item, group in zip(items, duplicate_groups(items, cache_dir=tmp_path), strict=True):
        groups.setdefault(group, []).append(item["id"].removeprefix("ISIC_"))
    # Every pair was looked at: each shows one lesion twice, re-saved, re-coloured or photographed again.
    assert sorted(group for group in groups.values() if len(group) > 1) == [
        pair.split("/")
        for pair in (
            "0000164/0014795 0000165/0014788 0000177/0014657 0000204/0014748 0000205/0014742 0000206/0014739 "
            "0000222/0014846 0000223/0014818 0000224/0014791 0000225/0014778 0000229/0014771 0012290/0013594 "
            "0012672/0012673 0012756/0013184"
        ).split()
    ]
    assert Counter(assign_folds(items, cache_dir=tmp_path)) == dict.fromkeys(range(5), 400)
