from __future__ import annotations

import pytest
import torch

from monai_ext.formulas.regions import paste_region, region_of_interest


@pytest.mark.parametrize("size", [(1, 1), (7, 10), (128, 96)])
@pytest.mark.parametrize("zoom", [1.0, 1.5, 3.0, 50.0])
@pytest.mark.parametrize("centre", [None, (0, 0), (500, 3.5)])
def test_a_region_lies_inside_of_its_image(size, zoom, centre):
    top, left, height, width = region_of_interest(size, zoom, centre)
    assert 0 <= top and 0 <= left and height >= 1 and width >= 1
    assert top + height <= size[0] and left + width <= size[1]
    if zoom == 1:
        assert (top, left, height, width) == (0, 0, *size)


def test_a_map_of_the_regions_own_size_is_pasted_exactly():
    image = torch.rand(2, 3, 9, 8)
    top, left, height, width = region = region_of_interest((9, 8), 2.0, (3, 5))
    pasted = paste_region(image[..., top : top + height, left : left + width], region, (9, 8))
    inside = torch.zeros(9, 8, dtype=torch.bool)
    inside[top : top + height, left : left + width] = True
    assert torch.equal(pasted, image * inside)


def test_a_map_of_another_size_keeps_its_place_and_its_range():
    maps = torch.zeros(1, 8, 8)
    maps[:, :, 4:] = 1  # the right half
    pasted = paste_region(maps, (2, 4, 4, 4), (8, 12))
    assert pasted.shape == (1, 8, 12) and pasted.min() == 0 and pasted.max() == 1
    expected = torch.zeros(8, 12, dtype=torch.bool)
    expected[2:6, 6:8] = True
    assert torch.equal(pasted[0] > 0.5, expected)
