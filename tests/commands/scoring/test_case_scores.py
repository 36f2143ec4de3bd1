"""Scores of one case, computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scored_folders import A, B, scored, write, write_masks

from monai_ext.commands.scoring.case_scores import MAP_SCORES, map_scores, rater_case_scores
from monai_ext.data.raters.cases import RaterCase


@pytest.mark.parametrize("name", ["task01.nii.gz", "task1.nii", "TASK01.png"])
def test_a_probability_map_has_the_scores_computed_by_hand(folders, name):
    truth, predictions, case = folders
    values = np.array(B, dtype=np.float32)
    write(case / name, (255 * values).astype(np.uint8) if name.endswith("png") else values)
    means, _, content = scored(predictions, truth)
    assert means["qubiq_score"] == pytest.approx(22 / 27)  # five levels at Dice 2/3, four at 1
    assert means["dice_consensus"] == pytest.approx(2 / 3)  # the majority of two is A
    assert means["dice_each_rater"] == pytest.approx((2 / 3 + 1) / 2)
    assert means["jaccard_each_rater"] == pytest.approx((1 / 2 + 1) / 2)
    assert means["brier"] == means["ece"] == pytest.approx(1 / 8)
    assert means["brier_consensus"] == pytest.approx(1 / 16)
    assert means["confidence"] == 1
    assert set(means) == set(MAP_SCORES)
    assert content["tasks"][0]["set"] is None


def test_a_strict_map_of_one_half_is_no_mask(folders):
    truth, predictions, case = folders
    write(case / "task01.nii.gz", np.full((1, 4), 0.5))
    assert scored(predictions, truth)[0]["dice_consensus"] == pytest.approx(2 / 3)  # four pixels, the majority two
    assert scored(predictions, truth, strict=True)[0]["dice_consensus"] == 0


def test_samples_have_the_scores_computed_by_hand_and_their_number_can_be_limited(folders):
    truth, predictions, case = folders
    write_masks(case, {1: A, 2: [[0, 0, 0, 1]]}, kind="sample")
    means, human, content = scored(predictions, truth)
    # d(S, Y) = 0, 1/2, 1, 1, within samples (V) 1/2, within raters 1/4
    assert means["generalized_energy_distance"] == pytest.approx(2 * 5 / 8 - 1 / 2 - 1 / 4)
    assert means["hungarian_iou"] == means["dice_match"] == means["sample_diversity"] == pytest.approx(1 / 2)
    assert means["dice_max"] == pytest.approx((1 + 2 / 3) / 2)
    assert content["tasks"][0]["map"] == "mean of 2 samples" and "dice_heads" not in means
    first, human, content = scored(predictions, truth, samples=1)
    assert first["generalized_energy_distance"] == pytest.approx(2 * 1 / 4 - 1 / 4)
    assert human["generalized_energy_distance"] == pytest.approx(1 / 2 * (1 + 1 / 2))
    assert content["tasks"][0]["predicted"]["samples"] == [1]
    unbiased, human, _ = scored(predictions, truth, estimator="U")
    assert unbiased["generalized_energy_distance"] == pytest.approx(2 * 5 / 8 - 1 - 1 / 2)
    assert human["generalized_energy_distance"] == 0 and human["sample_diversity"] == pytest.approx(1 / 2)


def test_a_map_given_as_masks_scores_as_their_mean():
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(2, 3, 5, 4, generator=generator) < 0.5
    samples = torch.rand(2, 4, 5, 4, generator=generator) < 0.5
    by_votes, by_mean = map_scores(samples, masks), map_scores(samples.double().mean(1), masks)
    for name in MAP_SCORES:
        torch.testing.assert_close(by_votes[name].double(), by_mean[name].double(), rtol=1e-6, atol=1e-7, msg=name)


def test_a_case_without_raters_has_no_score_with_them():
    masks = torch.zeros(2, 3, 2, 2, dtype=torch.uint8)
    scores = map_scores(torch.rand(2, 2, 2), masks, presence=torch.tensor([[True] * 3, [False] * 3]))
    assert {name for name, values in scores.items() if not values[1].isnan()} == {"confidence"}
    assert not scores["dice_consensus"][0].isnan() and not scores["jaccard_consensus"][0].isnan()


def test_heads_are_paired_by_number_whatever_their_order():
    masks = torch.tensor([A, B], dtype=torch.uint8)
    case = RaterCase(masks, torch.tensor([True, True]), None, masks[[1, 0]], None, None)
    found = rater_case_scores(case, raters=[7, 3], heads=[3, 7], set_size=2)
    assert found.scores["dice_rater03"] == found.scores["dice_rater07"] == 1
    assert found.heads == pytest.approx(np.array([[2 / 3, 1], [1, 2 / 3]]))
