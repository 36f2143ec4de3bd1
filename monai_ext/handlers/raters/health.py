"""Warnings for training with several raters: stuck heads, a collapsed latent, samples that are all alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from monai.utils import evenly_divisible_all_gather
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from monai_ext.handlers.engine import Engine
from monai_ext.handlers.epochs import Alarm
from monai_ext.handlers.training.tensorboard import step_of, writer_of
from monai_ext.losses import ELBOLoss, RaterELBOLoss, samples_alike
from monai_ext.metrics import HeadHealth, head_warnings
from monai_ext.runtime.settings import as_bool

__all__ = ["CollapseAlarm", "HeadHealthMonitor", "SamplesAlikeAlarm"]

LEAST_DIVERSITY = 0.25  # of the samples, as a share of the raters'
CURVES = ("foreground_ratio", "background_probability", "dice_gap")


class HeadHealthMonitor(Alarm):
    """Health of each head at every validation, as metrics, and a warning when a head stays stuck.

    Puts `val_headNN_foreground_ratio`, `..._background_probability` and `..._dice_gap` into the evaluator's metrics, NN
    being the rater's number; list it before the handlers that show metrics. Does nothing for a network without heads.
    See `monai_ext.metrics.head_health`.

    Args:
        raters: their numbers, in the order of the heads.
        patience: see `Alarm`; at the beginning all heads look stuck.
        prefix: of the metrics' names.
        structures: names of the structures, where heads have several: the metrics are `val_headNN_disc_dice_gap` and so
            on.
    """

    def __init__(
        self,
        raters: Sequence[int],
        *,
        patience: int = 3,
        prefix: str = "val_",
        structures: Sequence[str] | None = None,
    ):
        super().__init__(patience=patience)
        self.structures = list(structures or ())
        self.raters = [int(number) for number in raters]
        self.prefix = prefix
        self.health = HeadHealth(structures=len(self.structures) or None)

    def reset(self, engine: Engine) -> None:
        super().reset(engine)
        self.health.reset()

    def collect(self, engine: Engine) -> None:
        output = engine.state.output
        if "heads" in output["pred"]:
            self.rows.append(self.health(output["pred"]["heads"], output["label"]))

    def judge(self, engine: Engine) -> dict[str, str | None]:
        health = {name: values.cpu() for name, values in self.health.aggregate().items()}
        found: dict[str, str | None] = {}
        for row, structure in enumerate(self.structures or [""]):
            own = {name: values[row] for name, values in health.items()} if structure else health
            for place, number in enumerate(self.raters):
                name_of_head = f"{self.prefix}head{number:02d}{structure and f'_{structure}'}"
                for name in CURVES:
                    engine.state.metrics[f"{name_of_head}_{name}"] = own[name][place].item()
                sentences = head_warnings({name: values[place : place + 1] for name, values in own.items()})
                whose = f"the head of rater {number}{structure and f' for {structure}'}"
                text = " ".join(sentences).removesuffix(".").replace("head 0", whose)
                found[f"{number}{structure and f' {structure}'}"] = text or None
        return found


class CollapseAlarm(Alarm):
    """Both parts of the evidence lower bound as curves, and a warning when the divergence stays near zero.

    Then the posterior equals the prior: the network ignores its latent, and all samples will be alike. Written after
    each epoch: `health/reconstruction` and `health/kl` in nats per case, `health/beta`, and `health/active_latents`,
    how many numbers of the latent carry more than 0.01 nats. For the trainer's handlers; does nothing for another loss.

    Args:
        loss: the trainer's: `ELBOLoss`, `RaterELBOLoss`.
        summary_writer: where to write; None: that of the run, see `StandardTraining`.
        threshold: nats per case below which the latent counts as collapsed.
        patience, interval: see `Alarm`.
    """

    def __init__(
        self,
        loss: nn.Module,
        *,
        summary_writer: SummaryWriter | None = None,
        threshold: float = 0.1,
        patience: int = 3,
        interval: int = 1,
    ):
        super().__init__(patience=patience, interval=interval)
        self.loss: Any = loss
        self.summary_writer, self.threshold = summary_writer, threshold

    def attach(self, engine: Engine) -> None:
        if isinstance(self.loss, ELBOLoss | RaterELBOLoss):
            super().attach(engine)

    @torch.no_grad()
    def collect(self, engine: Engine) -> None:
        terms = self.loss.terms(engine.state.output["pred"], engine.state.output["label"])
        self.rows.append(torch.cat([terms.reconstruction.mean()[None], terms.kl.mean(0)]))

    def judge(self, engine: Engine) -> dict[str, str | None]:
        reconstruction, *latents = torch.stack(self.rows).mean(0).tolist()
        divergence = sum(latents)
        curves = {
            "health/reconstruction": reconstruction,
            "health/kl": divergence,
            "health/active_latents": sum(value > 0.01 for value in latents),
            "health/beta": self.loss.beta,
        }
        if (writer := writer_of(engine, self.summary_writer)) is not None:
            for name, value in curves.items():
                writer.add_scalar(name, value, step_of(engine))
        sentence = (
            f"the divergence of posterior and prior is {divergence:.4f} nats, below {self.threshold:g}, the latent has "
            "collapsed and all samples will be alike: lower beta, lengthen its warm-up, or set free_nats"
        )
        return {"collapsed": sentence if divergence < self.threshold else None}


class SamplesAlikeAlarm(Alarm):
    """How alike the samples of a case are, as a metric at every validation, and a warning when they stay all alike.

    `val_samples_alike` is the mean of `monai_ext.losses.samples_alike`: 1 where all doubt lies in grey pixels and none
    between the samples. Masks of samples may still be alike where the values differ a little, as after a partial
    collapse of a latent: the warning also comes where their mean distance, `val_sample_diversity`, is below a quarter
    of that between the raters, `val_rater_diversity`. For the evaluator's handlers, before those that show metrics;
    over the cases of all ranks.

    Args:
        threshold: mean above which the samples count as all alike.
        patience: see `Alarm`.
        enabled: False for methods whose samples are equal by design.
    """

    def __init__(self, *, threshold: float = 0.99, patience: int = 3, enabled: bool | str = True):
        super().__init__(patience=patience)
        self.threshold, self.enabled = threshold, as_bool(enabled, "enabled")

    def attach(self, engine: Engine) -> None:
        if self.enabled:
            super().attach(engine)

    def collect(self, engine: Engine) -> None:
        samples = engine.state.output["pred"]["samples"]
        if samples.shape[1] > 1:
            self.rows.append(samples_alike(samples.flatten(2)[:, :, None]))  # pixels of all structures are pixels

    def judge(self, engine: Engine) -> dict[str, str | None]:
        mean = evenly_divisible_all_gather(torch.cat(self.rows), concat=True).mean().item()
        metrics = engine.state.metrics
        metrics["val_samples_alike"] = mean
        diversity, raters = (metrics.get(f"val_{kind}_diversity", math.nan) for kind in ("sample", "rater"))
        collapsed = diversity < LEAST_DIVERSITY * raters  # not where one of them is unknown
        found = f", diversity {diversity:.3f} against the raters' {raters:.3f}" if collapsed else ""
        sentence = (
            f"the samples of a case are all alike ({mean:.3f} of 1{found}), so the network shows no choice of "
            "outlines: see the divergence (health/kl in TensorBoard), lower beta or set free_nats"
        )
        return {"alike": sentence if mean > self.threshold or math.isnan(mean) or collapsed else None}
