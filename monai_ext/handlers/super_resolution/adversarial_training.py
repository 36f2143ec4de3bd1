"""`StandardTraining` for two stages, the second against a discriminator, without and with a latent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Events
from torch.optim import Optimizer

from monai_ext.data.tiles.pixel_scale import PixelScale, keep_scale
from monai_ext.engines.adversarial import Adversary
from monai_ext.handlers.engine import Engine
from monai_ext.handlers.super_resolution.adversarial_health import AdversarialAlarm
from monai_ext.handlers.super_resolution.bayesian_health import LatentAlarm
from monai_ext.handlers.training.schedule import BetaWarmUp
from monai_ext.handlers.training.stages import StageCheckpoints, StagedLearningRate
from monai_ext.handlers.training.standard import Handler, Part, StandardTraining

__all__ = ["AdversarialTraining", "BayesianTraining"]


class AdversarialTraining(StandardTraining):
    """`StandardTraining` with a learning rate for each stage, the best weights of each, and an alarm.

    For a `PairedAdversarialTrainer`, whose discriminator and its optimiser join the state. In front of its other parts
    the trainer gets `rates` (a `StagedLearningRate`) for its optimiser and `discriminator_rates` for that of the
    discriminator, which rests in stage one, and `alarm` (`AdversarialAlarm`); `best` is `StageCheckpoints`. Each can be
    replaced or left out.

    Args:
        output_dir, kwargs: as for `StandardTraining`.
        stages: (epochs, learning rate of the generator, shape) of both stages, see `StagedLearningRate`.
        discriminator_learning_rate: in stage two, with the shape of the generator's.
        rate_warm_up: of all rates, see `StagedLearningRate`.
        scores: metrics by which the weights of each stage are chosen, see `StageCheckpoints`.
    """

    def __init__(
        self,
        output_dir: str | Path,
        *,
        stages: Sequence[Sequence],
        discriminator_learning_rate: float,
        rate_warm_up: float = 0.1,
        scores: Sequence[str] = ("val_psnr", "val_perceptual"),
        rates: Part = "standard",
        discriminator_rates: Part = "standard",
        alarm: Part = "standard",
        **kwargs: Any,
    ):
        super().__init__(output_dir, **kwargs)
        self.stages, self.rate_warm_up, self.scores = stages, rate_warm_up, scores
        (pretrain_epochs, *_), (adversarial_epochs, _, shape) = stages
        self.discriminator_stages = [
            (pretrain_epochs, 0.0, "constant"),
            (adversarial_epochs, discriminator_learning_rate, shape),
        ]
        self.handlers |= {"rates": rates, "discriminator_rates": discriminator_rates, "alarm": alarm}

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._keep_scale)  # first: it may refuse to go on
        super().attach(engine)

    def _keep_scale(self, engine: Engine) -> None:
        """The scale of the training's tiles is left beside the weights."""
        items = getattr(getattr(engine.data_loader, "dataset", None), "data", None) or [{}]
        keep_scale(self.folder, items[0].get("scale") or PixelScale(), resume=self.resume)

    def state_of(self, engine: Engine) -> dict[str, Any]:
        rival = _adversary(engine)
        return super().state_of(engine) | {
            "discriminator": rival.discriminator,
            "discriminator_optimizer": rival.optimizer,
        }

    def of_trainer(self, engine: Engine, state: Mapping[str, Any]) -> list[Handler | None]:
        rival = _adversary(engine)
        gap = 0.97 - getattr(rival.loss, "label_smoothing", 0.0)
        return [
            self.handler("rates", lambda: self._rates(state["optimizer"], self.stages)),
            self.handler("discriminator_rates", lambda: self._rates(rival.optimizer, self.discriminator_stages)),
            self.handler("alarm", lambda: AdversarialAlarm(gap=gap, interval=self.interval)),
            *super().of_trainer(engine, state),
        ]

    def _rates(self, optimizer: Optimizer, stages: Sequence[Sequence]) -> StagedLearningRate:
        return StagedLearningRate(optimizer, stages, warm_up=self.rate_warm_up)

    def best_checkpoint(self, engine: Engine, state: Mapping[str, Any]) -> Handler:
        pretrained, adversarial = self.scores
        return StageCheckpoints(
            state["average"].module,
            self.folder,
            pretrain_epochs=self.stages[0][0],
            pretrained_score=pretrained,
            adversarial_score=adversarial,
        )


class BayesianTraining(AdversarialTraining):
    """`AdversarialTraining` for a `BayesianAdversarialTrainer`: the divergence warms up, and its latent is watched.

    In front of the other parts the trainer gets `warm_up` (`BetaWarmUp` of its loss) and `latent` (`LatentAlarm`); each
    can be replaced or left out. Weights are chosen by the scores of samples.

    Args:
        output_dir, kwargs: as for `AdversarialTraining`.
        beta_warm_up: share of the iterations in which the loss's beta rises from 0 to what it was made with.
    """

    def __init__(
        self,
        output_dir: str | Path,
        *,
        beta_warm_up: float = 0.2,
        scores: Sequence[str] = ("val_energy_db", "val_sample_perceptual"),
        warm_up: Part = "standard",
        latent: Part = "standard",
        **kwargs: Any,
    ):
        super().__init__(output_dir, scores=scores, **kwargs)
        self.beta_warm_up = beta_warm_up
        self.handlers |= {"warm_up": warm_up, "latent": latent}

    def of_trainer(self, engine: Engine, state: Mapping[str, Any]) -> list[Handler | None]:
        loss = engine.loss_function
        return [
            self.handler("warm_up", lambda: BetaWarmUp(loss, beta=loss.beta, share=self.beta_warm_up)),
            self.handler("latent", lambda: LatentAlarm(summary_writer=self.summary_writer, interval=self.interval)),
            *super().of_trainer(engine, state),
        ]


def _adversary(engine: Engine) -> Adversary:
    adversary = getattr(engine, "adversary", None)
    if not isinstance(adversary, Adversary):
        raise ValueError(f"the trainer {type(engine).__name__} has no adversary: use PairedAdversarialTrainer.")
    return adversary
