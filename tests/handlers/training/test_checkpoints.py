from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.handlers import ValidationHandler
from tiny_training import CPU, DrawnBatches
from torch import nn

from monai_ext.engines import BatchEvaluator, BatchTrainer, ModelEMA
from monai_ext.handlers import (
    BatchNormUnfolder,
    BestCheckpoint,
    MeanSegmentationScores,
    NonFiniteLossGuard,
    ResumeHandler,
    load_checkpoint,
)
from monai_ext.networks import folded_batch_norms
from monai_ext.runtime.errors import NonFiniteLossError


class Run:
    """A small training run with dropout (global random state), schedule, average, validation and resume."""

    def __init__(self, folder: Path, *, resume: bool = False, epochs: int = 4, guards: tuple = ()):
        torch.manual_seed(0)
        self.network = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.Conv2d(4, 1, 1)
        )
        self.average = ModelEMA(self.network, 0.9)
        self.optimizer = torch.optim.Adam(self.network.parameters(), 0.05)
        self.schedule = torch.optim.lr_scheduler.ExponentialLR(self.optimizer, 0.9)
        self.evaluator = BatchEvaluator(
            CPU,
            DrawnBatches(),
            self.average.module,
            key_val_metric={"val_mean_dice": MeanSegmentationScores(threshold=0)},
            val_handlers=[BestCheckpoint(self.average.module, folder / "model.pt")],
        )
        resume_handler = ResumeHandler(
            folder / "last.pt",
            {"network": self.network, "average": self.average, "optimizer": self.optimizer, "schedule": self.schedule},
            evaluator=self.evaluator,
            resume=resume,
        )
        self.trainer = BatchTrainer(
            CPU,
            epochs,
            DrawnBatches(),
            self.network,
            self.optimizer,
            nn.BCEWithLogitsLoss(),
            average=self.average,
            train_handlers=[*guards, ValidationHandler(1, self.evaluator), resume_handler],
        )
        self.trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: self.schedule.step())
        # the schedule steps before the state is saved, as LrScheduleHandler listed first does
        handlers = self.trainer._event_handlers[Events.EPOCH_COMPLETED]
        handlers.insert(0, handlers.pop())


def assert_equal_weights(a: nn.Module, b: nn.Module) -> None:
    for name, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[name]), name


def test_a_run_killed_in_mid_epoch_and_resumed_ends_with_the_same_weights(tmp_path):
    whole = Run(tmp_path / "whole")
    whole.trainer.run()

    broken = Run(tmp_path / "broken")
    broken.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=8), _kill)  # the second iteration of epoch 3
    with pytest.raises(KeyboardInterrupt):
        broken.trainer.run()
    torch.rand(7), np.random.rand(3), random.random()  # whatever else moved the generators
    resumed = Run(tmp_path / "broken", resume=True)
    resumed.trainer.run()

    assert_equal_weights(whole.network, resumed.network)
    assert_equal_weights(whole.average, resumed.average)
    assert whole.optimizer.param_groups[0]["lr"] == resumed.optimizer.param_groups[0]["lr"]
    assert whole.evaluator.state.best_metric == resumed.evaluator.state.best_metric


def _kill(engine: Engine) -> None:
    raise KeyboardInterrupt


def test_random_states_of_all_generators_are_restored(tmp_path):
    Run(tmp_path, epochs=1).trainer.run()
    drawn = torch.rand(2), np.random.rand(2), random.random()
    resumed = Run(tmp_path, resume=True, epochs=1)
    resumed.trainer.run()
    again = torch.rand(2), np.random.rand(2), random.random()
    assert torch.equal(drawn[0], again[0]) and (drawn[1] == again[1]).all() and drawn[2] == again[2]


def test_a_finished_run_resumed_does_nothing(tmp_path):
    Run(tmp_path).trainer.run()
    before = (tmp_path / "last.pt").read_bytes()
    resumed = Run(tmp_path, resume=True)
    resumed.trainer.run()
    assert resumed.trainer.state.epoch == 4
    assert (tmp_path / "last.pt").read_bytes() == before


def test_resume_without_a_checkpoint_starts_anew(tmp_path):
    run = Run(tmp_path, resume=True, epochs=1)
    run.trainer.run()
    assert run.trainer.state.epoch == 1


def test_a_new_run_never_overwrites_an_existing_one(tmp_path):
    Run(tmp_path, epochs=1).trainer.run()
    with pytest.raises(FileExistsError, match="already holds a run.*--resume true.*--output_dir"):
        Run(tmp_path, epochs=1).trainer.run()


