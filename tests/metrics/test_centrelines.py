"""clDice against hand-computed cases, and its place among the scores of an evaluation."""

from __future__ import annotations

import pytest
import torch

from monai_ext.handlers.raters.scores import MeanRaterScores, prediction_scores
from monai_ext.metrics import centreline_dice


def vessel(rows: slice, columns: slice, size: tuple[int, ...] = (9, 20)) -> torch.Tensor:
    mask = torch.zeros(1, 1, *size)
    mask[..., rows, columns] = 1
    return mask


def test_a_thin_and_a_wide_vessel_agree_though_their_dice_does_not():
    thin, wide = vessel(slice(4, 5), slice(0, 20)), vessel(slice(3, 6), slice(0, 20))
    # The skeleton of the wide one has 18 of its 19 pixels in the thin one; its end bends towards a corner.
    assert centreline_dice(thin, wide).item() == pytest.approx(36 / 37)
    assert centreline_dice(thin, vessel(slice(7, 8), slice(0, 20))).item() == 0


def test_a_missed_branch_counts_by_its_length():
    whole, part = vessel(slice(4, 5), slice(0, 20)), vessel(slice(4, 5), slice(0, 5))
    both = centreline_dice(torch.cat([whole, part], 1), torch.cat([part, whole, part], 1))
    expected = 2 * 1 * 0.25 / 1.25
    assert both[0].tolist() == [pytest.approx([expected, 1, expected]), pytest.approx([1, expected, 1])]


def test_empty_masks_are_defined_and_volumes_work():
    nothing, line = torch.zeros(1, 1, 5, 6, 7), vessel(slice(2, 3), slice(0, 6), (5, 6, 7))[..., :]
    line[..., 1:] = 0
    assert centreline_dice(nothing, nothing).item() == 1 and centreline_dice(nothing, line).item() == 0
    assert centreline_dice(line, line).item() == 1
    with pytest.raises(ValueError, match=r"first has the shape .* sizes must agree"):
        centreline_dice(nothing, line[..., :3])


@pytest.mark.parametrize("heads", [0, 3])
def test_an_evaluation_has_means_over_the_raters_who_are_present(heads):
    masks = torch.cat([vessel(slice(4, 5), slice(0, n)) for n in (20, 5, 10)], 1).byte()
    presence = torch.tensor([[True, True, False]])
    own = [masks] if heads else []
    predictions = torch.cat([masks[:, :1], *own, masks[:, :2]], 1).float()
    found = prediction_scores(predictions, masks, presence=presence, heads=heads, centrelines=True)
    pair = 2 * 0.25 / 1.25
    assert found["cldice"].item() == pytest.approx(1 if heads else (1 + pair) / 2)
    assert found["rater_cldice"].item() == pytest.approx(pair)
    assert "cldice" not in prediction_scores(predictions, masks, presence=presence, heads=heads)
    assert MeanRaterScores([1, 2, 3], centrelines="true").score.options["centrelines"] is True
