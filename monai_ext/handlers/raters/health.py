"""Warnings for training with several raters: stuck heads, a collapsed latent, samples that are all alike."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import torch
from ignite.engine import Events
from monai.utils import evenly_divisible_all_gather
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from monai_ext.handlers.engine import Engine
from monai_ext.losses import ELBOLoss, samples_alike
from monai_ext.metrics import HeadHealth, head_warnings
from monai_ext.runtime.settings import as_bool

__all__ = ["BetaWarmUp", "CollapseAlarm", "HeadHealthMonitor", "SamplesAlikeAlarm"]

CURVES = ("foreground_ratio", "background_probability", "dice_gap")

_logger = logging.getLogger(__name__)


class HeadHealthMonitor:
    """Health of each head at every validation, as metrics, and a warning when a head stays stuck.

    Puts `val_headNN_foreground_ratio`, `..._background_probability` and `..._dice_gap` into the evaluator's metrics, NN
    being the annotator's number; list it before the handlers that show metrics. Does nothing for a network without
    heads. See `monai_ext.metrics.head_health`.

    Args:
        raters: numbers of the annotators, in the order of the heads.
        patience: validations in a row in which a head must look stuck before it is reported; at the beginning all do.
        prefix: of the metrics' names.
    """

    def __init__(self, raters: Sequence[int], *, patience: int = 3, prefix: str = "val_"):
        self.raters = [int(number) for number in raters]
        self.patience = patience
        self.prefix = prefix
        self.health = HeadHealth()
        self._stuck = [0] * len(self.raters)

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, lambda: self.health.reset())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._judge)

    def _collect(self, engine: Engine) -> None:
        output = engine.state.output
        if "heads" in output["pred"]:
            self.health(output["pred"]["heads"], output["label"])

    def _judge(self, engine: Engine) -> None:
        if self.health.get_buffer() is None:
            return
        health = {name: values.cpu() for name, values in self.health.aggregate().items()}
        for place, number in enumerate(self.raters):
            for name in CURVES:
                engine.state.metrics[f"{self.prefix}head{number:02d}_{name}"] = health[name][place].item()
            sentences = head_warnings({name: values[place : place + 1] for name, values in health.items()})
            self._stuck[place] = self._stuck[place] + 1 if sentences else 0
            if self._stuck[place] >= self.patience:
                for sentence in sentences:
                    _logger.warning(
                        f"after epoch {engine.state.epoch}, for {self._stuck[place]} validations in a row: "
                        f"{sentence.replace('head 0', f'the head of annotator {number}', 1)}"
                    )


class BetaWarmUp:
    """Raises the weight of the divergence from 0 to `beta` over the first `share` of the iterations of a training run.

    It depends on the iteration alone, so a resumed run goes on as an uninterrupted one. See `ELBOLoss`.
    """

    def __init__(self, loss: ELBOLoss, *, beta: float = 1.0, share: float = 0.2):
        if not 0 <= share <= 1:
            raise ValueError(f"share={share} must be in [0, 1]: the part of the training in which beta rises.")
        self.loss = loss
        self.beta = beta
        self.share = share

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_STARTED, self._set)

    def _set(self, engine: Engine) -> None:
        length = self.share * engine.state.max_epochs * engine.state.epoch_length
        done = engine.state.iteration - 1  # Ignite counts the iteration that begins
        self.loss.set_beta(self.beta * (min(1.0, done / length) if length else 1.0))


class CollapseAlarm:
    """Both parts of the evidence lower bound as curves, and a warning when the divergence stays near zero.

    Then the posterior says nothing that the prior does not know: the network ignores its latent, and all samples
    will be alike. Written after each epoch: `train_reconstruction` and `train_kl` in nats per case, `train_beta`, and
    `train_active_latents`, how many numbers of the latent carry more than 0.01 nats. For the trainer's handlers.

    Args:
        loss: the trainer's loss.
        summary_writer: where to write; None: only warn.
        threshold: nats per case below which the latent counts as collapsed.
        patience: epochs in a row below it before the warning comes, and again after as many.
        interval: iterations between two measurements.
    """

    def __init__(
        self,
        loss: ELBOLoss,
        *,
        summary_writer: SummaryWriter | None = None,
        threshold: float = 0.1,
        patience: int = 3,
        interval: int = 1,
    ):
        self.loss = loss
        self.summary_writer = summary_writer
        self.threshold = threshold
        self.patience = patience
        self.interval = interval
        self._below = 0
        self._sums: Tensor | None = None

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self._reset)
        engine.add_event_handler(Events.ITERATION_COMPLETED(every=self.interval), self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._judge)

    def _reset(self) -> None:
        self._sums, self._count = None, 0

    @torch.no_grad()
    def _collect(self, engine: Engine) -> None:
        terms = self.loss.terms(engine.state.output["pred"], engine.state.output["label"])
        values = torch.cat([terms.reconstruction.mean()[None], terms.kl.mean(0)])
        self._sums = values if self._sums is None else self._sums + values
        self._count += 1

    def _judge(self, engine: Engine) -> None:
        if self._sums is None:
            return
        reconstruction, *latents = (self._sums / self._count).tolist()
        divergence = sum(latents)
        if self.summary_writer is not None:
            curves = {
                "train_reconstruction": reconstruction,
                "train_kl": divergence,
                "train_active_latents": sum(value > 0.01 for value in latents),
                "train_beta": self.loss.beta,
            }
            for name, value in curves.items():
                self.summary_writer.add_scalar(name, value, engine.state.epoch)
        self._below = self._below + 1 if divergence < self.threshold else 0
        if self._below and self._below % self.patience == 0:
            _logger.warning(
                f"after epoch {engine.state.epoch}: the divergence of posterior and prior has been below "
                f"{self.threshold:g} nats for {self._below} epochs ({divergence:.4f} now), the latent has collapsed "
                "and all samples will be alike: lower beta, lengthen its warm-up, or set free_nats."
            )


class SamplesAlikeAlarm:
    """How alike the samples of a case are, as a metric at every validation, and a warning when they stay all alike.

    `val_samples_alike` is the mean of `monai_ext.losses.samples_alike`: 1 where all doubt lies in grey pixels and none
    between the samples. Masks of samples may still be alike where the values differ a little, as after a partial
    collapse of a latent: the warning also comes where their mean distance, `val_sample_diversity`, is below
    `least_diversity` of that between the raters, `val_rater_diversity`. For the evaluator's handlers, before those that
    show metrics; over the cases of all ranks.

    Args:
        threshold: mean above which the samples count as all alike.
        least_diversity: share of the raters' diversity below which they do as well.
        patience: validations in a row like this before the warning comes.
        enabled: False for methods whose samples are equal by design.
    """

    def __init__(
        self,
        *,
        threshold: float = 0.99,
        least_diversity: float = 0.25,
        patience: int = 3,
        enabled: bool | str = True,
        name: str = "val_samples_alike",
    ):
        self.threshold = threshold
        self.least_diversity = least_diversity
        self.patience = patience
        self.enabled = as_bool(enabled, "enabled")
        self.name = name
        self._alike = 0
        self._values: list[Tensor] = []

    def attach(self, engine: Engine) -> None:
        if self.enabled:
            engine.add_event_handler(Events.EPOCH_STARTED, lambda: self._values.clear())
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._judge)

    def _collect(self, engine: Engine) -> None:
        samples = engine.state.output["pred"]["samples"]
        if samples.shape[1] > 1:
            self._values.append(samples_alike(samples))

    def _judge(self, engine: Engine) -> None:
        if not self._values:
            return
        mean = evenly_divisible_all_gather(torch.cat(self._values), concat=True).mean().item()
        metrics = engine.state.metrics
        metrics[self.name] = mean
        diversity, raters = (metrics.get(f"val_{kind}_diversity", math.nan) for kind in ("sample", "rater"))
        collapsed = diversity < self.least_diversity * raters  # not where one of them is unknown
        self._alike = self._alike + 1 if mean > self.threshold or math.isnan(mean) or collapsed else 0
        if self._alike >= self.patience:
            found = f"{mean:.3f} of 1"
            if collapsed:
                found += f", diversity {diversity:.3f} against the raters' {raters:.3f}"
            _logger.warning(
                f"after epoch {engine.state.epoch}: the samples of a case are all alike ({found}) for "
                f"{self._alike} validations in a row, so the network shows no choice of outlines: see the divergence "
                "(train_kl), lower beta or set free_nats."
            )
