"""Weights of tiles by place, kind and size."""

from __future__ import annotations

import pytest
import torch

from monai_ext.data import DeviceDataset, tile_weights

TILES = [("town", "roofs", 8)] * 3 + [("shore", "water", 8)] + [("village", "roofs", 4)] * 2


def tiles(rows=TILES) -> DeviceDataset:
    items = [{"side": side, "place": place, "kind": kind} for place, kind, side in rows]
    return DeviceDataset(items, lambda item: {"image": torch.zeros(3, item["side"], item["side"])}, progress=False)


def test_neutral_powers_have_no_weights_so_that_each_tile_is_drawn_once_an_epoch():
    assert tile_weights(tiles()) is None


def test_all_places_are_drawn_alike_with_a_power_of_0_and_by_their_roots_with_a_half():
    assert tile_weights(tiles(), place_power=0).tolist() == pytest.approx([1 / 3] * 3 + [1] + [1 / 2] * 2)
    assert tile_weights(tiles(), place_power=0.5).tolist() == pytest.approx([3**-0.5] * 3 + [1] + [2**-0.5] * 2)


def test_sizes_come_first_then_places_then_kinds():
    weights = tile_weights(tiles(), size_power=0.5, place_power=0, kind_power=0)
    # 3 x 1, 1 and 2 x (1/4) ** 0.5 = 1 become a place each with weight 1; then roofs 2 and water 1 become 1 each
    assert weights.tolist() == pytest.approx([1 / 6] * 3 + [1] + [1 / 4] * 2)
    assert tile_weights(tiles(), size_power=1).tolist() == [1, 1, 1, 1, 0.25, 0.25]


def test_missing_kinds_and_negative_powers_are_refused():
    with pytest.raises(ValueError, match="tile 1 has no kind: add the column kind"):
        tile_weights(tiles([("town", "roofs", 8), ("town", None, 8)]), kind_power=0.5)
    with pytest.raises(ValueError, match="place_power=-1"):
        tile_weights(tiles(), place_power=-1)
