"""Every score of several structures against loops over structures, on cells with a nucleus inside."""

from __future__ import annotations

import numpy as np
import pytest
import reference_raters as slow
import reference_structures as reference
import torch

from monai_ext import metrics
from monai_ext.formulas.structures import joint_structures, per_structure
from monai_ext.phantoms.raters import RATER_STYLES, draw_nested_case

CASES, RATERS = 2, 3


def nested(dims: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Masks (B, R, K, ...), presence (B, R, K), samples (B, M, K, ...) and a map (B, K, ...), of cells cut out."""
    masks = torch.stack(
        [draw_nested_case((32, 36), seed=(5, i), styles=RATER_STYLES[:RATERS])[1] for i in range(CASES)]
    )
    others = torch.stack([draw_nested_case((32, 36), seed=(5, i), styles=RATER_STYLES[2:])[1] for i in range(CASES)])
    masks, samples = masks[..., 6:26, 8:28], others[..., 6:26, 8:28]
    if dims == 3:
        masks, samples = (torch.stack([m, m.roll(1, -1), m.roll(2, -2)], dim=-1) for m in (masks, samples))
    presence = torch.ones(CASES, RATERS, 2, dtype=torch.bool)
    presence[0, 1, 1] = False  # who left the nucleus out
    noise = torch.rand(masks[:, 0].shape, generator=torch.Generator().manual_seed(1))
    return masks, presence, samples, 0.7 * samples.float().mean(1) + 0.3 * noise


OF_MAPS = {
    "qubiq_score": slow.qubiq,
    "dice_soft": lambda p, m: slow.qubiq(p, m, tenths=(1, 3, 5, 7, 9), strict=True),
    "expected_calibration_error": lambda p, m: np.mean([slow.calibration_errors(p, y, 15)["ece"] for y in m]),
    "average_calibration_error": lambda p, m: np.mean([slow.calibration_errors(p, y, 15)["ace"] for y in m]),
    "maximum_calibration_error": lambda p, m: np.mean([slow.calibration_errors(p, y, 15)["mce"] for y in m]),
    "brier_score": lambda p, m: np.mean([slow.calibration_errors(p, y, 15)["brier"] for y in m]),
    "uncertainty_ncc": lambda p, m: np.corrcoef(p.ravel().astype(float), (m.mean(0) * (1 - m.mean(0))).ravel())[0, 1],
}
OF_SETS = {
    "generalized_energy_distance": slow.energy_distance,
    "hungarian_iou": slow.hungarian_iou,
    "dice_match": slow.dice_match,
    "dice_max": slow.dice_max,
}
OF_RATERS = {"rater_agreement": slow.agreement, "sample_diversity": lambda m: slow.mean_distance(m, m)}


def agrees(name: str, definition, *predictions: torch.Tensor, dims: int = 2) -> None:
    masks, presence, *_ = nested(dims)
    fast = per_structure(getattr(metrics, name), *predictions, masks, structures=2, presence=presence)
    assert fast.shape == (CASES, 2)
    for b in range(CASES):
        arrays = [tensor[b].numpy() for tensor in (*predictions, masks)]
        expected = reference.each_structure(definition, *arrays, presence=presence[b].numpy())
        assert fast[b].tolist() == pytest.approx(expected, abs=1e-6), name


@pytest.mark.parametrize("name", OF_MAPS)
def test_scores_of_a_map_are_those_of_each_structure(name):
    agrees(name, OF_MAPS[name], nested()[3])


@pytest.mark.parametrize("name", OF_SETS)
def test_scores_of_sets_are_those_of_each_structure(name):
    agrees(name, OF_SETS[name], nested()[2])


@pytest.mark.parametrize("name", OF_RATERS)
def test_scores_of_raters_are_those_of_each_structure(name):
    agrees(name, OF_RATERS[name])


def test_volumes_of_several_structures_are_scored_as_well():
    agrees("qubiq_score", slow.qubiq, nested(3)[3], dims=3)
    agrees("dice_max", slow.dice_max, nested(3)[2], dims=3)


def test_dice_of_the_own_rater_is_of_each_structure():
    masks, presence, samples, _ = nested()
    heads = samples[:, :RATERS]
    fast = per_structure(metrics.dice_per_rater, heads, masks, structures=2, presence=presence)
    assert fast.shape == (CASES, 2, RATERS) and fast[0, 1, 1].isnan()
    for b, k, r in np.ndindex(CASES, 2, RATERS):
        if presence[b, r, k]:
            assert fast[b, k, r].item() == pytest.approx(slow.dice(heads[b, r, k].numpy(), masks[b, r, k].numpy()))


def test_the_joint_energy_distance_agrees_with_sets_of_structure_and_pixel():
    masks, presence, samples, _ = nested()
    terms = {"structures": 2, "presence": presence}
    fast = joint_structures(metrics.generalized_energy_distance, samples, masks, **terms)
    slowly = [reference.joint_energy_distance(*(t[b].numpy() for t in (samples, masks, presence))) for b in range(2)]
    assert fast.tolist() == pytest.approx(slowly)
    one = joint_structures(metrics.generalized_energy_distance, samples[:, :, :1], masks[:, :, :1], structures=1)
    assert torch.equal(one, metrics.generalized_energy_distance(samples[:, :, 0], masks[:, :, 0]))


def test_only_the_joint_energy_distance_sees_which_structures_belong_together():
    masks, *_ = nested()
    masks = masks[:, :2]
    crossed = torch.stack([masks[:, :, 0], masks[:, :, 1].flip(1)], dim=2)  # each cell with the other's nucleus
    for alone in (metrics.generalized_energy_distance, metrics.hungarian_iou):
        same = per_structure(alone, masks, masks, structures=2)
        assert torch.allclose(per_structure(alone, crossed, masks, structures=2), same)
    assert (joint_structures(metrics.generalized_energy_distance, crossed, masks, structures=2) > 0.01).all()
    assert (joint_structures(metrics.hungarian_iou, crossed, masks, structures=2) < 0.99).all()


def test_metrics_give_the_mean_over_structures_then_cases_and_one_for_each_structure():
    masks, presence, samples, probability = nested()
    of_structures = per_structure(metrics.qubiq_score, probability, masks, structures=2, presence=presence)
    metric = metrics.QubiqScore(structures=2)
    metric(probability, masks, presence=presence)
    assert metric.aggregate().item() == pytest.approx(of_structures.mean().item())
    torch.testing.assert_close(metric.means_per_structure(), of_structures.mean(0))
    dice = metrics.DicePerRater(structures=2, reduction="mean_batch")
    dice(list(samples[:, :RATERS].float()), [{"masks": m, "presence": p} for m, p in zip(masks, presence, strict=True)])
    expected = per_structure(metrics.dice_per_rater, samples[:, :RATERS], masks, structures=2, presence=presence)
    torch.testing.assert_close(dice.means_per_structure(), expected.nanmean(0))
    torch.testing.assert_close(dice.aggregate(), expected.nanmean(1).nanmean(0))
    sets = metrics.SetScores(structures=2)
    sets(samples.float(), masks, presence=presence)
    expected = per_structure(metrics.hungarian_iou, samples, masks, structures=2, presence=presence)
    torch.testing.assert_close(sets.means_per_structure()["hungarian_iou"], expected.mean(0))
    health = metrics.HeadHealth(structures=2)
    health(samples[:, :RATERS].float(), masks, presence=presence)
    assert health.aggregate()["hard_dice"].shape == (2, RATERS)


def test_an_axis_that_nobody_names_is_refused_instead_of_pooled():
    masks, _, samples, probability = nested()
    with pytest.raises(ValueError, match=r"may be a volume or 2 structures of an image: .* structures=2"):
        metrics.qubiq_score(probability, masks)
    with pytest.raises(ValueError, match="structures=2"):
        metrics.hungarian_iou(samples, masks)
    with pytest.raises(ValueError, match="several structures are scored by per_structure"):
        metrics.rater_agreement(nested(3)[0])
    with pytest.raises(ValueError, match=r"\(B, N, K, H, W\) .* with K = 3 structures"):
        per_structure(metrics.qubiq_score, probability, masks, structures=3)
    with pytest.raises(ValueError, match="give .B, K, .spatial., or .B, N, K"):
        per_structure(metrics.qubiq_score, probability[:, 0], masks, structures=2)
    with pytest.raises(ValueError, match="presence"):
        per_structure(metrics.rater_agreement, masks, structures=2, presence=torch.ones(2, 4))
    with pytest.raises(ValueError, match="build it with structures=K"):
        metrics.QubiqScore().means_per_structure()
    volume = masks[:, :, 0, :, :, None].expand(-1, -1, -1, -1, 2)  # few slices last: no doubt about it
    assert metrics.rater_agreement(volume).tolist() == pytest.approx(metrics.rater_agreement(masks[:, :, 0]).tolist())
