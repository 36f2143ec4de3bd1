"""Decoded items in groups of equal shapes."""

from __future__ import annotations

import pytest
import torch

from monai_ext.data.device.decoded_set import collect


def stream(sides):
    for position, side in enumerate(sides):
        yield position, f"item {position}", {"image": torch.full((1, side, side), position, dtype=torch.uint8)}


def test_items_of_one_shape_are_one_group_and_others_their_own():
    asked = []

    def place(estimate, held):
        asked.append((estimate, held))
        return torch.device("cpu")

    found = collect(stream([2, 2, 4, 2, 4]), 5, place)
    assert found.ids == [f"item {i}" for i in range(5)] and found.kept == [0, 1, 2, 3, 4]
    assert found.members == [[0, 1, 3], [2, 4]]
    assert [group["image"].shape for group in found.groups] == [(3, 1, 2, 2), (2, 1, 4, 4)]
    assert found.groups[1]["image"][:, 0, 0, 0].tolist() == [2, 4]
    assert found.nbytes == 3 * 4 + 2 * 16
    assert asked[0] == (5 * 4, 0) and asked[1] == (5 * (4 + 4 + 16) // 3, 4 + 4 + 16)  # larger items: asked again


def test_other_keys_than_those_of_the_first_item_are_refused():
    odd = [(0, "a", {"image": torch.zeros(1)}), (1, "b", {"mask": torch.zeros(1)})]
    with pytest.raises(ValueError, match=r"item 1 \(b\) has the keys \['mask'\]"):
        collect(odd, 2, lambda estimate, held: torch.device("cpu"))
