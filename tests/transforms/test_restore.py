"""Predictions resized to the picture as it was read."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from monai_ext.data import DecodeImaged
from monai_ext.transforms import RestoreSized


def test_restoring_gives_the_original_size_and_keeps_probabilities_in_range():
    data = {"pred": torch.rand(1, 8, 8), "original_size": torch.tensor([30, 5])}
    restored = RestoreSized("pred")(data)["pred"]
    assert restored.shape == (1, 30, 5) and restored.min() >= 0 and restored.max() <= 1


def test_restoring_undoes_the_resize_of_a_smooth_map(tmp_path):
    ramp = np.tile(np.linspace(0, 255, 64, dtype=np.uint8), (48, 1))
    Image.fromarray(ramp).convert("RGB").save(tmp_path / "ramp.png")
    decoded = DecodeImaged([24, 32])({"image": tmp_path / "ramp.png"})
    data = {"pred": decoded["image"][:1].float(), "original_size": decoded["original_size"]}
    restored = RestoreSized("pred")(data)["pred"][0].numpy()
    assert np.abs(restored - ramp)[:, 2:-2].max() < 2


def test_maps_of_a_region_come_to_their_place_among_zeros():
    data = {"pred": torch.ones(1, 2, 3), "original_size": (5, 8), "roi": (1, 4, 2, 3)}
    restored = RestoreSized("pred")(data)["pred"]
    expected = torch.zeros(1, 5, 8)
    expected[:, 1:3, 4:7] = 1
    assert torch.equal(restored, expected)


def test_maps_keep_their_type_and_those_of_the_right_size_their_values():
    maps = torch.rand(2, 4, 6, dtype=torch.float64)
    assert RestoreSized("pred")({"pred": maps, "original_size": (4, 6)})["pred"] is maps
    assert RestoreSized("pred")({"pred": maps.half(), "original_size": (8, 6)})["pred"].dtype == torch.float16


def test_volumes_go_back_by_their_affines():
    maps = torch.rand(1, 2, 3, 4)
    affine, original = np.eye(4), np.diag([-1.0, 1, 1, 1])  # mirrored: voxel i of one is voxel 1 - i of the other
    original[0, 3] = 1
    data = {"pred": maps, "original_size": (2, 3, 4), "affine": affine, "original_affine": original}
    assert torch.equal(RestoreSized("pred")(data)["pred"], maps.flip(1))
    assert RestoreSized("pred")({"pred": maps, "original_size": (4, 3, 2)})["pred"].shape == (1, 4, 3, 2)
