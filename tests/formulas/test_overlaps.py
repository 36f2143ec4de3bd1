from __future__ import annotations

import pytest
import torch

from monai_ext.formulas import overlaps
from monai_ext.formulas.overlaps import dice_of_counts, iou_of_counts, overlap_counts, pair_totals, pixel_blocks


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
