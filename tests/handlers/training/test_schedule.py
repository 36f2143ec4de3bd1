"""The one-cycle schedule, and what a resumed run that is given more epochs makes of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_ext.handlers import one_cycle

STEPS = 4  # of an epoch


def begun(epochs: int):
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.Adam([weight], lr=0.1)
    return optimizer, one_cycle(optimizer, epochs=epochs, loader=range(STEPS))


def go_on(optimizer, schedule, steps: int) -> list[tuple[float, float]]:
    """(rate, first beta) of each further step."""
    used = []
    for _ in range(steps):
        used.append((optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["betas"][0]))
        optimizer.step(), schedule.step()
    return used


def resumed(epochs: int, done: tuple):
    optimizer, schedule = begun(epochs)
    for now, then in zip((optimizer, schedule), done, strict=True):
        now.load_state_dict(then.state_dict())
    return optimizer, schedule


def test_a_cycle_begins_at_a_tenth_and_ends_at_a_thousandth_of_the_rate():
    rates = [rate for rate, _ in go_on(*begun(5), 5 * STEPS)]
    assert rates[0] == pytest.approx(0.01) and max(rates) == pytest.approx(0.1) and rates[-1] == pytest.approx(0.0001)


@pytest.mark.parametrize(("first", "then"), [(3, 3), (2, 5), (5, 6)])
def test_a_run_given_more_epochs_goes_on_with_the_rates_of_an_uninterrupted_run_of_that_length(first, then):
    whole = go_on(*begun(then), then * STEPS)
    done = begun(first)
    assert go_on(*done, 2 * STEPS)
    rest = go_on(*resumed(then, done), (then - 2) * STEPS)
    np.testing.assert_allclose(rest, whole[2 * STEPS :])


def test_a_schedule_does_not_take_a_place_behind_its_end():
    done = begun(3)
    go_on(*done, 3 * STEPS)
    with pytest.raises(ValueError, match="has 8 steps, and 12 are done: set a larger max_epochs"):
        resumed(2, done)
