"""Alarms count epochs in a row."""

from __future__ import annotations

import logging

import pytest
import torch
from ignite.engine import Engine

from monai_ext.handlers.epochs import Alarm


class Negative(Alarm):
    def collect(self, engine):
        self.rows.append(torch.tensor(float(engine.state.output)))

    def judge(self, engine):
        mean = torch.stack(self.rows).mean().item()
        return {"negative": f"the mean is {mean:g}" if mean < 0 else None}


def run(alarm: Alarm, epochs: list[list[float]]) -> None:
    engine = Engine(lambda e, i: epochs[e.state.epoch - 1][i])
    alarm.attach(engine)
    engine.run(range(len(epochs[0])), max_epochs=len(epochs))


def test_a_fault_is_reported_after_patient_epochs_in_a_row_and_again_after_as_many(caplog):
    bad, good = [-1.0, -3.0], [1.0, 1.0]
    with caplog.at_level(logging.WARNING):
        run(Negative(patience=2), [bad, good, bad, bad, bad, bad])
    assert [record.getMessage() for record in caplog.records] == [
        "after epoch 4, for 2 epochs in a row: the mean is -2.",
        "after epoch 6, for 4 epochs in a row: the mean is -2.",
    ]


def test_every_interval_th_iteration_counts_or_the_last_one_of_a_shorter_epoch(caplog):
    with caplog.at_level(logging.WARNING):
        run(Negative(patience=1, interval=2), [[5.0, -1.0, 5.0]])
        run(Negative(patience=1, interval=9), [[5.0, 5.0, -7.0]])
    assert [record.getMessage()[-3:] for record in caplog.records] == ["-1.", "-7."]


def test_no_patience_is_refused():
    with pytest.raises(ValueError, match="patience=0 and interval=1"):
        Negative(patience=0)