def test_a_damaged_checkpoint_is_named(tmp_path):
    Run(tmp_path, epochs=1).trainer.run()
    checkpoint = tmp_path / "last.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:500])
    with pytest.raises(ValueError, match="last.pt' is damaged"):
        Run(tmp_path, resume=True).trainer.run()


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    Run(tmp_path, epochs=1).trainer.run()
    other = Run(tmp_path, resume=True)
    other.network[0] = nn.Conv2d(1, 5, 3)
    with pytest.raises(ValueError, match="does not fit this configuration"):
        other.trainer.run()


def test_checkpoints_need_only_weights_and_plain_values(tmp_path):
    Run(tmp_path, epochs=1).trainer.run()
    state = load_checkpoint(tmp_path / "last.pt")
    assert state["epoch"] == 1 and set(state["objects"]) == {"network", "average", "optimizer", "schedule"}


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint at .*model.pt.*--ckpt_path"):
        load_checkpoint(tmp_path / "model.pt")


def test_a_resumed_run_keeps_better_weights_than_it_finds(tmp_path):
    Run(tmp_path, epochs=2).trainer.run()
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    state["best_metric"] = 2.0  # better than any Dice
    torch.save(state, tmp_path / "last.pt")
    best = (tmp_path / "model.pt").read_bytes()
    Run(tmp_path, resume=True, epochs=4).trainer.run()
    assert (tmp_path / "model.pt").read_bytes() == best


def test_best_weights_are_those_of_the_best_epoch(tmp_path):
    run = Run(tmp_path)
    scores, weights = [], []
    run.evaluator.add_event_handler(
        Events.EPOCH_COMPLETED,
        lambda engine: (
            scores.append(engine.state.metrics["val_mean_dice"]),
            weights.append({k: v.clone() for k, v in run.average.module.state_dict().items()}),
        ),
    )
    run.trainer.run()
    best = load_checkpoint(tmp_path / "model.pt")
    for name, value in weights[scores.index(max(scores))].items():
        assert torch.equal(best[name], value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_non_finite_loss_stops_the_run_before_anything_is_saved(tmp_path, value):
    run = Run(tmp_path, guards=(NonFiniteLossGuard(interval=100),))
    good = run.trainer.loss_function
    run.trainer.loss_function = lambda p, t: good(p, t) * (value if run.trainer.state.iteration == 5 else 1)
    with pytest.raises(NonFiniteLossError, match="in epoch 2, at or shortly before iteration 6.*--learning_rate"):
        run.trainer.run()
    assert load_checkpoint(tmp_path / "last.pt")["epoch"] == 1
    for tensor in load_checkpoint(tmp_path / "model.pt").values():
        assert tensor.isfinite().all()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last.pt", "model.pt"]


def test_a_nan_of_one_term_stops_the_run():
    trainer = Engine(lambda engine, terms: {"loss": torch.tensor(1.0), "terms": terms})
    NonFiniteLossGuard().attach(trainer)
    with pytest.raises(NonFiniteLossError, match="NaN or infinite in epoch 1"):
        trainer.run([{"discriminator": torch.tensor(float("nan"))}])


def test_folded_batch_norms_are_restored_before_the_first_step_and_not_after_a_resume(tmp_path):
    run = Run(tmp_path, epochs=1)
    with torch.no_grad():
        run.network[1].bias.fill_(0.3)
    assert folded_batch_norms(run.network)
    handler = BatchNormUnfolder(run.network, images=8)
    handler.attach(run.trainer)
    run.trainer.add_event_handler(Events.STARTED, lambda engine: engine.terminate())
    run.trainer.run()
    assert not folded_batch_norms(run.network)
    assert run.network[1].running_mean.abs().sum() > 0


def test_folded_batch_norms_are_restored_from_the_batches_of_a_foreign_loader(tmp_path):
    class Loader(DrawnBatches):
        """MetaTensors whose metadata are not alike, as MONAI's DataLoader collates them."""

        def __iter__(self):
            for number, batch in enumerate(super().__iter__()):
                meta = {"affine": torch.eye(4).expand(4, 4, 4), "spacing": [str(number)] * (4 - number)}
                image = MetaTensor(batch["image"], meta=meta)
                image.is_batch = True
                yield batch | {"image": image}

    run = Run(tmp_path, epochs=1)
    with torch.no_grad():
        run.network[1].bias.fill_(0.3)
    run.trainer.state.dataloader = run.trainer.data_loader = Loader()
    with pytest.raises(ValueError, match="Inconsistent batched metadata"):
        torch.cat([batch["image"] for batch in Loader()])[:8]
    BatchNormUnfolder(run.network, images=8).attach(run.trainer)
    run.trainer.add_event_handler(Events.STARTED, lambda engine: engine.terminate())
    run.trainer.run()
    assert not folded_batch_norms(run.network)
