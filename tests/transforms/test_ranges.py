"""Ranges of random parameters as users write them."""

from __future__ import annotations

import pytest
import torch

from monai_ext.transforms.ranges import (
    log_uniform,
    ordered_pair,
    per_axis,
    positive_range,
    probability,
    ratio_range,
    ratio_ranges,
    symmetric_range,
    uniform,
)


def test_a_number_is_a_range_about_its_centre_and_a_pair_is_itself() -> None:
    assert symmetric_range("x", 3) == (-3, 3)
    assert symmetric_range("x", 0.25, centre=1.0, lowest=0.0) == (0.75, 1.25)
    assert symmetric_range("x", 3, centre=1.0, lowest=0.0) == (0.0, 4.0)  # cut at the lowest
    assert symmetric_range("x", (-1, 2)) == (-1, 2)
    assert symmetric_range("x", (0.0, 2.0), lowest=0.0) == (0.0, 2.0)
    assert positive_range("x", 2) == (0.0, 2.0) and positive_range("x", (1, 1)) == (1.0, 1.0)


@pytest.mark.parametrize("off", [None, 0, 0.0])
def test_nothing_and_zero_are_off(off: float | None) -> None:
    assert symmetric_range("x", off) is None and positive_range("x", off) is None
    assert ratio_range("x", None) is None and ratio_ranges("x", None, 2) is None


def test_factors_are_one_pair_or_one_for_each_axis() -> None:
    assert ratio_range("x", [0.5, 2]) == (0.5, 2.0)
    assert ratio_ranges("x", [0.5, 2], 3) == [(0.5, 2.0)]
    assert ratio_ranges("x", [[0.5, 2], [1, 1], [3, 4]], 3) == [(0.5, 2.0), (1.0, 1.0), (3.0, 4.0)]


def test_values_for_each_axis() -> None:
    assert per_axis("x", 2, 3) == (2.0, 2.0, 2.0) and per_axis("x", [1, 2], 2) == (1.0, 2.0)
    assert probability("x", 0) == 0.0 and probability("x", 1) == 1.0


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: symmetric_range("x", -0.1), "x=-0.1 is negative: give the largest deviation from 0"),
        (lambda: symmetric_range("x", (-0.1, 1), lowest=0.0), "x=.* reaches below 0"),
        (lambda: positive_range("x", -0.1), "x=-0.1 reaches below 0"),
        (lambda: positive_range("x", (-0.1, 0.1)), "reaches below 0"),
        (lambda: ratio_range("x", 2.0), "x=2.0 must be a pair of factors"),
        (lambda: ratio_range("x", (0, 1)), "must be positive"),
        (lambda: ratio_ranges("x", 2.0, 2), "x=2.0 must be a pair of factors"),
        (lambda: ratio_ranges("x", [[1, 2]], 2), "must be one pair .* or 2"),
        (lambda: ratio_ranges("x", [[1, 2], 3], 2), "must be one pair .* or 2"),
        (lambda: ordered_pair("x", (2, 1)), "low <= high"),
        (lambda: ordered_pair("x", (1, 2, 3)), "low <= high"),
        (lambda: ordered_pair("x", (1, float("inf"))), "low <= high"),
        (lambda: per_axis("x", (1, 2), 3), "x=.* must be one number or 3"),
        (lambda: probability("x", 1.01), r"x=1.01 must be a probability in \[0, 1\]"),
        (lambda: probability("x", -0.01), "must be a probability"),
    ],
)
def test_other_ranges_are_refused(make, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make()


def test_numbers_lie_in_their_range_and_reach_its_ends() -> None:
    generator = torch.Generator().manual_seed(0)
    numbers = uniform((10_000, 2), -2.0, 6.0, generator)
    assert numbers.shape == (10_000, 2) and -2 <= numbers.min() < -1.98 and 5.98 < numbers.max() < 6
    factors = log_uniform((10_000,), 0.5, 8.0, generator)
    assert 0.5 <= factors.min() < 0.502 and 7.97 < factors.max() <= 8.001
    assert (factors < 2).double().mean() == pytest.approx(0.5, abs=0.02)  # half of the way from log 1/2 to log 8
