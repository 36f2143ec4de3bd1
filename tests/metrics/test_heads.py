from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from monai_ext.metrics.heads import HEAD_HEALTH, HeadHealth, head_health, head_sums, head_warnings


def random_case(batch: int, raters: int, seed: int = 0, size=(5, 6)) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(batch, raters, *size, generator=generator) > 0.6
    noise = torch.rand(batch, raters, *size, generator=generator)
    return 0.6 * masks + 0.4 * noise, masks


def heads_of(*kinds: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Heads for a mask of 4 of 100 pixels, each healthy or ill in its own way."""
    mask = torch.zeros(10, 10)
    mask[:2, :2] = 1
    made = {
        "healthy": 0.02 + 0.96 * mask,
        "stuck": 0.5 + 0.4 * mask,
        "dead": 0.01 * torch.ones(10, 10),
        "flooded": 0.6 * torch.ones(10, 10),
        "diverged": torch.full((10, 10), math.nan),
        "logits": 8 * mask - 4,
    }
    return torch.stack([made[kind] for kind in kinds])[None], mask.bool().expand(1, len(kinds), 10, 10)


def test_health_of_a_hand_computed_head():
    probability = torch.tensor([[[[0.9, 0.4, 0.6, 0.1]]]])
    masks = torch.tensor([[[[1, 1, 0, 0]]]])
    given = {name: value.item() for name, value in head_health(probability, masks).items()}
    assert tuple(given) == HEAD_HEALTH
    assert given["foreground_ratio"] == 1  # pixels 0 and 2 for two marked
    assert given["background_probability"] == pytest.approx(0.35)
    assert given["soft_dice"] == pytest.approx(2 * 1.3 / 4)
    assert given["hard_dice"] == pytest.approx(2 * 1 / 4)
    assert given["dice_gap"] == pytest.approx(0.65 - 0.5)


def test_health_is_pooled_over_cases_as_plain_numpy_does():
    probability, masks = random_case(4, 3)
    given = head_health(probability, masks)
    for r in range(3):
        p, y = probability[:, r].double().numpy().ravel(), masks[:, r].numpy().ravel()
        hard = p > 0.5
        soft_dice = 2 * (p * y).sum() / (p.sum() + y.sum())
        hard_dice = 2 * (hard & y).sum() / (hard.sum() + y.sum())
        expected = [hard.sum() / y.sum(), p[~y].mean(), soft_dice, hard_dice, soft_dice - hard_dice]
        np.testing.assert_allclose([given[name][r].item() for name in HEAD_HEALTH], expected, rtol=1e-6)


def test_a_stuck_background_shows_in_the_gap_while_its_hard_dice_is_perfect():
    health = head_health(*heads_of("healthy", "stuck"))
    assert health["hard_dice"].tolist() == [1, 1] and health["foreground_ratio"].tolist() == [1, 1]
    assert health["background_probability"].tolist() == pytest.approx([0.02, 0.5])
    assert health["dice_gap"][0] > -0.25 and health["dice_gap"][1] < -0.8


def test_each_illness_is_named_and_health_is_not():
    kinds = ("healthy", "stuck", "dead", "flooded", "diverged", "logits")
    sentences = head_warnings(head_health(*heads_of(*kinds)))
    named = {kind: [s for s in sentences if s.startswith(f"head {k} ")] for k, kind in enumerate(kinds)}
    assert named["healthy"] == []
    assert any("mean probability 0.50 on background" in s for s in named["stuck"])
    assert any("below its hard Dice" in s for s in named["stuck"])
    assert any("predicts 0.00 of its rater's foreground" in s for s in named["dead"])
    assert any("predicts 25.0 times its rater's foreground" in s for s in named["flooded"])
    for kind in ("diverged", "logits"):
        assert any("NaN or outside [0, 1]" in s for s in named[kind])


def test_limits_of_the_warnings_can_be_set():
    health = head_health(*heads_of("stuck"))
    assert head_warnings(health, background=0.6, gap=-1.0) == []


def test_metric_pools_over_batches_and_leaves_out_missing_raters():
    probability, masks = random_case(5, 3)
    presence = torch.ones(5, 3, dtype=torch.bool)
    presence[0, 1] = presence[3, 1] = False
    probability[0, 1] = math.nan
    metric = HeadHealth()
    metric(probability[:2], masks[:2], presence=presence[:2])
    metric(list(probability[2:]), list(masks[2:]), presence=list(presence[2:]))
    given, seen = metric.aggregate(), [1, 2, 4]
    for name in HEAD_HEALTH:
        expected = head_health(probability[seen, 1:2], masks[seen, 1:2])[name]
        assert given[name][1].item() == pytest.approx(expected.item())
        assert given[name][0].item() == pytest.approx(head_health(probability, masks)[name][0].item())
    metric.reset()
    with pytest.raises(ValueError, match="no case has been scored"):
        metric.aggregate()


def test_a_rater_missing_from_every_case_has_no_health_and_no_warning():
    probability, masks = random_case(2, 2)
    health = head_health(probability, masks, presence=torch.tensor([[True, False], [True, False]]))
    assert all(health[name].isnan().tolist() == [False, True] for name in HEAD_HEALTH)
    assert not [s for s in head_warnings(health) if s.startswith("head 1")]


def test_empty_masks_are_defined():
    masks = torch.zeros(1, 2, 4, 4, dtype=torch.bool)
    probability = torch.stack([torch.zeros(4, 4), torch.ones(4, 4)])[None]
    health = head_health(probability, masks)
    assert health["hard_dice"].tolist() == health["soft_dice"].tolist() == [1, 0]
    assert health["foreground_ratio"].isnan().tolist() == [True, False]
    assert health["foreground_ratio"][1].item() == math.inf
    assert health["background_probability"].tolist() == [0, 1]


def test_sums_are_counted_in_float64_from_half_precision():
    probability = torch.full((1, 1, 200, 200), 0.25, dtype=torch.float16)
    assert head_sums(probability, torch.ones(1, 1, 200, 200, dtype=torch.bool))[0, 0].tolist() == [
        4e4,
        1e4,
        1e4,
        0,
        0,
        4e4,
    ]


def test_wrong_arguments_are_explained():
    probability, masks = random_case(2, 3)
    with pytest.raises(
        ValueError, match=r"probability \(2, 1, 5, 6\) of torch.float32 must be floating with one head per"
    ):
        head_health(probability[:, :1], masks)
    with pytest.raises(ValueError, match="of torch.bool must be floating"):
        head_health(masks, masks)
