"""The fitted temperature against a slow search over a grid."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_ext.formulas.temperature import tempered
from monai_ext.metrics.temperature import HOTTEST, LogitTable


def cases(true_temperature: float, count: int = 4, raters: int = 3, size=(24, 31)):
    """Maps (count, *size), and masks drawn with their probabilities at a temperature; one rater is missing."""
    generator = torch.Generator().manual_seed(0)
    maps = (3 * torch.randn(count, *size, generator=generator)).sigmoid()
    drawn = torch.rand(count, raters, *size, generator=generator)
    masks = (drawn < tempered(maps, true_temperature)[:, None]).byte()
    presence = torch.ones(count, raters)
    presence[0, 1] = 0
    return maps, masks, presence


def slow_loss(maps, masks, presence, temperature: float) -> float:
    """Log loss with each rater, mean over raters, then over pixels, then over cases."""
    of_cases = []
    for p, own, present in zip(maps.double().numpy(), masks.numpy(), presence.numpy(), strict=True):
        p = 1 / (1 + np.exp(-np.log(p / (1 - p)) / temperature))
        losses = [-np.log(np.where(mask, p, 1 - p)).mean() for mask, there in zip(own, present, strict=True) if there]
        of_cases.append(np.mean(losses))
    return float(np.mean(of_cases))


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 3.0])
def test_the_temperature_is_that_of_a_slow_search(true_temperature):
    data = cases(true_temperature)
    table = LogitTable()
    table.add(data[0][:3], data[1][:3], presence=data[2][:3])  # batches do not matter
    table.add(data[0][3:], data[1][3:], presence=data[2][3:])
    grid = true_temperature * np.linspace(0.8, 1.25, 226)  # steps of 0.2 %
    slow = grid[np.argmin([slow_loss(*data, float(temperature)) for temperature in grid])]
    found = table.best_temperature()
    assert found == pytest.approx(slow, rel=0.003) and found == pytest.approx(true_temperature, rel=0.1)
    assert table.log_loss(found) == pytest.approx(slow_loss(*data, found), abs=1e-5)


def test_volumes_and_cases_of_any_size_count_once_each():
    table, twice = LogitTable(), LogitTable()
    for each in (table, twice):
        each.add(torch.full((1, 2, 2, 2), 0.8), torch.ones(1, 1, 2, 2, 2).byte())
        each.add(torch.full((1, 1, 4, 4), 0.8), torch.zeros(1, 1, 4, 4).byte())
    nobody = torch.zeros(1, 1)
    twice.add(torch.full((1, 1, 4, 4), 0.8), torch.zeros(1, 1, 4, 4).byte(), presence=nobody)
    assert table.cases == twice.cases == 2
    assert table.log_loss(1.0) == twice.log_loss(1.0) == pytest.approx(-(np.log(0.8) + np.log(0.2)) / 2, abs=1e-5)


def test_maps_that_are_always_right_become_as_cold_as_may_be():
    table = LogitTable()
    table.add(torch.tensor([[[0.9, 0.1]]]), torch.tensor([[[[1, 0]]]]))
    assert 1 / HOTTEST <= table.best_temperature() < 0.1  # from there on the loss is 0


def test_certain_maps_have_no_temperature_and_broken_ones_are_refused():
    table = LogitTable()
    table.add(torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[[1, 0]]]]))
    with pytest.raises(ValueError, match="1 cases have no probability between 0 and 1"):
        table.best_temperature()
    with pytest.raises(ValueError, match="NaN or outside"):
        table.add(torch.tensor([[[1.5, 0.0]]]), torch.tensor([[[[1, 0]]]]))
