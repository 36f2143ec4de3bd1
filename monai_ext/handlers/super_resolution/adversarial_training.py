"""`StandardTraining` for two stages, the second against a discriminator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_ext.engines.adversarial import Adversary
from monai_ext.handlers.super_resolution.adversarial_health import AdversarialAlarm
from monai_ext.handlers.training.stages import StageCheckpoints, StagedLearningRate
from monai_ext.handlers.training.standard import Part, StandardTraining, standard_or

__all__ = ["AdversarialTraining"]


class AdversarialTraining(StandardTraining):
    """`StandardTraining` with a learning rate for each stage, the best weights of each, and an alarm.

    In front of its other parts the trainer gets `rates` (a `StagedLearningRate`) for "optimizer" and
    `discriminator_rates` for "discriminator_optimizer", which rests in stage one, and `alarm` (`AdversarialAlarm`);
    `best` is `StageCheckpoints`. Each can be replaced or left out.

    Args:
        output_dir, kwargs: as for `StandardTraining`.
        adversary: of the trainer; its discriminator and optimiser join the state.
        stages: (epochs, learning rate of the generator, shape) of both stages, see `StagedLearningRate`.
        discriminator_learning_rate: in stage two, with the shape of the generator's.
        scores: metrics by which the weights of each stage are chosen, see `StageCheckpoints`.
    """

    def __init__(
        self,
        output_dir: str | Path,
        *,
        state: Mapping[str, Any],
        adversary: Adversary,
        stages: Sequence[Sequence],
        discriminator_learning_rate: float,
        scores: Sequence[str] = ("val_psnr", "val_perceptual"),
        interval: int = 10,
        rates: Part = "standard",
        discriminator_rates: Part = "standard",
        alarm: Part = "standard",
        best: Part = "standard",
        **kwargs: Any,
    ):
        rival = {"discriminator": adversary.discriminator, "discriminator_optimizer": adversary.optimizer}
        smoothing = getattr(adversary.loss, "label_smoothing", 0.0)
        (pretrain_epochs, *_), (adversarial_epochs, _, shape) = stages
        of_rival = [(pretrain_epochs, 0.0, "constant"), (adversarial_epochs, discriminator_learning_rate, shape)]
        best = standard_or(
            best,
            lambda: StageCheckpoints(
                state["average"].module,
                output_dir,
                pretrain_epochs=pretrain_epochs,
                pretrained_score=scores[0],
                adversarial_score=scores[1],
            ),
        )
        super().__init__(output_dir, state={**state, **rival}, interval=interval, best=best, **kwargs)
        self.of_trainer = [
            standard_or(rates, lambda: StagedLearningRate(state["optimizer"], stages)),
            standard_or(discriminator_rates, lambda: StagedLearningRate(adversary.optimizer, of_rival)),
            standard_or(alarm, lambda: AdversarialAlarm(gap=0.97 - smoothing, interval=interval)),
            *self.of_trainer,
        ]
