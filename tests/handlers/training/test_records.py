from __future__ import annotations

import json

import pytest
import torch
from ignite.engine import Engine, Events
from torch.utils.tensorboard import SummaryWriter
from training_engines import engine, read

from monai_ext.handlers import (
    EpochTable,
    RunRecord,
    TrainingProgress,
)


def optimizer(lr: float = 0.25) -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)


def test_epoch_table_has_mean_loss_rate_and_the_key_metric_first(tmp_path):
    losses = iter([1.0, 3.0, 5.0, 7.0])
    trainer = Engine(lambda e, data: {"loss": torch.tensor(next(losses))})
    evaluator = engine()

    def validate(e):
        evaluator.state.epoch = e.state.epoch
        evaluator.state.metrics = {"val_mean_jaccard": 0.5, "val_mean_dice": 0.75}

    trainer.add_event_handler(Events.EPOCH_COMPLETED, validate)
    EpochTable(tmp_path / "epochs.csv", optimizer=optimizer(), evaluator=evaluator).attach(trainer)
    trainer.run(range(2), max_epochs=2)
    table = read(tmp_path / "epochs.csv")
    assert [float(row["train_loss"]) for row in table] == [2, 6]
    assert table[0]["learning_rate"] == "0.25" and float(table[0]["seconds"]) >= 0
    assert list(table[0])[4:] == ["val_mean_dice", "val_mean_jaccard"]


def test_epoch_table_of_a_resumed_run_keeps_earlier_rows_and_replaces_later_ones(tmp_path):
    path = tmp_path / "epochs.csv"
    path.write_text("epoch,train_loss,learning_rate,seconds\n1,9.0,0.1,5\n2,8.0,0.1,5\n3,7.0,0.1,5\n")
    trainer = engine({"loss": torch.tensor(1.0)})
    trainer.add_event_handler(Events.STARTED, lambda e: setattr(e.state, "epoch", 1))
    EpochTable(path, optimizer=optimizer()).attach(trainer)
    trainer.run(range(2), max_epochs=3)
    assert [(row["epoch"], float(row["train_loss"])) for row in read(path)] == [("1", 9.0), ("2", 1.0), ("3", 1.0)]


def test_run_record_tells_settings_versions_and_result(tmp_path):
    evaluator = engine()
    evaluator.state.best_metric, evaluator.state.best_metric_epoch = 0.9, 3
    trainer = engine({"loss": torch.tensor(1.0)}, epochs=4)
    writer = SummaryWriter(tmp_path / "tb")
    RunRecord(
        tmp_path / "run.json", {"loss_name": "dice", "lr": 0.1}, evaluator=evaluator, summary_writer=writer
    ).attach(trainer)
    trainer.run_engine()
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["status"] == "finished" and record["epoch"] == 4
    assert record["best_val_mean_dice"] == 0.9 and record["best_epoch"] == 3
    assert record["settings"] == {"loss_name": "dice", "lr": 0.1, "max_epochs": 4}
    assert record["versions"]["torch"].startswith("2.")


def test_progress_is_silent_where_there_is_no_terminal(capsys):
    trainer = engine({"loss": torch.tensor(1.0)})
    TrainingProgress(engine(), interval=1).attach(trainer)
    trainer.run_engine()
    assert capsys.readouterr().err == ""


def test_progress_does_not_swallow_errors():
    def fail(e, data):
        raise ZeroDivisionError

    trainer = Engine(fail)
    TrainingProgress(interval=1).attach(trainer)
    with pytest.raises(ZeroDivisionError):
        trainer.run([0])
