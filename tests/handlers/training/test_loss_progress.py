"""A loss changes at its share of a training, also of one that is resumed."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine

from monai_ext.handlers import LossProgress
from monai_ext.losses import ChangingLoss


def values(loss: ChangingLoss, *, epochs: int, start: int = 0, run: int = 4) -> list[float]:
    seen: list[float] = []
    engine = Engine(lambda engine, batch: seen.append(float(loss(torch.ones(1), torch.zeros(1)))))
    LossProgress(loss, epochs).attach(engine)
    engine.load_state_dict({"epoch_length": 2, "max_epochs": run, "iteration": 2 * start})
    engine.run(range(2), max_epochs=run)
    return seen


def first(prediction, target):
    return (prediction - target).sum()


def last(prediction, target):
    return 5 * (prediction - target).sum()


def test_the_loss_changes_at_its_share_of_the_epochs_given_and_stays_changed():
    assert values(ChangingLoss(first, last, change=0.5), epochs=3) == [1, 1, 1, 5, 5, 5, 5, 5]
    assert values(ChangingLoss(first, last, change=0), epochs=3) == [5] * 8
    assert values(ChangingLoss(first), epochs=3) == [1] * 8
    assert values(ChangingLoss(first, last), epochs=0, run=1) == [1, 5]


def test_a_resumed_run_goes_on_where_the_first_one_was():
    assert values(ChangingLoss(first, last, change=0.5), epochs=4, start=1) == [1, 1, 5, 5, 5, 5]


def test_a_change_outside_the_training_is_refused():
    with pytest.raises(ValueError, match="change=2 is a share"):
        ChangingLoss(first, last, change=2)
