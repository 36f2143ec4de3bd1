"""Schedules: one cycle, and what a resumed run that is given more epochs makes of it; the warm-up of a divergence."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events

from monai_ext.handlers import BetaWarmUp, one_cycle
from monai_ext.losses import ELBOLoss

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


def test_beta_rises_linearly_with_the_iteration_also_in_a_resumed_run():
    loss, seen = ELBOLoss(), []
    trainer = Engine(lambda e, _: seen.append(loss.beta))
    BetaWarmUp(loss, beta=2.0, share=0.5).attach(trainer)
    trainer.run(range(4), max_epochs=2)
    assert seen == [0.0, 0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 2.0]
    seen.clear()
    resumed = Engine(lambda e, _: seen.append(loss.beta))
    BetaWarmUp(loss, beta=2.0, share=0.5).attach(resumed)

    def restore(e: Engine) -> None:
        e.state.epoch, e.state.iteration = 1, 4

    resumed.add_event_handler(Events.STARTED, restore)
    resumed.run(range(4), max_epochs=2)
    assert seen == [2.0] * 4
    with pytest.raises(ValueError, match="share=2"):
        BetaWarmUp(loss, share=2)
