"""Points inside of masks, and their maps."""

from __future__ import annotations

import math

import pytest
import torch

from monai_ext.formulas.clicks import central_click, click_maps, consensus_and_union, random_click


@pytest.mark.parametrize("size", [(7, 9), (5, 6, 4)])
def test_a_map_is_a_gaussian_about_the_nearest_point(size):
    points = torch.rand(2, 3, len(size)) * 5
    points[1, 0] = torch.nan
    maps = click_maps(points, size, sigma=1.5)
    for case in range(2):
        for place in torch.cartesian_prod(*(torch.arange(side) for side in size)).tolist():
            distances = [math.dist(place, point) for point in points[case].tolist() if not math.isnan(point[0])]
            assert maps[(case, *place)] == pytest.approx(math.exp(-(min(distances) ** 2) / 4.5), abs=1e-6)
    for none in (torch.full((1, 1, 2), torch.nan), torch.empty(1, 0, 2)):
        assert not click_maps(none, (3, 3)).any()


@pytest.mark.parametrize("size", [(4, 5), (3, 4, 2)])
def test_every_pixel_of_a_mask_is_drawn_equally_often(size):
    mask = torch.rand(1, *size) > 0.6
    mask.view(-1)[[0, -1]] = True
    count = int(mask.sum())
    uniform = (torch.arange(4 * count) + 0.5) / (4 * count)
    drawn = random_click(mask.expand(4 * count, *size), uniform).long().tolist()
    assert [drawn[4 * place] for place in range(count)] == mask[0].nonzero().tolist()
    assert all(drawn.count(point) == 4 for point in mask[0].nonzero().tolist())
    assert random_click(torch.zeros(1, *size, dtype=torch.bool), torch.tensor([0.3])).isnan().all()


def test_the_central_click_lies_inside_of_a_ring():
    ring = torch.zeros(2, 9, 9, dtype=torch.bool)
    ring[0, 1:8, 1:8] = True
    ring[0, 3:6, 2:7] = False
    row, column = central_click(ring)[0].long().tolist()
    assert ring[0, row, column] and math.dist((row, column), (4, 4)) == 2
    assert central_click(ring)[1].isnan().all()


def test_consensus_is_half_of_those_present_and_the_union_where_there_is_none():
    masks = torch.tensor([[[1, 1, 0, 0]], [[1, 0, 0, 0]], [[1, 1, 1, 1]]])[None, :, :] > 0  # (1, 3, 1, 4)
    consensus, union = consensus_and_union(masks, torch.tensor([[True, True, False]]))
    assert consensus.tolist() == [[[True, True, False, False]]] and union.tolist() == consensus.tolist()
    far = torch.eye(4, dtype=torch.bool)[:3, None][None]
    assert consensus_and_union(far, torch.ones(1, 3))[0].tolist() == [[[True, True, True, False]]]
    structures = torch.cat([masks, ~masks], dim=1)[:, [0, 3, 1, 4]]  # (R, K) = (2, 2), rater by rater
    assert consensus_and_union(structures, torch.ones(1, 2, 2))[0].all()
