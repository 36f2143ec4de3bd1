"""A threshold that rises where the outline is uncertain."""

from __future__ import annotations

import math

import pytest
import torch

from monai_ext.transforms import AdaptiveThresholdd


def disc(width: float, *, radius: float = 12, top: float = 6.0, size: int = 64) -> torch.Tensor:
    """Probabilities (1, H, W) of a disc whose logit falls from `top` by 1 in `width` pixels around the radius."""
    row, column = torch.meshgrid(*2 * [torch.arange(size) - (size - 1) / 2], indexing="ij")
    return ((radius - torch.hypot(row, column)) / width).clamp(-8, top).sigmoid()[None]


def area(maps: torch.Tensor) -> int:
    return int((maps > 0.5).sum())


def test_a_sharp_outline_stays_bit_by_bit_and_a_blurred_one_shrinks():
    sharp, blurred = disc(0.3), disc(4)
    assert torch.equal(AdaptiveThresholdd("pred")({"pred": sharp})["pred"], sharp)
    found = AdaptiveThresholdd("pred")({"pred": blurred})["pred"]
    assert found.shape == blurred.shape and found.dtype == blurred.dtype
    assert 0 < area(found) < 0.8 * area(blurred)
    assert torch.equal(found.flatten().argsort(stable=True), blurred.flatten().argsort(stable=True))  # ranks stay


def test_the_shift_is_the_formula_worked_out_by_hand():
    # 40 pixels above -1, of these 30 above 0 and 10 above 1
    logits = torch.tensor(10 * [3.0] + 20 * [0.5] + 10 * [-0.5] + 60 * [-4.0])
    assert AdaptiveThresholdd("x", gain=1, tolerance=0.2, at_most=9).shift(logits) == pytest.approx(math.log(4) - 0.2)
    assert AdaptiveThresholdd("x", gain=1, tolerance=0.2, at_most=0.7).shift(logits) == 0.7
    assert AdaptiveThresholdd("x", gain=9, tolerance=0.2, at_most=9).shift(logits) == 1.5  # half of the largest
    assert AdaptiveThresholdd("x", gain=1, tolerance=2, at_most=9).shift(logits) == 0
    # at threshold 0.75 the middle is log 3 = 1.0986: 30 above 0.0986, 10 above 2.0986, and 3 - 1.0986 are left
    higher = AdaptiveThresholdd("x", threshold=0.75, gain=1, tolerance=0, at_most=9).shift(logits)
    assert higher == pytest.approx(min(math.log(3), (3 - math.log(3)) / 2))
    maps = logits.sigmoid().view(1, 10, 10)
    shifted = AdaptiveThresholdd("pred", gain=1, tolerance=0.2)({"pred": maps})["pred"]
    assert torch.allclose(shifted.logit(), (logits - math.log(4) + 0.2).view(1, 10, 10), atol=1e-4)


def test_no_object_vanishes_and_an_empty_map_stays_empty():
    for top in (0.05, 0.5, 0.9, 2.0):  # nothing, or little, is above logit 1
        faint = disc(6, top=top)
        found = AdaptiveThresholdd("pred", gain=100)({"pred": faint})["pred"]
        assert 0 < area(found) <= area(faint)
    for empty in (torch.zeros(1, 4, 4), torch.full((1, 4, 4), 0.5)):
        assert torch.equal(AdaptiveThresholdd("pred")({"pred": empty})["pred"], empty)


def test_probabilities_of_nought_and_one_stay_finite():
    extreme = torch.tensor([[[0.0, 1.0, 0.6, 0.6, 0.6, 0.6, 0.3, 0.3]]])
    found = AdaptiveThresholdd("pred")({"pred": extreme})["pred"]
    assert found.isfinite().all() and area(found) == 1
    half = AdaptiveThresholdd("pred")({"pred": extreme.half()})["pred"]
    assert half.dtype == torch.float16 and area(half) == 1


def test_each_channel_has_a_threshold_of_its_own_and_other_keys_stay():
    maps = torch.cat([disc(0.3), disc(4)])
    item = {"pred": maps, "label": maps}
    found = AdaptiveThresholdd("pred")(item)
    assert torch.equal(found["pred"][0], maps[0]) and not torch.equal(found["pred"][1], maps[1])
    assert found["label"] is maps and item["pred"] is maps
    assert AdaptiveThresholdd("pred", enabled="false")(item)["pred"] is maps


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="threshold=1 must lie between 0 and 1"):
        AdaptiveThresholdd("pred", threshold=1)
    with pytest.raises(ValueError, match="tolerance=-0.1"):
        AdaptiveThresholdd("pred", tolerance=-0.1)
    with pytest.raises(ValueError, match=r"'pred' must be a map \(C, H, W\), not of shape \(4, 4\)"):
        AdaptiveThresholdd("pred")({"pred": torch.zeros(4, 4)})
