from __future__ import annotations

import json
import math

import numpy as np
import pytest
import reference_uncertainty as reference
import torch
from scipy.optimize import brentq

from monai_ext.metrics.conformal import (
    Calibration,
    ConformalRule,
    conformal_risk_bound,
    coverage_of_places_left_out,
    hoeffding_bentkus_p_value,
    read_calibration,
    smallest_safe,
    write_calibration,
)
from monai_ext.metrics.uncertainty_tables import (
    ROUNDING_SD,
    UncertaintyTable,
    interval_quality,
    ratio_edges,
    uncertainty_table,
)

EDGES = ratio_edges()


def images(count: int, *, factor: float = 1.0, seed: int = 0, size: int = 24) -> tuple[torch.Tensor, ...]:
    """Mean, variance and target of images of differing noise; the predicted sd is `factor` times too large."""
    generator = torch.Generator().manual_seed(seed)
    shape = (count, 2, size, size)
    mean = 0.3 + 0.4 * torch.rand(shape, generator=generator)
    sd = 0.01 * 4 ** torch.rand(shape, generator=generator)
    strength = 0.7 + 0.6 * torch.rand(count, 1, 1, 1, generator=generator)  # unknown to the prediction
    target = (mean + strength * sd * torch.randn(shape, generator=generator)).clamp(0, 1)
    return mean, (factor * sd).square(), target


def pooled(*arguments: torch.Tensor) -> UncertaintyTable:
    return UncertaintyTable(*(part.sum(0) for part in uncertainty_table(*arguments)))


def test_p_value_equals_the_formula_worked_out_with_exact_binomials():
    for risk, count, alpha in [(0.02, 100, 0.1), (0.05, 40, 0.2), (0.0, 30, 0.1)]:
        bentkus = math.e * reference.binomial_cumulative(math.ceil(count * risk - 1e-9), count, alpha)
        h = (risk * math.log(risk / alpha) if risk else 0) + (1 - risk) * math.log((1 - risk) / (1 - alpha))
        expected = min(1.0, math.exp(-count * h), bentkus)
        assert hoeffding_bentkus_p_value(risk, count=count, alpha=alpha) == pytest.approx(expected, rel=1e-9)


def test_p_value_is_one_at_and_above_alpha_and_falls_with_risk_and_count():
    assert hoeffding_bentkus_p_value(0.1, count=50, alpha=0.1) == 1
    assert hoeffding_bentkus_p_value(0.4, count=50, alpha=0.1) == 1
    assert hoeffding_bentkus_p_value(1.0, count=50, alpha=0.1) == 1
    falling = [hoeffding_bentkus_p_value(risk, count=200, alpha=0.1) for risk in (0.09, 0.07, 0.05, 0.0)]
    assert falling == sorted(falling, reverse=True)
    assert hoeffding_bentkus_p_value(0.05, count=400, alpha=0.1) < falling[2]


def test_the_bound_holds_for_losses_of_nought_and_one():
    # of 500 sets of 40 losses with expectation above alpha, at most delta may be called safe
    losses = np.random.default_rng(0).random((500, 40)) < 0.101
    called = [hoeffding_bentkus_p_value(row.mean(), count=40, alpha=0.1) <= 0.2 for row in losses]
    assert np.mean(called) <= 0.2 + 3 * math.sqrt(0.2 * 0.8 / 500)


def test_seven_tenths_of_the_misses_are_given_away_for_sixty_images():
    largest = brentq(lambda r: hoeffding_bentkus_p_value(r, count=60, alpha=0.1) - 0.1, 1e-6, 0.099)
    assert 0.6 < 1 - largest / 0.1 < 0.85


def test_conformal_risk_counts_one_image_of_the_worst_loss():
    assert conformal_risk_bound(0.05, count=19) == pytest.approx((0.95 + 1) / 20)


