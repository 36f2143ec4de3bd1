"""Volumes whose slices stay slices are warped slice by slice, to the same voxels."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from random_images import generator, volumes

from benchmarks.measure import CountOperations
from monai_ext.transforms import BatchAugment, RandomAffine, RandomElastic, RandomFlip, RandomQuarterTurn
from monai_ext.transforms.augmentations import Augmentation

SLICEWISE = [
    RandomFlip(), RandomQuarterTurn(0.5), RandomAffine((0, 0, 180), ((0.8, 1.2), (0.9, 1.1), (0.7, 1.4)), translate=0.1)
]  # fmt: skip


@pytest.mark.parametrize("padding_mode", ["reflection", "border", "zeros"])
@pytest.mark.parametrize("settings", [{}, {"spatial_size": (10, 20, 7)}, {"inner_size": (9, 10, 6)}], ids=str)
@pytest.mark.parametrize("parts", [SLICEWISE, [RandomFlip(), RandomAffine((0, 0, 45))]], ids=["scaled", "whole"])
def test_slice_by_slice_volumes_are_warped_as_at_once(parts: list, settings: dict, padding_mode: str) -> None:
    batch = {"image": volumes(16, 14, 8, count=4), "label": volumes(16, 14, 8, count=4) > 127}
    batch["affine"] = torch.diag(torch.tensor([0.5, 0.7, 3.0, 1.0], dtype=torch.float64)).expand(4, 4, 4)
    augment = BatchAugment(parts, spatial_dims=3, opencv=False, padding_mode=padding_mode, **settings)
    parameters = augment.draw(4, generator())
    assert parameters.slicewise and parameters.split(2)[1].slicewise
    assert parameters.whole_slices == (parts is not SLICEWISE)
    fast, exact = (
        augment.apply(batch, each) for each in (parameters, replace(parameters, slicewise=False, whole_slices=False))
    )
    assert fast["image"].is_contiguous()
    torch.testing.assert_close(fast["image"], exact["image"], atol=2e-4, rtol=0)
    assert (fast["label"] != exact["label"]).float().mean() < 0.01


@pytest.mark.parametrize("part", [RandomAffine((0, 1, 180)), RandomAffine(10), RandomElastic(0.03)])
def test_what_moves_between_slices_is_warped_at_once(part: Augmentation) -> None:
    assert not BatchAugment([part], spatial_dims=3).draw(3, generator()).slicewise
    assert not BatchAugment([RandomAffine(10)]).draw(3, generator()).slicewise


def test_operations_of_volumes_slice_by_slice_do_not_depend_on_the_batch() -> None:
    augment = BatchAugment(SLICEWISE, spatial_dims=3, opencv=False)
    names = []
    for count in (2, 5, 2):
        batch, parameters = {"image": volumes(8, 8, 4, count=count)}, augment.draw(count, generator())
        with CountOperations() as counted:
            augment.apply(batch, parameters)
        names.append(counted.names)
    assert names[1] == names[2] and len(names[1]) <= 40 and not counted.waiting
