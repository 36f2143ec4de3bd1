"""The search for patches that agree, and mosaics of them."""

from __future__ import annotations

import pytest
import torch
from many_hr import DEGRADATION, MATRIX, smooth

from monai_ext.data.many_hr.measures import observed
from monai_ext.data.many_hr.search import BLOCK, Donors, PatchLibrary, _smallest


def library(windows, groups=None, places=None, **options):
    chosen = {"patch": 8, "patches": 500, "candidates": 5, "seed": 0} | options
    groups = list(range(len(windows))) if groups is None else groups
    return PatchLibrary(windows, groups, places or [0] * len(windows), degradation=DEGRADATION, matrix=MATRIX, **chosen)


@pytest.mark.parametrize("count", [1, 5, 70])
def test_the_smallest_of_a_row_are_found_without_sorting_it_whole(count):
    values = torch.randn(6, 5 * BLOCK, generator=torch.Generator().manual_seed(count))
    values[0, : 3 * BLOCK] = torch.inf
    values[1] = values[1].sort().values  # all of them in one block, or in few
    smallest, place = _smallest(values, count)
    assert torch.equal(smallest, values.sort(1).values[:, :count]) and torch.equal(values.gather(1, place), smallest)


def test_where_fewer_patches_are_allowed_than_asked_for_the_rest_is_infinitely_far():
    own = library(smooth(3), groups=[0, 0, 1], patches=4, candidates=4)
    matches = own.matches(observed(MATRIX, smooth(3)[0]), group=0, place=0)
    allowed = int((own.tile == 2).sum())
    assert 0 < allowed < 4 and (matches.distance.isfinite().sum(1) == allowed).all() and matches.index.max() < 4


def test_the_nearest_patch_is_found_where_it_was_put():
    windows = smooth(6)
    windows[4] = windows[1]  # the same ground in another group
    own = library(windows, patch=4, patches=40_000, candidates=3)
    matches = own.matches(observed(MATRIX, windows[1]), group=1, place=0)
    inner = torch.zeros(7, 7, dtype=torch.bool)
    inner[1:-1, 1:-1] = True  # patches at the border of a window are not borrowed
    nearest = own.tile[matches.index[:, 0]]
    assert (nearest[inner.flatten()] == 4).all() and matches.distance[inner.flatten(), 0].max() < 1e-3
    assert (matches.distance.diff(dim=1) >= 0).all()
    assert not (own.tile[matches.index] == 1).any()


def test_the_own_place_is_preferred_unless_another_agrees_much_better():
    windows = smooth(6)
    windows[4] = windows[2] = windows[1]
    windows[3] = windows[5] = windows[1] // 2 + 64
    low_res = observed(MATRIX, windows[1])
    options = {"places": [0, 0, 1, 1, 0, 0], "patch": 4, "patches": 40_000, "candidates": 40}
    for groups, found in (([0, 1, 2, 3, 4, 5], 4), ([0, 1, 2, 3, 1, 5], 2)):
        own = library(windows, groups, **options)
        matches = own.matches(low_res, group=1, place=0)
        assert (own.tile[matches.index[24]] == found).all()  # of 7 x 7 patches that in the middle


def test_distances_are_of_all_pixels_in_levels_and_light_counts_a_third():
    own = library(smooth(3), candidates=4)
    low_res = observed(MATRIX, smooth(1, seed=9)[0])
    matches = own.matches(low_res, group=99, place=0)
    for patch, rank in ((0, 0), (4, 2), (8, 3)):
        number = int(matches.index[patch, rank])
        tile, top, left = (int(own.tile[number]), int(own.top[number]), int(own.left[number]))
        row, column = (own.starts[part] for part in divmod(patch, len(own.starts)))
        there = own.low[tile, :, top : top + 8, left : left + 8].float()
        difference = there - low_res[:, row : row + 8, column : column + 8].float()
        light = difference.mean((1, 2), keepdim=True)
        expected = (difference - light).square().mean() + (light / 3).square().mean()
        assert matches.distance[patch, rank].item() == pytest.approx(expected.sqrt().item(), 1e-4)


def test_drawn_donors_are_replayed_keep_off_the_own_group_and_tell_their_distance():
    own = library(smooth(5), groups=[0, 0, 1, 2, 3])
    low_res = observed(MATRIX, smooth(5)[0])
    matches = own.matches(low_res, group=0, place=0)
    draws = [
        own.draw(matches, low_res, group=0, limit=30.0, generator=torch.Generator().manual_seed(seed))
        for seed in (3, 3, 4)
    ]
    assert all(torch.equal(one, other) for one, other in zip(draws[0], draws[1], strict=True))
    assert not torch.equal(draws[0].tile, draws[2].tile)
    assert (draws[0].tile >= 2).all()
    exact = own._distance(own._queries(low_res), (draws[0].tile, draws[0].top, draws[0].left))
    assert torch.allclose(draws[0].distance, exact, atol=1e-3)


def test_a_mosaic_of_the_image_itself_is_the_image():
    windows = smooth(3)
    own = library(windows)
    starts = torch.tensor(own.starts)
    top, left = (grid.flatten() for grid in torch.meshgrid(starts, starts, indexing="ij"))
    donors = Donors(torch.full_like(top, 2), top, left, torch.zeros(len(top)))
    pictures = own.pictures(donors, observed(MATRIX, windows[2]))
    mosaic = own.mosaic(pictures, torch.ones(len(top)))
    assert torch.allclose(mosaic[:3], windows[2].float(), atol=1e-3)
    assert torch.allclose(mosaic[3], torch.ones(64, 64)) and own.mosaic(torch.zeros(len(top))).max() == 0
    hidden = DEGRADATION.null_space(windows[2:].double() / 255)[0] * 255
    assert (own.mosaic(own.details(donors)) - hidden).abs().max() <= 0.5 + 1e-3


def test_borrowed_pictures_take_the_light_of_the_image():
    windows = smooth(3)
    windows[1] = windows[0] - 20
    own = library(windows)
    starts = torch.tensor(own.starts)
    top, left = (grid.flatten() for grid in torch.meshgrid(starts, starts, indexing="ij"))
    low_res = observed(MATRIX, windows[0])
    donors = Donors(torch.ones_like(top), top, left, torch.zeros(len(top)))
    assert torch.allclose(own.mosaic(own.pictures(donors, low_res)), windows[0].float(), atol=0.1)
    distance = own._distance(own._queries(low_res), (donors.tile, top, left))
    assert torch.allclose(distance, torch.tensor(20 / 3), atol=0.1)


def test_a_library_needs_two_grounds_and_an_even_patch():
    with pytest.raises(ValueError, match="at least two of different ground"):
        library(smooth(2), groups=[1, 1])
    with pytest.raises(ValueError, match="patch=7 must be an even number whose half divides 16"):
        library(smooth(2), patch=7)