def test_the_factor_is_the_smallest_one_that_may_be_promised():
    table = pooled(*images(60))
    for rule in (ConformalRule("crc"), ConformalRule("rcps")):
        calibration = rule.choose(table)
        place = EDGES.tolist().index(calibration.multiplier[0])
        risks = [
            1 - interval_quality(table, EDGES[i].item(), alpha=0.1)["coverage"].mean().item()
            for i in (place - 1, place)
        ]
        assert [rule.holds(risk, count=60) for risk in risks] == [False, True]
        assert calibration.coverage[0] == pytest.approx(1 - risks[1]) and calibration.images == 60


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_calibrated_coverage_of_new_images_is_within_two_points(factor):
    calibration = ConformalRule("crc", alpha=0.1).choose(pooled(*images(200, factor=factor)))
    mean, variance, target = images(200, factor=factor, seed=1)
    lower, upper = calibration.apply(mean, variance)
    covered = ((lower <= target) & (target <= upper)).double().mean().item()
    assert covered == pytest.approx(0.9, abs=0.02)
    # without calibration the intervals of the Gaussian family miss by far, unless the variance is right
    raw = ((target - mean).abs() <= 1.645 * variance.sqrt()).double().mean().item()
    assert (abs(raw - 0.9) > 0.05) == (factor != 1)


def test_rcps_keeps_its_promise_in_all_but_delta_of_the_calibration_sets():
    rule = ConformalRule("rcps", alpha=0.2, delta=0.1)
    true = pooled(*images(600, seed=99, size=8))
    risks = []
    for seed in range(30):
        multiplier = rule.choose(pooled(*images(40, seed=seed, size=8))).multiplier
        risks.append(1 - interval_quality(true, multiplier, alpha=0.2)["coverage"].mean().item())
    assert np.mean(np.array(risks) > 0.2) <= 0.1


def test_crc_keeps_the_mean_risk_over_calibration_sets():
    rule = ConformalRule("crc", alpha=0.2)
    true = pooled(*images(600, seed=99, size=8))
    chosen = [rule.choose(pooled(*images(15, seed=seed, size=8))).multiplier for seed in range(30)]
    risk = np.mean([1 - interval_quality(true, m, alpha=0.2)["coverage"].mean().item() for m in chosen])
    assert 0.2 - 1 / 16 - 0.02 <= risk <= 0.2 + 0.01


def test_two_images_of_a_place_are_enough_for_the_empirical_rule():
    two, others = images(2), images(60)
    table, rule = pooled(*two), ConformalRule("empirical")
    calibration = rule.choose(table, places=1)
    place = EDGES.tolist().index(calibration.multiplier[0])
    before = interval_quality(table, EDGES[place - 1].item(), alpha=0.1)["coverage"].mean().item()
    assert before < 0.9 <= calibration.coverage[0] and (calibration.images, calibration.delta) == (2, None)
    assert rule.choose(pooled(*others)).multiplier < ConformalRule("crc").choose(pooled(*others)).multiplier


def test_bands_get_their_own_factors():
    mean, variance, target = images(60)
    variance[:, 1] *= 4
    shared = ConformalRule("crc").choose(pooled(mean, variance, target))
    apart = ConformalRule("crc", per_band=True).choose(pooled(mean, variance, target))
    assert len(shared.multiplier) == 1 and len(apart.multiplier) == 2
    assert apart.multiplier[0] == pytest.approx(2 * apart.multiplier[1], rel=0.05)
    for c in range(2):
        lower, upper = apart.apply(mean, variance)
        covered = ((lower <= target) & (target <= upper))[:, c].double().mean().item()
        assert covered == pytest.approx(apart.coverage[c], abs=2e-4)


def test_bounds_of_a_hand_computed_pixel_are_cut_to_the_range_and_keep_the_type():
    calibration = Calibration("rcps", 0.1, 0.1, (2.0, 1.0), floor=0.05)
    mean = torch.tensor([0.5, 0.95]).view(1, 2, 1, 1)
    lower, upper = calibration.apply(mean, torch.tensor([0.01, 0.0]).view(1, 2, 1, 1))
    assert lower.flatten().tolist() == pytest.approx([0.3, 0.9]) and upper.flatten().tolist() == pytest.approx(
        [0.7, 1.0]
    )
    assert lower.dtype == mean.dtype
    assert torch.equal(calibration.apply(mean[0], torch.zeros(2, 1, 1))[0], calibration.apply(mean, 0 * mean)[0][0])


