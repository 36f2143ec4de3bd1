"""Parameters of an augmentation: compiled, split over batches."""

from __future__ import annotations

import pytest
import torch

from monai_ext.transforms.parameters import compile_parameters


def test_parameters_of_batches_are_consecutive_views() -> None:
    whole = compile_parameters(5, {"rotate": torch.arange(5.0)[:, None], "gamma": torch.arange(1.0, 6)})
    parts = whole.split(2)
    assert len(whole) == 5 and [len(part) for part in parts] == [2, 2, 1]
    assert [part.values["rotate"].flatten().tolist() for part in parts] == [[0, 1], [2, 3], [4]]
    assert torch.equal(torch.cat([part.tensors["matrix"] for part in parts]), whole.tensors["matrix"])
    assert parts[1].tensors["gamma"].data_ptr() == whole.tensors["gamma"][2:].data_ptr()
    assert [len(part) for part in whole.split([1, 4])] == [1, 4]
    assert [len(part) for part in compile_parameters(3, {}).split(2)] == [2, 1]  # nothing random, yet counted


def test_neutral_values_are_the_identity() -> None:
    values = {
        "flip": torch.zeros(1, 2, dtype=torch.bool), "rot90": torch.zeros(1, dtype=torch.long),
        "rotate": torch.zeros(1, 1), "scale": torch.ones(1), "shear": torch.zeros(1, 2), "translate": torch.zeros(1, 2),
        "brightness": torch.ones(1), "contrast": torch.ones(1), "saturation": torch.ones(1), "hue": torch.zeros(1),
        "blur": torch.zeros(1),
    }  # fmt: skip
    tensors = compile_parameters(1, values, blur_radius=2).tensors
    torch.testing.assert_close(tensors["matrix"], torch.eye(2, 3)[None])
    torch.testing.assert_close(tensors["linear"], torch.eye(3)[None])
    assert not tensors["pivot"].any() and tensors["blur"].tolist() == [[0, 0, 1, 0, 0]]


def test_only_flips_and_turns_are_moved_by_index() -> None:
    turn = {"rot90": torch.tensor([1])}
    assert "dihedral" in compile_parameters(1, turn).tensors
    assert "dihedral" not in compile_parameters(1, turn | {"scale": torch.ones(1)}).tensors
    assert "dihedral" not in compile_parameters(1, turn | {"elastic": torch.zeros(1, 2, 4, 4)}).tensors
    assert compile_parameters(2, {"gamma": torch.ones(2)}).tensors.keys() == {"gamma"}


def test_kernels_of_given_blurs_reach_three_deviations() -> None:
    assert compile_parameters(2, {"blur": torch.tensor([0.1, 1.4])}).tensors["blur"].shape == (2, 2 * 5 + 1)
    assert compile_parameters(1, {"blur": torch.tensor([0.0])}).tensors["blur"].shape == (1, 3)


def test_values_need_a_row_for_each_image() -> None:
    with pytest.raises(ValueError, match="values of rotate are not for 3 images: give one row for each"):
        compile_parameters(3, {"rotate": torch.zeros(2, 1), "gamma": torch.ones(3)})
