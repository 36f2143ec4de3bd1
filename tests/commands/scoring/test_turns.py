"""Predictions whose axes were mixed up on the way."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_ext.commands.scoring.turns import TURNS, better_turn, turned_dice
from monai_ext.data.raters.cases import RaterCase


def case(predicted, truth):
    masks = torch.from_numpy(truth).byte()[None].repeat(2, 1, 1)
    probability = None if predicted is None else torch.from_numpy(np.ascontiguousarray(predicted)).float()
    return RaterCase(masks, torch.ones(2, dtype=torch.bool), probability, None, None, None)


def blob(seed, size=(24, 24)):
    rows, columns = np.indices(size)
    centre = np.random.default_rng(seed).uniform(3, 8, 2)
    return (((rows - centre[0]) / 5) ** 2 + ((columns - centre[1]) / 3) ** 2 < 1).astype(np.uint8)


UNDO = {
    1: lambda mask: mask[::-1], 2: lambda mask: mask[:, ::-1], 3: lambda mask: mask[::-1, ::-1], 4: lambda mask: mask.T,
    5: lambda mask: np.rot90(mask, -1), 6: np.rot90, 7: lambda mask: mask.T[::-1, ::-1],
}  # fmt: skip


@pytest.mark.parametrize("turn", UNDO)
def test_each_turn_is_found(turn):
    dice = [turned_dice(case(UNDO[turn](blob(seed)), blob(seed))) for seed in range(5)]
    assert all(row[turn] == 1 for row in dice)
    assert f"fit far better {TURNS[turn]} (mean Dice 1.000 with the majority) than as given" in better_turn(dice)
    assert "in 5 of 5 cases" in better_turn(dice)


def test_good_predictions_few_cases_and_empty_masks_say_nothing():
    truth = [blob(seed) for seed in range(5)]
    assert better_turn([turned_dice(case(mask, mask)) for mask in truth]) is None
    wrong = [turned_dice(case(mask.T, mask)) for mask in truth]
    assert better_turn(wrong[:2]) is None and better_turn(wrong) is not None
    assert np.isnan(turned_dice(case(np.zeros((4, 4)), np.ones((4, 4))))).all()
    assert np.isnan(turned_dice(case(None, np.ones((4, 4))))).all()


def test_turns_that_change_the_shape_are_left_out():
    dice = turned_dice(case(blob(0, (20, 30)), blob(0, (20, 30))))
    assert dice[0] == 1 and np.isnan(dice[4:7]).all() and np.isfinite(dice[:4]).all()
