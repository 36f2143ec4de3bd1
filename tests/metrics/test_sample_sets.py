from __future__ import annotations

import math

import numpy as np
import pytest
import reference_uncertainty as reference
import torch

from monai_ext.formulas.likelihoods import sample_crps
from monai_ext.metrics.sample_sets import (
    SampleSetScores,
    best_of_samples,
    energy_score,
    mode_recall,
    ntire_diversity,
    sample_distance,
    sample_energy_distance,
    set_distances,
    set_precision_recall,
)
from monai_ext.transforms.degradation import Degradation


def grey(*values: float) -> torch.Tensor:
    """A set of plain images of these values, (1, n, 1, 2, 2): their distances are the differences of the values."""
    return torch.tensor(values).view(1, -1, 1, 1, 1).expand(1, -1, 1, 2, 2)


def sets(n: int, k: int, *, batch: int = 2, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(batch, count, 2, 5, 6, generator=generator) for count in (n, k))


def as_lists(images: torch.Tensor) -> list[np.ndarray]:
    return list(images.double().numpy())


def test_distances_of_hand_computed_images():
    assert set_distances(grey(0.0, 1.0), grey(0.25, 1.0))[0].tolist() == [[0.25, 1.0], [0.75, 0.0]]


def test_equal_images_are_at_distance_zero_exactly():
    samples, _ = sets(4, 1)
    assert (set_distances(samples, samples).diagonal(dim1=1, dim2=2) == 0).all()


def test_scores_of_hand_computed_sets():
    samples, targets = grey(0.0, 0.4), grey(0.1, 0.9)
    assert sample_distance(samples).item() == pytest.approx(0.4)
    assert best_of_samples(samples, targets)[0].tolist() == pytest.approx([0.1, 0.5])
    # distances 0.1 0.9 0.3 0.5, mean 0.45, less half of 0.4
    assert energy_score(samples, targets).item() == pytest.approx(0.25)
    # 2 * 0.45 - 0.4 / 2 - 0.8 / 2
    assert sample_energy_distance(samples, targets).item() == pytest.approx(0.3)
    assert mode_recall(samples, targets).item() == 0.5  # both are nearer to 0.1
    assert mode_recall(samples, targets, radius=0.05).item() == 0.0


def test_scores_equal_the_slow_references():
    samples, targets = sets(6, 5)
    targets = targets * 0.8
    quality = set_precision_recall(samples, targets, neighbours=2)
    for i in range(2):
        first, second = as_lists(samples[i]), as_lists(targets[i])
        assert energy_score(samples, targets)[i].item() == pytest.approx(reference.energy_score(first, second))
        assert sample_energy_distance(samples, targets)[i].item() == pytest.approx(
            reference.energy_distance(first, second)
        )
        assert ntire_diversity(samples, targets[:, 0])[i].item() == pytest.approx(
            reference.ntire_diversity(first, second[0])
        )
        precision, recall = reference.precision_recall(first, second, 2)
        assert (quality.precision[i].item(), quality.recall[i].item()) == (precision, recall)


def test_energy_score_prefers_samples_from_the_true_distribution():
    generator = torch.Generator().manual_seed(0)
    targets = torch.rand(200, 1, 1, 1, 1, generator=generator)
    honest = torch.rand(200, 16, 1, 1, 1, generator=generator)
    narrow, wide = 0.5 + 0.2 * (honest - 0.5), 0.5 + 3 * (honest - 0.5)
    scores = [energy_score(samples, targets).mean().item() for samples in (narrow, honest, wide)]
    assert scores[1] < min(scores[0], scores[2])


def test_energy_distance_is_zero_for_equal_sets_in_any_order_and_positive_for_others():
    samples, targets = sets(5, 5)
    assert sample_energy_distance(samples, samples.flip(1)).abs().max().item() < 1e-12
    assert (sample_energy_distance(samples, targets) > 0).all()


def test_a_network_of_one_answer_has_no_diversity_no_spread_and_covers_one_mode():
    _, targets = sets(1, 4)
    same = targets[:, :1].expand(-1, 10, -1, -1, -1) + 0.01
    assert (sample_distance(same) == 0).all()
    assert ntire_diversity(same, targets[:, 1]).abs().max().item() < 1e-9
    assert (mode_recall(same, targets) == 0.25).all()
    assert sample_distance(same[:, :1]).tolist() == [0, 0]
    torch.testing.assert_close(
        energy_score(same[:, :1], targets[:, 0]), torch.full((2,), 0.01).double(), atol=1e-7, rtol=0
    )


def test_draws_among_the_modes_cover_them_as_often_as_chance_has_it():
    generator = torch.Generator().manual_seed(0)
    modes = torch.rand(1, 8, 1, 4, 4, generator=generator).expand(40, -1, -1, -1, -1)
    chosen = torch.randint(8, (40, 8), generator=generator)
    noise = 0.01 * torch.randn(40, 8, 1, 4, 4, generator=generator)
    samples = modes.gather(1, chosen[..., None, None, None].expand(-1, -1, 1, 4, 4)) + noise
    expected = torch.tensor([len(set(row)) / 8 for row in chosen.tolist()])
    torch.testing.assert_close(mode_recall(samples, modes, radius=0.05), expected.double())
    assert mode_recall(samples, modes).mean().item() == pytest.approx(1 - (7 / 8) ** 8, abs=0.05)


def test_a_perfect_sample_leaves_no_diversity():
    samples, targets = sets(3, 1)
    target = targets[:, 0]
    assert (ntire_diversity(samples, target) > 0).all()
    samples[:, 1] = target
    assert ntire_diversity(samples, target).tolist() == [0, 0]