def test_a_calibration_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "models" / "calibration.json"
    written = Calibration(
        "rcps", 0.1, 0.05, (EDGES[700].item(), EDGES[900].item()), "ambiguity", ROUNDING_SD, 60, 4, (0.91, 0.92), 4, 8
    )
    write_calibration(written, path)
    assert read_calibration(path) == written
    assert [file.name for file in path.parent.iterdir()] == ["calibration.json"]
    chosen = ConformalRule().choose(
        pooled(*images(30)), kind="total", places=3, weight_samples=2, latent_samples=5, weights=("ab",)
    )
    write_calibration(chosen, path)
    assert read_calibration(path) == chosen and json.loads(path.read_text())["images"] == 30


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is damaged .*: calibrate again"),
        ("[]", "is damaged .*[oO]bject.*: calibrate again"),
        ('{"format": 1}', "is damaged .*required field method"),
        ('{"format": 2}', "at format: invalid enum value 2"),
        (
            '{"format": 1, "multiplier": [0], "coverage": [], "method": "crc", "alpha": 0.1, "delta": null}',
            "no calibration: .*multiplier",
        ),
        ('{"format": 1, "multiplier": [1], "coverage": [], "method": "crc", "alpha": 0.1}', "required field delta"),
    ],
)
def test_damaged_calibrations_are_refused_in_one_sentence(tmp_path, text, message):
    (tmp_path / "calibration.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_calibration(tmp_path / "calibration.json")


def test_errors_name_the_way_out(tmp_path):
    with pytest.raises(FileNotFoundError, match="run the bundle with calibrate.json first"):
        read_calibration(tmp_path / "calibration.json")
    with pytest.raises(ValueError, match="8 images are too few: take more, a larger alpha"):
        ConformalRule("crc").choose(pooled(*images(8)))
    with pytest.raises(ValueError, match="21 images are too few"):
        ConformalRule("rcps").choose(pooled(*images(21)))
    ConformalRule("rcps").choose(pooled(*images(22)))
    mean, variance, _ = images(30)
    with pytest.raises(ValueError, match="100.0% of the values are NaN or lie beyond"):
        ConformalRule().choose(pooled(mean, variance, mean * math.nan))
    with pytest.raises(ValueError, match="method='quantile' is unknown: choose one of crc, rcps, empirical"):
        ConformalRule("quantile")
    with pytest.raises(ValueError, match="alpha=2"):
        ConformalRule(alpha=2)
    calibration = Calibration("crc", 0.1, None, (1.0, 2.0))
    with pytest.raises(ValueError, match=r"with 2 bands, as in the calibration"):
        calibration.apply(torch.zeros(3, 4, 4), torch.zeros(3, 4, 4))


def test_a_lucky_dip_below_the_line_is_not_taken():
    assert smallest_safe([False, True, False, True, True]) == 3
    assert smallest_safe([True, True]) == 0
    assert smallest_safe([True, False]) is None


def test_a_place_left_out_is_covered_as_by_a_calibration_of_the_others_alone():
    even, odd = images(30), images(12, factor=0.5, seed=3)  # the second place's errors are predicted half as large
    rule = ConformalRule("empirical", alpha=0.1)
    shares = torch.cat([uncertainty_table(*part).ratios[..., 0] for part in (even, odd)])
    found = coverage_of_places_left_out(shares, 30 * ["even"] + 12 * ["odd"], rule)
    for name, known, further in (("even", odd, even), ("odd", even, odd)):
        mean, variance, target = further
        lower, upper = rule.choose(pooled(*known)).apply(mean, variance)
        inside = ((lower <= target) & (target <= upper)).double().mean().item()
        assert found[name] == pytest.approx(inside, abs=0.004)  # at 0 and 1 intervals are cut
    assert found["odd"] < 0.7 and found["even"] > 0.97


def test_places_that_cannot_be_left_out_have_no_coverage():
    shares = uncertainty_table(*images(12)).ratios[..., 0]
    assert coverage_of_places_left_out(shares, 12 * ["a"], ConformalRule()) == {}
    few = coverage_of_places_left_out(shares, 10 * ["a"] + 2 * ["b"], ConformalRule("crc", alpha=0.1))
    assert few["a"] is None and 0.8 < few["b"] <= 1  # two images are too few for alpha 0.1
