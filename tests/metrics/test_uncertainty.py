from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import reference_uncertainty as reference
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributions import Laplace, Normal

from monai_ext.formulas.likelihoods import (
    FAMILIES,
    family_of,
    gaussian_crps,
    gaussian_nll,
    interval_score,
    laplace_crps,
    laplace_nll,
    sample_crps,
)
from monai_ext.metrics.uncertainty import UNCERTAINTY_SCORES, UncertaintyScores
from monai_ext.metrics.uncertainty_tables import (
    ROUNDING_SD,
    UncertaintyTable,
    area_under_sparsification_error,
    binned_sparsification_error,
    expected_normalized_calibration_error,
    interval_quality,
    ratio_edges,
    reliability_curve,
    sparsification_curves,
    uncertainty_calibration_error,
    uncertainty_table,
)


def predictions(*shape: int, factor: float = 1.0, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mean, variance that is `factor`^2 too large, and a target with Gaussian errors; sd from 0.02 to 0.2."""
    generator = torch.Generator().manual_seed(seed)
    mean = 0.3 + 0.4 * torch.rand(shape, generator=generator, dtype=torch.float64)
    sd = 0.02 * 10 ** torch.rand(shape, generator=generator, dtype=torch.float64)
    target = mean + sd * torch.randn(shape, generator=generator, dtype=torch.float64)
    return mean, (factor * sd).square(), target


def pooled(table: UncertaintyTable) -> UncertaintyTable:
    return UncertaintyTable(*(part.sum(0) for part in table))


def test_likelihoods_equal_torch_distributions_of_that_variance():
    mean, variance, target = predictions(2, 3, 4, 5)
    torch.testing.assert_close(gaussian_nll(mean, variance, target), -Normal(mean, variance.sqrt()).log_prob(target))
    scale = (variance / 2).sqrt()
    torch.testing.assert_close(Laplace(mean, scale).variance, variance)
    torch.testing.assert_close(laplace_nll(mean, variance, target), -Laplace(mean, scale).log_prob(target))


@pytest.mark.parametrize(
    ("crps", "density"),
    [(gaussian_crps, reference.gaussian_density), (laplace_crps, reference.laplace_density)],
    ids=["gaussian", "laplace"],
)
def test_crps_equals_the_integral_of_its_definition(crps, density):
    for mean, variance, target in [(0.4, 0.01, 0.4), (0.4, 0.01, 0.65), (0.2, 0.09, 0.1)]:
        given = crps(*(torch.tensor(value, dtype=torch.float64) for value in (mean, variance, target)))
        assert given.item() == pytest.approx(reference.crps(density, mean, variance, target), abs=2e-4 * variance**0.5)


def test_crps_of_no_width_is_the_absolute_error():
    zero, target = torch.zeros(3), torch.tensor([0.0, 0.25, -0.5])
    for crps in (gaussian_crps, laplace_crps):
        assert crps(zero, zero, target).tolist() == [0.0, 0.25, 0.5]


@pytest.mark.parametrize("fair", [True, False])
def test_sample_crps_equals_the_double_loop(fair):
    generator = torch.Generator().manual_seed(0)
    samples, target = torch.rand(2, 7, 3, generator=generator).double(), torch.rand(2, 3, generator=generator).double()
    given = sample_crps(samples, target, fair=fair)
    for i, j in [(0, 0), (1, 2)]:
        expected = reference.sample_crps(samples[i, :, j].tolist(), target[i, j].item(), fair=fair)
        assert given[i, j].item() == pytest.approx(expected, abs=1e-12)


def test_sample_crps_of_many_draws_approaches_the_closed_form_and_one_draw_scores_its_distance():
    draws = Normal(0.4, 0.1).sample((1, 4000)).double()
    target = torch.tensor([0.55], dtype=torch.float64)
    closed = gaussian_crps(torch.tensor(0.4), torch.tensor(0.01), torch.tensor(0.55))
    assert sample_crps(draws, target).item() == pytest.approx(closed.item(), rel=0.05)
    assert sample_crps(torch.tensor([[0.3]]), torch.tensor([0.7])).item() == pytest.approx(0.4)


def test_half_widths_hold_the_share_they_are_asked_for():
    share = torch.tensor([0.5, 0.9, 0.99], dtype=torch.float64)
    z = FAMILIES["gaussian"].half_width(share)
    torch.testing.assert_close(Normal(0.0, 1.0).cdf(z) * 2 - 1, share)
    width = FAMILIES["laplace"].half_width(share)
    torch.testing.assert_close(Laplace(0.0, torch.tensor(0.5, dtype=torch.float64).sqrt()).cdf(width) * 2 - 1, share)


def test_the_interval_score_is_lowest_for_the_true_quantiles():
    target = torch.randn(20000, generator=torch.Generator().manual_seed(0))
    scores = [interval_score(-torch.tensor(z), torch.tensor(z), target, alpha=0.1).mean() for z in (1.2, 1.645, 2.2)]
    assert scores[1] < min(scores[0], scores[2])


def test_calibration_errors_of_a_hand_computed_case():
    # sd 0.1 where the errors are 0.1 and 0.3, sd 0.2 where they are both 0.2
    mean = torch.full((1, 1, 1, 4), 0.5)
    variance = torch.tensor([0.01, 0.01, 0.04, 0.04]).view(1, 1, 1, 4)
    target = mean + torch.tensor([0.1, -0.3, 0.2, -0.2]).view(1, 1, 1, 4)
    table = uncertainty_table(mean, variance, target)
    # mean squared errors 0.05 and 0.04: gaps 0.04 and 0
    assert uncertainty_calibration_error(table, groups=2).item() == pytest.approx(0.02, abs=1e-7)
    assert expected_normalized_calibration_error(table, groups=2).item() == pytest.approx(
        (math.sqrt(0.05) - 0.1) / 0.1 / 2, abs=1e-6
    )
    # one group: mean squared error 0.045, mean variance 0.025
    assert uncertainty_calibration_error(table, groups=1).item() == pytest.approx(0.02, abs=1e-7)


def test_calibration_errors_equal_the_slow_reference():
    mean, variance, target = predictions(1, 1, 60, 50, factor=0.7)
    table = uncertainty_table(mean, variance, target)
    v, e = variance.flatten().numpy(), (target - mean).square().flatten().numpy()
    # groups end at bins of the table, 1.2 % wide: a few values fall into the neighbour
    assert uncertainty_calibration_error(table, groups=10).item() == pytest.approx(reference.uce(v, e, 10), rel=0.02)
    given = expected_normalized_calibration_error(table, groups=10).item()
    assert given == pytest.approx(reference.ence(v, e, 10), rel=0.02)


def test_calibration_errors_vanish_for_the_true_variance_and_grow_with_a_wrong_one():
    errors = []
    for factor in (1.0, 1.5, 3.0):
        table = uncertainty_table(*predictions(1, 1, 300, 300, factor=factor))
        errors.append(
            (uncertainty_calibration_error(table).item(), expected_normalized_calibration_error(table).item())
        )
    assert errors[0][1] < 0.02 and errors[0] < errors[1] < errors[2]
    assert errors[1][1] == pytest.approx(1 / 3, abs=0.02)  # sd 1.5 times too large: |1 - 1.5| / 1.5


def test_binned_sparsification_error_equals_the_exact_one_and_the_slow_reference():
    mean, variance, target = predictions(2, 1, 40, 50)
    table = uncertainty_table(mean, variance, target)
    given = binned_sparsification_error(table, steps=100)
    for i in range(2):
        u, e = variance[i].flatten(), (target - mean)[i].flatten()
        assert given[i].item() == pytest.approx(reference.sparsification_error(u.numpy(), e.numpy(), 100), abs=5e-3)
        assert area_under_sparsification_error(u, e).item() == pytest.approx(
            reference.sparsification_error(u.numpy(), e.numpy(), 2000), abs=1e-10
        )


def test_a_perfect_order_has_no_sparsification_error_a_constant_one_stays_at_one_and_a_reversed_one_is_worst():
    error = torch.linspace(0.01, 0.5, 400).view(1, 1, 20, 20)
    zero = torch.zeros_like(error)
    orders = {"perfect": error.square(), "constant": zero + 0.01, "reversed": (0.6 - error).square()}
    curves = {name: sparsification_curves(uncertainty_table(zero, v, error)) for name, v in orders.items()}
    torch.testing.assert_close(curves["perfect"].by_uncertainty, curves["perfect"].oracle)
    torch.testing.assert_close(curves["constant"].by_uncertainty, torch.ones(1, 100, dtype=torch.float64))
    assert (curves["reversed"].by_uncertainty[0, 1:] > 1).all()
    assert curves["perfect"].oracle[0, 0] == 1 and curves["perfect"].oracle.diff().lt(0).all()


def test_no_error_at_all_is_no_sparsification_error():
    mean = torch.rand(1, 1, 8, 8)
    assert binned_sparsification_error(uncertainty_table(mean, mean, mean)).item() == 0
    assert area_under_sparsification_error(torch.rand(9), torch.zeros(9)).item() == 0


@pytest.mark.parametrize("place", [600, 900, 1200])
def test_interval_quality_at_an_edge_equals_the_loop_over_values(place):
    mean, variance, target = predictions(2, 3, 6, 7)
    multiplier = ratio_edges()[place].item()
    given = interval_quality(uncertainty_table(mean, variance, target), multiplier, alpha=0.2)
    for i, c in [(0, 0), (1, 2)]:
        values = zip(*(x[i, c].flatten().tolist() for x in (mean, variance.sqrt(), target)), strict=True)
        rows = [reference.interval(m, s, y, multiplier, 0.2) for m, s, y in values]
        for name, column in zip(("coverage", "width", "winkler"), zip(*rows, strict=True), strict=True):
            assert given[name][i, c].item() == pytest.approx(np.mean(column), abs=1e-12), name


def test_every_band_may_have_its_own_multiplier():
    table = pooled(uncertainty_table(*predictions(2, 3, 8, 8)))
    edges = ratio_edges()[[500, 1000, 1500]].tolist()
    together = interval_quality(table, edges, alpha=0.1)["coverage"]
    apart = [interval_quality(table, edge, alpha=0.1)["coverage"][c].item() for c, edge in enumerate(edges)]
    assert together.tolist() == apart and apart[0] < apart[2]
    with pytest.raises(ValueError, match="2 multipliers for 3 bands"):
        interval_quality(table, edges[:2], alpha=0.1)


def test_reliability_lies_on_the_diagonal_for_the_true_variance_and_below_for_one_too_small():
    nominal, found = reliability_curve(pooled(uncertainty_table(*predictions(1, 1, 300, 300))))
    torch.testing.assert_close(found, nominal, atol=0.01, rtol=0)
    below = reliability_curve(pooled(uncertainty_table(*predictions(1, 1, 300, 300, factor=0.5))))[1]
    assert (below < nominal - 0.005).all()
    assert below[9].item() == pytest.approx(math.erf(0.6745 * 0.5 / math.sqrt(2)), abs=0.01)  # level 0.5, z = 0.6745


def test_tables_of_batches_add_up():
    mean, variance, target = predictions(4, 2, 9, 9)
    whole = pooled(uncertainty_table(mean, variance, target))
    parts = [pooled(uncertainty_table(mean[i : i + 1], variance[i : i + 1], target[i : i + 1])) for i in range(4)]
    for all_, some in zip(whole, zip(*parts, strict=True), strict=True):
        torch.testing.assert_close(all_, torch.stack(some).sum(0))
    assert whole.deviations[:, 0].sum() == 4 * 2 * 81 and whole.ratios[..., 0].sum().item() == pytest.approx(4 * 2)


def test_channels_last_memory_does_not_change_the_table():
    mean, variance, target = predictions(2, 3, 5, 7)
    moved = [x.contiguous(memory_format=torch.channels_last) for x in (mean, variance, target)]
    assert all(map(torch.equal, uncertainty_table(mean, variance, target), uncertainty_table(*moved)))


def test_variances_of_nothing_or_less_have_intervals_as_wide_as_rounding():
    mean = torch.full((1, 1, 1, 2), 0.5)
    scores = UncertaintyScores()
    scores(mean, mean, variance=torch.tensor([[[[0.0, -1.0]]]]))
    values = {name: column.item() for name, column in scores.per_image().items()}
    assert values["width"] == pytest.approx(2 * 1.6448536 * ROUNDING_SD)
    assert (values["coverage"], values["sd"]) == (1, 0)


def test_a_nan_makes_the_errors_of_its_image_nan_and_lies_outside():
    mean, variance, target = predictions(2, 1, 4, 4)
    mean[1, 0, 0, 0] = math.nan
    table = uncertainty_table(mean, variance, target)
    for score in (uncertainty_calibration_error, expected_normalized_calibration_error, binned_sparsification_error):
        assert score(table).isnan().tolist() == [False, True]
    assert interval_quality(table, 900.0, alpha=0.1)["coverage"][1, 0].item() == pytest.approx(15 / 16)


def test_scores_of_images_are_means_of_their_formulae():
    mean, variance, target = predictions(3, 2, 8, 8)
    scores = UncertaintyScores(family="laplace", alpha=0.2)
    rows = scores(mean.float(), target.float(), variance=variance.float())
    assert rows.shape == (3, len(UNCERTAINTY_SCORES)) and tuple(scores.per_image()) == UNCERTAINTY_SCORES
    mean, target, variance = (x.float().double() for x in (mean, target, variance))
    half = family_of("laplace").half_width(torch.tensor(0.8).double()) * variance.sqrt()
    expected = {
        "rmse": (target - mean).square().flatten(1).mean(1).sqrt(),
        "sd": variance.flatten(1).mean(1).sqrt(),
        "nll": laplace_nll(mean, variance, target).flatten(1).mean(1),
        "crps": laplace_crps(mean, variance, target).flatten(1).mean(1),
        "coverage": ((target >= mean - half) & (target <= mean + half)).double().flatten(1).mean(1),
        "width": 2 * half.flatten(1).mean(1),
        "winkler": interval_score(mean - half, mean + half, target, alpha=0.2).flatten(1).mean(1),
        "ause": binned_sparsification_error(uncertainty_table(mean, variance, target)),
    }
    for name, values in scores.per_image().items():
        torch.testing.assert_close(values, expected[name], msg=name)


def test_aggregate_is_the_same_for_any_batches_and_memory_for_curves_does_not_grow():
    mean, variance, target = predictions(6, 1, 10, 10)
    together, apart = UncertaintyScores(), UncertaintyScores()
    together(mean, target, variance=variance)
    for i in range(6):
        apart(mean[i : i + 1], target[i : i + 1], variance=variance[i : i + 1])
        size = sum(part.numel() for part in apart.table())
    assert size == sum(part.numel() for part in together.table())
    assert together.aggregate() == pytest.approx(apart.aggregate(), rel=1e-9)
    assert set(together.aggregate()) == {*UNCERTAINTY_SCORES, "uce", "ence"}
    apart.reset()
    with pytest.raises(ValueError, match="no image has been scored"):
        apart.aggregate()


def _score_half(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    mean, variance, target = predictions(4, 1, 10, 10)
    own = slice(0, 3) if rank == 0 else slice(3, 4)
    scores = UncertaintyScores()
    scores(mean[own], target[own], variance=variance[own])
    torch.save(scores.aggregate(), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_score_as_one(tmp_path):
    method = "fork" if sys.platform == "linux" else "spawn"  # spawned processes import everything again
    mp.start_processes(_score_half, args=(str(tmp_path),), nprocs=2, start_method=method)
    mean, variance, target = predictions(4, 1, 10, 10)
    alone = UncertaintyScores()
    alone(mean, target, variance=variance)
    for rank in range(2):
        assert torch.load(tmp_path / f"{rank}.pt") == pytest.approx(alone.aggregate(), rel=1e-9)


def test_errors_name_what_does_not_fit():
    mean = torch.zeros(1, 1, 2, 2)
    with pytest.raises(ValueError, match=r"mean \(1, 1, 2, 2\).*must be of one shape"):
        uncertainty_table(mean, mean[0], mean)
    with pytest.raises(ValueError, match="floor=0"):
        uncertainty_table(mean, mean, mean, floor=0)
    with pytest.raises(ValueError, match="family='cauchy' must be one of laplace, gaussian"):
        UncertaintyScores(family="cauchy")
    with pytest.raises(ValueError, match="alpha=1"):
        UncertaintyScores(alpha=1)
    with pytest.raises(ValueError, match="alpha=0"):
        interval_score(mean, mean, mean, alpha=0)
    with pytest.raises(ValueError, match="groups=0"):
        uncertainty_calibration_error(uncertainty_table(mean, mean, mean), groups=0)
    with pytest.raises(ValueError, match=r"must be \(B, n, \.\.\.\)"):
        sample_crps(torch.zeros(2, 3, 4), torch.zeros(2, 5))
    with pytest.raises(ValueError, match="y is None"):
        UncertaintyScores()(mean, variance=mean)
    with pytest.raises(ValueError, match="needs the predicted variance"):
        UncertaintyScores()(mean, mean)
