from __future__ import annotations

import math

import numpy as np
import pytest
import reference_uncertainty as reference
import torch
from uncertain_predictions import pooled, predictions

from monai_ext.metrics.uncertainty import UncertaintyScores
from monai_ext.metrics.uncertainty_tables import (
    ROUNDING_SD,
    binned_sparsification_error,
    expected_normalized_calibration_error,
    interval_quality,
    ratio_edges,
    reliability_curve,
    sparsification_curves,
    uncertainty_calibration_error,
    uncertainty_table,
)


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


def test_binned_sparsification_error_equals_the_slow_reference():
    mean, variance, target = predictions(2, 1, 40, 50)
    table = uncertainty_table(mean, variance, target)
    given = binned_sparsification_error(table, steps=100)
    for i in range(2):
        u, e = variance[i].flatten(), (target - mean)[i].flatten()
        assert given[i].item() == pytest.approx(reference.sparsification_error(u.numpy(), e.numpy(), 100), abs=5e-3)


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


def test_errors_name_what_does_not_fit():
    mean = torch.zeros(1, 1, 2, 2)
    with pytest.raises(ValueError, match=r"mean \(1, 1, 2, 2\).*must be of one shape"):
        uncertainty_table(mean, mean[0], mean)
    with pytest.raises(ValueError, match=r"must be of one shape"):
        uncertainty_table(mean, mean, mean[0])
    with pytest.raises(ValueError, match="floor=0"):
        uncertainty_table(mean, mean, mean, floor=0)
    with pytest.raises(ValueError, match="groups=0"):
        uncertainty_calibration_error(uncertainty_table(mean, mean, mean), groups=0)
