"""The handler that every bundle's training has: what it writes, and that each part can be replaced or left out."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Engine, Events
from torch import nn

from monai_ext.engines import ModelEMA
from monai_ext.handlers import MainProcessWriter, StandardTraining
from monai_ext.runtime.errors import NonFiniteLossError

FILES = {"epochs.csv", "final.pt", "last.pt", "model.pt", "run.json"}
PARTS = {"table": "epochs.csv", "saved": "last.pt", "final": "final.pt", "record": "run.json", "best": "model.pt"}


SETTINGS = {"fold": 3, "max_epochs": 2, "parameters": 2, "training_cases": 3, "validation_cases": 3}


class Recorder:
    """A handler that keeps the epochs it saw."""

    def __init__(self):
        self.epochs: list[int] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: self.epochs.append(engine.state.epoch))


def train(folder, losses=(1.0, 1.0), epochs: int = 2, **parts) -> nn.Module:
    """Two iterations an epoch, each validated with a better score than the one before."""
    network = nn.Linear(1, 1)
    average = ModelEMA(network, 0.5)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    evaluator = Engine(lambda engine, batch: {"loss": torch.tensor(0.0)})
    evaluator.state.metrics, evaluator.state.key_metric_name = {"val_dice": 0.5}, "val_dice"
    trainer = Engine(lambda engine, batch: {"loss": torch.tensor(batch)})

    def validate(engine: Engine) -> None:
        evaluator.state.best_metric = evaluator.state.metrics["val_dice"] = engine.state.epoch / 10
        evaluator.state.best_metric_epoch = engine.state.epoch
        evaluator.run([0], max_epochs=engine.state.epoch, epoch_length=1)

    trainer.add_event_handler(Events.EPOCH_COMPLETED, validate)
    writer = MainProcessWriter(str(folder / "tensorboard"))
    trainer.network, trainer.average, trainer.optimizer = network, average, optimizer
    trainer.data_loader = evaluator.data_loader = SimpleNamespace(dataset=[0, 1, 2])
    given = {"evaluator": evaluator, "summary_writer": writer, "lr_scheduler": scheduler, "settings": {"fold": 3}}
    StandardTraining(folder, unit="cases", **given, **parts).attach(trainer)
    trainer.run(losses, max_epochs=epochs)
    writer.close()
    return network


def test_a_run_leaves_weights_state_table_and_record(tmp_path):
    network = train(tmp_path)
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == FILES
    assert json.loads((tmp_path / "run.json").read_text())["settings"] == SETTINGS
    saved = torch.load(tmp_path / "last.pt", weights_only=True)
    assert set(saved["objects"]) == {"network", "average", "optimizer", "lr_scheduler"}
    assert saved["objects"]["optimizer"]["param_groups"][0]["lr"] == 0.5**5  # the schedule goes by iteration
    final = torch.load(tmp_path / "final.pt", weights_only=True)
    assert torch.equal(final["weight"], network.weight)


@pytest.mark.parametrize("part", PARTS)
def test_each_part_can_be_left_out(part, tmp_path):
    train(tmp_path, **{part: None})
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == FILES - {PARTS[part]}


@pytest.mark.parametrize("part", [*PARTS, "guard", "curves", "progress"])
def test_each_part_can_be_replaced(part, tmp_path):
    recorder = Recorder()
    train(tmp_path, **{part: recorder})
    assert recorder.epochs[-1] == 2


def test_a_nan_in_the_last_iteration_of_an_epoch_stops_the_run_before_anything_is_saved(tmp_path):
    with pytest.raises(NonFiniteLossError, match="epoch 1"):
        train(tmp_path, losses=(1.0, float("nan")))
    assert not list(tmp_path.glob("*.pt")) and not (tmp_path / "epochs.csv").exists()


def test_a_trainer_without_averaged_weights_is_refused(tmp_path):
    trainer = Engine(lambda engine, batch: None)
    trainer.network = nn.Linear(1, 1)
    with pytest.raises(ValueError, match="Engine has no average: use monai_ext.engines.BatchTrainer"):
        StandardTraining(tmp_path, evaluator=trainer, summary_writer=MainProcessWriter(str(tmp_path))).attach(trainer)
