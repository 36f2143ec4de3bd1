"""Gaps and distances of images in levels, by hand and by other libraries."""

from __future__ import annotations

import math

import pytest
import torch
from many_hr import DEGRADATION, MATRIX, noise, smooth

from monai_ext.data.many_hr.measures import fitted_psnr, low_res_gaps, observed, operator_matrix
from monai_ext.transforms.degradation import Degradation


def test_the_matrix_is_the_operator_also_with_blur():
    for degradation in (DEGRADATION, Degradation(2, blur=1.0)):
        matrix = operator_matrix(degradation, 32)
        image = noise(2, 3, 32, 32) / 255.0
        assert torch.allclose(matrix @ image.double() @ matrix.T, degradation.reduce(image.double()), atol=1e-12)
        assert torch.allclose(matrix.sum(1), torch.ones(len(matrix), dtype=torch.float64))
    with pytest.raises(ValueError, match="size 30 is no multiple of the scale 4: choose 28"):
        operator_matrix(DEGRADATION, 30)


def test_an_observed_image_is_what_the_degradation_writes_into_8_bits():
    image = noise(3, 64, 64)
    written = Degradation(4, levels=255)(image[None].double() / 255)[0] * 255
    assert torch.equal(observed(MATRIX, image).double(), written.round())


def test_gaps_of_constant_images_are_what_a_pencil_says():
    high_res = torch.stack([torch.full((1, 64, 64), value, dtype=torch.uint8) for value in (10, 13)])
    low_res = torch.full((1, 16, 16), 10, dtype=torch.uint8)
    equal, other = low_res_gaps(MATRIX, high_res, low_res)
    assert equal.largest == pytest.approx(0, abs=1e-9) and equal.psnr == 100 and equal.differing == 0
    assert other.largest == pytest.approx(3) and other.differing == 256
    assert other.psnr == pytest.approx(20 * math.log10(255 / 3))


def test_a_change_of_light_is_fitted_and_a_change_of_scene_is_not():
    image = smooth(1)[0]
    brighter = (image * 0.8 + 30).to(torch.uint8)
    low_res = observed(MATRIX, image)
    light, scene = fitted_psnr(MATRIX, torch.stack([brighter, smooth(1, seed=5)[0]]), low_res)
    assert low_res_gaps(MATRIX, brighter[None], low_res)[0].psnr < 40 < light and scene < 25
