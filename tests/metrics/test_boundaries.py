"""Distances between boundaries: by hand, against plain loops, MONAI's metrics and the surface-distance package."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice
from reference_boundaries import hd95_and_assd

from monai_ext.metrics import boundary_scores

CASES = [((15, 12), None), ((15, 12), (0.5, 2.0)), ((7, 8, 5), (1.0, 0.7, 3.0))]


def _pair(size: tuple[int, ...], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two blobs that overlap, at the border of the image too."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.stack(torch.meshgrid(*(torch.arange(side).float() for side in size), indexing="ij"))
    masks = []
    for _ in range(2):
        centre = torch.rand(len(size), generator=generator) * (torch.tensor(size) - 1)
        distance = (places - centre[(..., *[None] * len(size))]).square().sum(0).sqrt()
        masks.append((distance + torch.rand(size, generator=generator)) < min(size) / 2)
    return masks[0][None, None], masks[1][None, None]


def test_a_square_moved_by_two_pixels_has_the_scores_computed_by_hand():
    mask = torch.zeros(1, 1, 9, 9, dtype=torch.uint8)
    mask[..., 2:5, 2:5] = 1
    scores = boundary_scores(mask, mask.roll(2, -1), spacing=(1.0, 0.5), tolerance=0.5)
    # columns 2 3 4 and 4 5 6, half a unit each: of eight boundary pixels three lie on the other square, the nearest
    # pixel of the centre column's two is 0.5 away, that of the far column's three is 1 away
    assert scores["assd"].item() == pytest.approx((3 * 0 + 2 * 0.5 + 3 * 1) / 8)
    assert scores["hd95"].item() == 1
    assert 0 < scores["surface_dice"].item() < 1
    assert boundary_scores(mask, mask.roll(2, -1), spacing=(1.0, 0.5), tolerance=1.0)["surface_dice"].item() == 1


@pytest.mark.parametrize(("size", "spacing"), CASES)
def test_distances_are_those_of_plain_loops_and_of_monai(size, spacing):
    for seed in range(3):
        a, b = _pair(size, seed)
        scores = boundary_scores(a, b, spacing=spacing, tolerance=1.1)
        hd95, assd = hd95_and_assd(a[0, 0].numpy(), b[0, 0].numpy(), spacing or (1.0,) * len(size))
        assert scores["hd95"].item() == pytest.approx(hd95, abs=1e-6)
        assert scores["assd"].item() == pytest.approx(assd, abs=1e-6)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of MONAI about its own arguments
            options = {"include_background": True, "spacing": spacing}
            theirs = {
                "hd95": compute_hausdorff_distance(a, b, percentile=95, **options),
                "assd": compute_average_surface_distance(a, b, symmetric=True, **options),
                "surface_dice": compute_surface_dice(a, b, [1.1], use_subvoxels=True, **options),
            }
        for name, value in theirs.items():
            assert scores[name].item() == pytest.approx(value.item(), abs=1e-5), name


@pytest.mark.parametrize(("size", "spacing"), CASES)
def test_surface_dice_is_that_of_the_package_of_its_authors(size, spacing):
    package = pytest.importorskip("surface_distance")
    steps = spacing or (1.0,) * len(size)
    for seed in range(3):
        a, b = _pair(size, seed)
        found = package.compute_surface_distances(a[0, 0].numpy(), b[0, 0].numpy(), spacing_mm=steps)
        expected = package.compute_surface_dice_at_tolerance(found, 1.1)
        ours = boundary_scores(a, b, spacing=spacing, tolerance=1.1)["surface_dice"].item()
        assert ours == pytest.approx(expected, abs=1e-6)


def test_empty_masks_agree_with_empty_ones_and_lie_a_diagonal_from_others():
    masks = torch.zeros(1, 3, 6, 8, dtype=torch.bool)
    masks[0, 2, 1:3, 1:3] = True
    scores = boundary_scores(masks[:, [0, 0, 2]], masks[:, [1, 2, 0]], spacing=(1.0, 1.0))
    assert scores["hd95"].tolist() == scores["assd"].tolist() == [[0, 10, 10]]
    assert scores["surface_dice"].tolist() == [[1, 0, 0]]
    assert math.hypot(6, 8) == 10


def test_scores_do_not_depend_on_the_order_or_on_the_batch():
    pairs = [_pair((9, 11), seed) for seed in range(3)]
    a, b = (torch.cat(masks) for masks in zip(*pairs, strict=True))
    together, turned = boundary_scores(a, b), boundary_scores(b, a)
    for name, values in together.items():
        torch.testing.assert_close(values, turned[name])
        each = torch.cat([boundary_scores(*pair)[name] for pair in pairs])
        torch.testing.assert_close(values, each)


@pytest.mark.parametrize("spacing", [(1.0,), (1.0, 0.0), (1.0, np.nan)])
def test_a_spacing_that_does_not_fit_is_named(spacing):
    with pytest.raises(ValueError, match="must be 2 positive numbers"):
        boundary_scores(torch.ones(1, 1, 3, 3), torch.ones(1, 1, 3, 3), spacing=spacing)
