"""Probabilities at a temperature."""

from __future__ import annotations

import math

import pytest
import torch

from monai_ext.formulas.temperature import tempered


def test_probabilities_follow_the_formula_and_certain_ones_stay():
    p = [0.0, 1e-7, 0.1, 0.5, 0.9, 1.0]
    for temperature in (0.3, 2.5):
        expected = [x if x in (0, 1) else 1 / (1 + ((1 - x) / x) ** (1 / temperature)) for x in p]
        assert tempered(torch.tensor(p), temperature).tolist() == pytest.approx(expected, rel=1e-5)


def test_a_temperature_of_one_changes_nothing_at_all():
    p = torch.rand(3, 4, dtype=torch.float64)
    assert tempered(p, 1.0) is p and tempered(p.half(), 2.0).dtype == torch.float16


@pytest.mark.parametrize("temperature", [0, -1.0, math.inf, math.nan])
def test_a_temperature_is_above_zero(temperature):
    with pytest.raises(ValueError, match="give a number above 0"):
        tempered(torch.rand(2), temperature)
