"""Grids of volumes: MONAI's own transforms as reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from monai.transforms import Orientation, Spacing, SpatialResample

from monai_ext.formulas.grids import anatomical_grid, resample, resize_volumes, resized_affine, spacing_of

# Rows run backwards, columns to the left, slices upwards, thick; tilted by 0.1.
TURNED = np.array([[0, -0.9, 0, 5], [0.7, 0, 0, -3], [0, 0, 2.5, 10], [0, 0, 0, 1.0]])
TILTED = np.array([[np.cos(0.1), -np.sin(0.1), 0, 0], [np.sin(0.1), np.cos(0.1), 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
AFFINE = TILTED @ TURNED


def noise(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def test_resampling_is_that_of_monais_orientation_and_spacing():
    volumes, spacing = noise(2, 20, 24, 9), (1.1, 0.8, 1.3)
    expected = Spacing(spacing)(Orientation("RAS", labels=None)(MetaTensor(volumes, affine=torch.from_numpy(AFFINE))))
    size, goal = anatomical_grid(volumes.shape[1:], AFFINE, spacing)
    assert size == expected.shape[1:] and spacing_of(goal) == pytest.approx(spacing)
    np.testing.assert_allclose(goal, expected.affine, atol=1e-12)
    result = resample(volumes, AFFINE, goal, size)
    torch.testing.assert_close(result, expected.as_tensor(), atol=1e-5, rtol=0)
    back = SpatialResample()(
        MetaTensor(result, affine=torch.from_numpy(goal)), torch.from_numpy(AFFINE), volumes.shape[1:]
    )
    torch.testing.assert_close(resample(result, goal, AFFINE, volumes.shape[1:]), back.as_tensor(), atol=1e-5, rtol=0)


def test_a_grid_of_the_same_spacing_only_moves_voxels():
    volumes = noise(3, 4, 5, 6)
    size, goal = anatomical_grid((4, 5, 6), TURNED, (0.9, 0.7, 2.5))
    assert torch.equal(resample(volumes, TURNED, goal, size), volumes.permute(0, 2, 1, 3).flip(1))
    assert torch.equal(resample(resample(volumes, TURNED, goal, size), goal, TURNED, (4, 5, 6)), volumes)
    assert torch.equal(resample(volumes[0], TURNED, goal, size), volumes[0].permute(1, 0, 2).flip(0))


def test_grids_at_an_angle_are_refused():
    with pytest.raises(ValueError, match="lie at an angle"):
        resample(noise(1, 4, 4, 4), TURNED, AFFINE, (4, 4, 4))


def test_volumes_are_resized_with_an_antialiasing_filter_and_keep_their_field_of_view():
    volumes = noise(2, 12, 10, 6)
    flat = resize_volumes(volumes, (6, 20, 6))
    expected = F.interpolate(volumes[..., 2][None], (6, 20), mode="bilinear", antialias=True)[0]
    torch.testing.assert_close(flat[..., 2], expected)
    larger = resize_volumes(volumes, (24, 20, 18))
    torch.testing.assert_close(larger, F.interpolate(volumes[None], (24, 20, 18), mode="trilinear")[0])
    corner = np.array([-0.5, -0.5, -0.5, 1])
    end, new_end = np.array([11.5, 9.5, 5.5, 1]), np.array([23.5, 19.5, 17.5, 1])
    resized = resized_affine(AFFINE, (12, 10, 6), (24, 20, 18))
    np.testing.assert_allclose(resized @ corner, AFFINE @ corner)
    np.testing.assert_allclose(resized @ new_end, AFFINE @ end)
