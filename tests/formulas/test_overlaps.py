from __future__ import annotations

from itertools import product

import pytest
import torch

from monai_ext.formulas import overlaps
from monai_ext.formulas.overlaps import (
    dice_of_counts,
    iou_of_counts,
    overlap_counts,
    pair_totals,
    pixel_blocks,
    soft_jaccard_distances,
)


def random_masks(batch: int, count: int, seed: int = 0, size=(5, 6)) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    common = torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(99))
    return (common + 0.6 * torch.rand(batch, count, *size, generator=generator) > 0.8).to(torch.uint8)


def test_counts_are_exact_over_many_blocks_in_any_mask_type(monkeypatch):
    masks = random_masks(2, 5, size=(37, 41))
    flat = masks.flatten(2).long()
    expected = torch.einsum("bip,bjp->bij", flat, flat).double()
    for block in (2**21, 1000, 7):
        monkeypatch.setattr(overlaps, "BLOCK_ELEMENTS", block)
        for given in (masks, masks.bool(), masks.long(), masks * 255):
            assert overlap_counts(given[:, :2], given[:, 2:]).equal(expected)


def test_autocast_does_not_round_the_counts():
    masks = torch.ones(1, 2, 31, 33, dtype=torch.uint8)  # 1023 has no bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert overlap_counts(masks).unique().tolist() == [1023]


def test_overlap_scores_of_hand_computed_counts():
    both, total = torch.tensor([0, 0, 2, 3]), torch.tensor([0, 4, 6, 6])
    assert dice_of_counts(both, total).tolist() == pytest.approx([1, 0, 2 / 3, 1])
    assert iou_of_counts(both, total).tolist() == pytest.approx([1, 0, 1 / 2, 1])
    assert dice_of_counts(torch.tensor(torch.nan), torch.tensor(2.0)).isnan()


def test_totals_of_pairs_are_the_sums_of_their_sizes():
    counts = torch.tensor([[[3.0, 1.0], [1.0, 2.0]]])
    assert pair_totals(counts).tolist() == [[[6, 5], [5, 4]]]


def test_blocks_cover_all_pixels_once_and_stay_below_the_limit():
    blocks = list(pixel_blocks(10 * overlaps.BLOCK_ELEMENTS + 3, rows=4))
    assert blocks[0].start == 0 and blocks[-1].stop >= 10 * overlaps.BLOCK_ELEMENTS + 3
    assert all(a.stop == b.start for a, b in zip(blocks, blocks[1:], strict=False))
    assert all(4 * (block.stop - block.start) <= overlaps.BLOCK_ELEMENTS == 2**21 for block in blocks)
    assert list(pixel_blocks(2, rows=2**40)) == [slice(0, 1), slice(1, 2)]


def test_the_soft_jaccard_distance_is_that_of_masks_between_0_and_1_and_of_sums_between():
    first, second = torch.rand(2, 3, 20), torch.rand(2, 4, 20)
    second[0, 1] = first[0, 2]
    found = soft_jaccard_distances(first, second)
    for b, n, m in product(range(2), range(3), range(4)):
        pairs = list(zip(first[b, n].tolist(), second[b, m].tolist(), strict=True))
        expected = 1 - sum(min(pair) for pair in pairs) / sum(max(pair) for pair in pairs)
        assert found[b, n, m].item() == pytest.approx(expected, abs=1e-6)
    assert found[0, 2, 1] == 0
    masks = (first > 0.5).float()
    counts = overlap_counts(masks > 0)
    torch.testing.assert_close(
        soft_jaccard_distances(masks, masks).double(), 1 - iou_of_counts(counts, pair_totals(counts))
    )


def test_two_empty_maps_are_alike_without_harm_to_gradients():
    empty = torch.zeros(1, 1, 5, requires_grad=True)
    value = soft_jaccard_distances(empty, torch.zeros(1, 1, 5)).sum()
    value.backward()
    assert value == 0 and empty.grad.isfinite().all()
