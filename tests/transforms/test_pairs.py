"""Pairs for super-resolution: crops of tiles and their degradation."""

from __future__ import annotations

import pytest
import torch

from monai_ext.transforms import RandomFlip, RandomQuarterTurn
from monai_ext.transforms.degradation import Degradation
from monai_ext.transforms.pairs import PairedCrops, ToUnitRanged, take_crops

SCALE = 2


def test_crops_are_windows_of_their_tiles_from_the_first_corner_to_the_last():
    tiles = torch.arange(2 * 3 * 5 * 7, dtype=torch.int32).view(2, 3, 5, 7)
    first, last = take_crops(tiles, torch.tensor([[0.0, 0.0], [0.9999999, 0.9999999]]), 4)
    assert torch.equal(first, tiles[0, :, :4, :4])
    assert torch.equal(last, tiles[1, :, 1:, 3:])


def test_every_place_of_a_crop_has_the_same_share_of_the_corners():
    tiles = torch.arange(2 * 5 * 7, dtype=torch.int32).view(2, 1, 5, 7)  # 2 places of 4 rows, 4 of 4 columns
    first, second = take_crops(tiles, torch.tensor([[0.49, 0.74], [0.51, 0.76]]), 4)
    assert torch.equal(first, tiles[0, :, :4, 2:6])
    assert torch.equal(second, tiles[1, :, 1:, 3:])


def test_crops_of_16_bits_are_exact():
    tiles = torch.tensor([0, 1, 40000, 65535], dtype=torch.uint16).view(1, 1, 2, 2)
    assert torch.equal(take_crops(tiles, torch.tensor([[0.0, 0.6]]), 1).view(-1), tiles[0, 0, 0, 1:])


def test_a_tile_smaller_than_the_crop_is_refused_with_both_sizes():
    with pytest.raises(ValueError, match="5 x 7 pixels are smaller than crop_size=6"):
        take_crops(torch.zeros(1, 1, 5, 7), torch.zeros(1, 2), 6)


def test_a_pair_is_a_turned_crop_and_its_degradation():
    degradation = Degradation(SCALE, levels=255)
    pairs = PairedCrops(degradation, [RandomFlip(), RandomQuarterTurn()], crop_size=4)
    tile = torch.arange(49, dtype=torch.uint8).view(1, 1, 7, 7)
    for seed in range(8):
        pair = pairs({"image": tile, "id": ["a"]}, torch.Generator().manual_seed(seed))
        assert pair["id"] == ["a"]
        torch.testing.assert_close(pair["image"], degradation(pair["label"]), rtol=0, atol=0)
        crop = (pair["label"] * 255).round()[0, 0]
        corner = int(crop.min())
        window = tile[0, 0, corner // 7 : corner // 7 + 4, corner % 7 : corner % 7 + 4].float()
        turned = [torch.rot90(w, k) for w in (window, window.flip(0)) for k in range(4)]
        assert any(torch.equal(crop, other) for other in turned)


def test_pairs_depend_on_the_place_in_the_epoch_and_not_on_the_size_of_batches():
    pairs = PairedCrops(Degradation(SCALE), [RandomFlip()], crop_size=4)
    tiles = torch.randint(256, (6, 3, 9, 9), dtype=torch.uint8)
    whole = pairs.apply({"image": tiles}, pairs.draw(6, torch.Generator().manual_seed(4)))["label"]
    parts = pairs.draw(6, torch.Generator().manual_seed(4)).split(2)
    pieces = [pairs.apply({"image": tiles[2 * i : 2 * i + 2]}, part)["label"] for i, part in enumerate(parts)]
    assert torch.equal(whole, torch.cat(pieces))


def test_noise_of_whole_tiles_is_the_same_in_every_epoch_and_differs_among_batches():
    pairs = PairedCrops(Degradation(SCALE, noise=0.1))
    tiles = torch.full((4, 1, 8, 8), 128, dtype=torch.uint8)
    epochs = [pairs.draw(4, torch.Generator().manual_seed(seed)).split(2) for seed in (0, 1)]
    (a, b), (c, _) = ([pairs.apply({"image": tiles[:2]}, part)["image"] for part in parts] for parts in epochs)
    assert torch.equal(a, c) and not torch.equal(a, b)


def test_a_crop_that_is_no_multiple_of_the_scale_is_refused():
    with pytest.raises(ValueError, match="crop_size=10 must be a multiple of the scale, 4"):
        PairedCrops(Degradation(4), crop_size=10)


@pytest.mark.parametrize(("dtype", "levels"), [(torch.uint8, 255), (torch.uint16, 65535)])
def test_pixels_become_shares_of_the_largest_value_of_their_type(dtype, levels):
    item = ToUnitRanged()({"image": torch.tensor([0, 255, levels], dtype=torch.int32).to(dtype), "id": "a"})
    torch.testing.assert_close(item["image"], torch.tensor([0, 255 / levels, 1.0]))
    assert item["levels"] == levels and item["id"] == "a"


def test_other_types_have_no_unit_range():
    with pytest.raises(ValueError, match="torch.int32: expected uint8 or uint16"):
        ToUnitRanged()({"image": torch.zeros(1, dtype=torch.int32)})