def test_precision_falls_with_samples_far_from_the_targets_and_recall_with_targets_left_out():
    near, far = grey(0.1, 0.2, 0.3, 0.4), grey(0.1, 0.2, 0.9, 5.0)
    both = set_precision_recall(near, near, neighbours=1)
    assert (both.precision.item(), both.recall.item()) == (1, 1)
    assert set_precision_recall(far, near, neighbours=1).precision.item() == 0.5
    assert set_precision_recall(near, far[:, :3], neighbours=1).recall.item() == pytest.approx(2 / 3)
    edge = set_precision_recall(grey(0.0, 2.0, 4.0), grey(0.0, 1.0), neighbours=1)  # 2: on the rim
    assert (edge.precision.item(), edge.recall.item()) == (pytest.approx(2 / 3), 1)


def test_the_metric_names_scores_by_what_is_known():
    samples, targets = sets(4, 3)
    one, many = SampleSetScores(), SampleSetScores()
    one(samples, targets[:, 0])
    many(samples, targets)
    alone = {"best_psnr", "sample_crps", "energy_score", "sample_distance", "diversity"}
    assert set(one.aggregate()) == alone
    assert set(many.aggregate()) == alone | {"energy_distance", "mode_recall", "precision", "recall"}
    torch.testing.assert_close(many.per_image()["best_psnr"], (-20 * best_of_samples(samples, targets).log10()).mean(1))
    crps = sample_crps(samples.double(), targets[:, 0].double()).flatten(1).mean(1)
    torch.testing.assert_close(one.per_image()["sample_crps"], crps)
    with pytest.raises(ValueError, match="score images of different kinds apart"):
        one(samples, targets)


def test_the_metric_caps_perfect_samples_and_finds_the_worst_consistency():
    degradation = Degradation(scale=2)
    high_res = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.25
    low_res = degradation.reduce(high_res)
    samples = torch.stack([high_res, high_res + 0.1], dim=1)
    scores = SampleSetScores(degradation=degradation, levels=None)
    scores(samples, high_res, low_res=low_res)
    values = scores.aggregate()
    assert values["best_psnr"] == 100 and values["lr_psnr_worst"] == pytest.approx(20, abs=1e-4)
    rounded = SampleSetScores(degradation=degradation)
    rounded(samples[:, :1], high_res, low_res=low_res)
    assert 50 < rounded.aggregate()["lr_psnr_worst"] < 100  # what rounding to 8 bits leaves
    eight_bits = rounded.aggregate()["lr_psnr_worst"]
    rounded.reset()
    rounded(samples[:, :1], high_res, low_res=low_res, levels=torch.tensor([65535]))  # of the tile's own file
    assert rounded.aggregate()["lr_psnr_worst"] > eight_bits + 30
    bright = torch.ones(1, 1, 8, 8)
    rounded.reset()
    rounded(bright[:, None] + 0.1, bright, low_res=degradation.reduce(bright))
    assert rounded.aggregate()["lr_psnr_worst"] == 100  # a file holds no more than 1


def test_errors_name_what_does_not_fit():
    samples, targets = sets(3, 2)
    with pytest.raises(ValueError, match=r"sets .* must be \(B, n, C, H, W\)"):
        set_distances(samples, targets[:, 0])
    with pytest.raises(ValueError, match=r"they must be \(B, n, C, H, W\) and"):
        ntire_diversity(samples, targets)
    with pytest.raises(ValueError, match="neighbours=2 must be at least 1, and below the 2 images"):
        set_precision_recall(samples, targets, neighbours=2)
    assert math.isnan(sample_distance(samples * math.nan)[0].item())


def test_the_metric_is_the_mean_of_its_formulae_over_targets_and_scores_each_case_by_itself():
    generator = torch.Generator().manual_seed(0)
    samples, targets = (torch.rand(2, count, 3, 16, 12, generator=generator) for count in (4, 3))
    operator = Degradation(4)
    low_res = operator.reduce(targets[:, 0])
    together, apart = SampleSetScores(degradation=operator), SampleSetScores(degradation=operator)
    together(samples, targets, low_res=low_res)
    for i in range(len(samples)):
        apart(samples[i : i + 1], targets[i : i + 1], low_res=low_res[i : i + 1])
    scores = together.per_image()
    for name, values in apart.per_image().items():
        torch.testing.assert_close(scores[name], values)
    wide, each_target = samples.double(), targets.double().unbind(1)
    expected = torch.stack([ntire_diversity(wide, target) for target in each_target]).mean(0)
    torch.testing.assert_close(scores["diversity"], expected)
    expected = torch.stack([sample_crps(wide, target).flatten(1).mean(1) for target in each_target]).mean(0)
    torch.testing.assert_close(scores["sample_crps"], expected)


def test_small_sets_have_neighbours_as_far_as_there_are_any():
    for count, neighbours in ((2, 1), (3, 2), (5, 3)):
        samples, targets = sets(count, count)
        metric = SampleSetScores()
        metric(samples, targets)
        quality = set_precision_recall(samples, targets, neighbours=neighbours)
        torch.testing.assert_close(metric.per_image()["precision"], quality.precision)
        torch.testing.assert_close(metric.per_image()["recall"], quality.recall)
    assert sample_distance(samples[:, :2]).tolist() == pytest.approx(
        set_distances(samples[:, :1], samples[:, 1:2]).flatten().tolist()
    )


def test_without_a_low_resolution_consistency_is_left_out():
    metric = SampleSetScores(degradation=Degradation(4))
    samples, targets = sets(4, 3)
    metric(samples, targets)
    assert "lr_psnr_worst" not in metric.aggregate()
