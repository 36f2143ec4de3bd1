"""Curves of losses and learning rates, point by point."""

from __future__ import annotations

import torch
from ignite.engine import Engine

from monai_ext.handlers import TrainingCurves


class Writer:
    def __init__(self):
        self.points: list[tuple[str, float, int]] = []

    def add_scalar(self, name, value, step):
        self.points.append((name, round(value, 6), step))


def epoch_of_outputs(handler, outputs: list[dict], *, epochs: int = 1) -> None:
    engine = Engine(lambda engine, batch: batch)
    handler.attach(engine)
    engine.run(outputs, max_epochs=epochs)


def test_curves_are_means_since_the_last_point_and_lazy_terms_means_of_the_steps_that_have_them():
    writer = Writer()
    optimizer = torch.optim.SGD([torch.zeros(1)], 0.5)
    terms = [{"pixel": 1.0, "penalty": 8.0}, {"pixel": 3.0}, {"pixel": 7.0}]
    outputs = [{"terms": {name: torch.tensor(value) for name, value in step.items()}} for step in terms]
    optimizers = {"optimizer": optimizer, "discriminator_optimizer": optimizer}
    epoch_of_outputs(TrainingCurves(writer, optimizers=optimizers, interval=2), outputs)
    assert writer.points == [
        ("train/pixel", 2.0, 2),
        ("train/penalty", 8.0, 2),
        ("train/learning_rate_generator", 0.5, 2),
        ("train/learning_rate_discriminator", 0.5, 2),
        ("train/pixel", 7.0, 3),
        ("train/learning_rate_generator", 0.5, 3),
        ("train/learning_rate_discriminator", 0.5, 3),
    ]
    assert outputs[0]["terms"]["pixel"] == 1.0, "the engine's output was overwritten"


def test_an_engine_without_terms_has_the_loss_of_every_so_many_iterations_and_one_learning_rate():
    writer = Writer()
    optimizer = torch.optim.SGD([torch.zeros(1)], 0.25)
    outputs = [{"loss": torch.tensor(value)} for value in (1.0, 2.0, 3.0)]
    epoch_of_outputs(TrainingCurves(writer, optimizers={"optimizer": optimizer}, interval=2), outputs)
    assert writer.points == [("train/loss", 2.0, 2), ("train/learning_rate", 0.25, 2)]
