"""Scores of samples at every validation, and warnings of a collapsed latent or of samples that are all alike."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

import torch
from ignite.engine import Events
from monai.utils import evenly_divisible_all_gather
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from monai_ext.engines.bayesian import SAMPLES
from monai_ext.formulas.images import PSNR_CEILING, peak_signal_to_noise
from monai_ext.handlers.engine import Engine
from monai_ext.losses.energy import patch_distance, patch_energy

__all__ = ["LatentAlarm", "SampleScores"]

ALIVE = 0.01  # nats that a channel of the latent carries for each low-resolution pixel

_logger = logging.getLogger(__name__)


class LatentAlarm:
    """Warns when the latent of a `BayesianSRResNet` carries nothing, or when its samples are all alike.

    Once an epoch it reads what `BayesianAdversarialTrainer` watches. Collapsed: all channels together carry less than
    `threshold` nats for each low-resolution pixel, so that the posterior says nothing that the prior does not know.
    Alike: the distance between two samples is below `share` of their distance to the original, where it should be as
    large. Each must hold in `patience` epochs in a row before it is reported, and is reported again after as many.
    Curves, after each epoch: `train_active_latents`, the channels with more than 0.01 nats, and `train_sample_share`.

    Args:
        summary_writer: where to write; None: only warn.
        threshold: nats.
        share: in [0, 1).
        patience: epochs.
        interval: iterations between two measurements.
    """

    def __init__(
        self,
        *,
        summary_writer: SummaryWriter | None = None,
        threshold: float = 0.02,
        share: float = 0.1,
        patience: int = 3,
        interval: int = 1,
    ):
        if threshold < 0 or not 0 <= share < 1 or min(patience, interval) < 1:
            raise ValueError(
                f"threshold={threshold}, share={share}, patience={patience}, interval={interval}: threshold must be at "
                "least 0, share in [0, 1), the others at least 1."
            )
        self.summary_writer = summary_writer
        self.threshold, self.share, self.patience, self.interval = threshold, share, patience, interval
        self._rows: list[Tensor] = []
        self._lasting = {"collapsed": 0, "alike": 0}

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, lambda: self._rows.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED(every=self.interval), self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._judge)

    def _collect(self, engine: Engine) -> None:
        terms = engine.state.output["terms"]
        channels = [value for name, value in terms.items() if name.startswith("kl_")]
        self._rows.append(torch.stack([terms["sample_distance"], terms["sample_error"], *channels]))

    def _judge(self, engine: Engine) -> None:
        if not self._rows:  # an epoch shorter than the interval
            self._collect(engine)
        distance, error, *channels = torch.stack(self._rows).mean(0).tolist()
        active, share = sum(value > ALIVE for value in channels), distance / max(error, 1e-12)
        if self.summary_writer is not None:
            for name, value in (("train_active_latents", active), ("train_sample_share", share)):
                self.summary_writer.add_scalar(name, value, engine.state.epoch)
        found = {"collapsed": sum(channels) < self.threshold, "alike": share < self.share}
        sentences = {
            "collapsed": f"the latent has collapsed, its {len(channels)} channels carry {sum(channels):.4f} nats for "
            "each low-resolution pixel: lower --beta, lengthen --beta_warm_up, or raise --free_nats",
            "alike": f"the samples of an image are all alike, {share:.1%} as far from each other as from the original: "
            "raise --energy_weight, or lower --adversarial_weight and --content_weight",
        }
        for name, holds in found.items():
            self._lasting[name] = self._lasting[name] + 1 if holds else 0
            if self._lasting[name] and self._lasting[name] % self.patience == 0:
                _logger.warning(
                    f"after epoch {engine.state.epoch}, for {self._lasting[name]} epochs in a row: {sentences[name]}."
                )


class SampleScores:
    """Scores of the samples of `SampledEvaluator`, as metrics at every validation; for the evaluator's handlers.

    Means over images, of all ranks; list it before the handlers that show metrics or choose checkpoints:

    * `val_energy_db`: -20 log10 of the energy score, as a PSNR is of the root mean square error: higher is better. For
      samples that are all alike it is about the PSNR of any of them; diversity that is right raises it;
    * `val_sample_psnr`, and with a perceptual distance `val_sample_perceptual`: of the first sample;
    * `val_sample_lr_psnr`: of the reduced samples against the input, after rounding, the lowest of an image;
    * `val_sample_share`: distance between samples over their distance to the original, 1 where samples are like
      originals;
    * `val_energy_gain_db`: by how much `val_energy_db` beats the prediction alone.

    Args:
        degradation: with the method `reduce`; None leaves out `val_sample_lr_psnr`.
        perceptual: function of image and target (B, C, H, W) -> (B,).
        levels: samples are rounded to multiples of 1 / levels before they are reduced.
        patch: of the energy score.
        prefix: of the metrics' names.
    """

    def __init__(
        self,
        *,
        degradation: Any = None,
        perceptual: Callable[[Tensor, Tensor], Tensor] | None = None,
        levels: int = 255,
        patch: int = 8,
        prefix: str = "val_",
    ):
        self.degradation, self.perceptual, self.levels = degradation, perceptual, levels
        self.patch, self.prefix = patch, prefix
        self._rows: list[dict[str, Tensor]] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, lambda: self._rows.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    @torch.no_grad()
    def _collect(self, engine: Engine) -> None:
        low_res, label, prediction, samples = (engine.state.output[key] for key in ("image", "label", "pred", SAMPLES))
        error, distance = patch_energy(samples, label, patch=self.patch)
        row = {
            "energy": error - distance / 2,
            "point": patch_distance(prediction, label, patch=self.patch),
            "distance": distance,
            "error": error,
            "sample_psnr": peak_signal_to_noise(samples[:, 0], label).clamp(max=PSNR_CEILING),
        }
        if self.degradation is not None:
            rounded = (samples.double() * self.levels).round() / self.levels
            gaps = [peak_signal_to_noise(self.degradation.reduce(each), low_res) for each in rounded.unbind(1)]
            row["sample_lr_psnr"] = torch.stack(gaps).amin(0).clamp(max=PSNR_CEILING)
        if self.perceptual is not None:
            row["sample_perceptual"] = self.perceptual(samples[:, 0], label)
        self._rows.append(row)

    def _write(self, engine: Engine) -> None:
        if not self._rows:
            return
        own = {name: torch.cat([row[name].double() for row in self._rows]) for name in self._rows[0]}
        columns = {name: evenly_divisible_all_gather(values, concat=True) for name, values in own.items()}
        means = dict(zip(columns, torch.stack([values.mean() for values in columns.values()]).tolist(), strict=True))
        energy, point, distance, error = (means.pop(name) for name in ("energy", "point", "distance", "error"))
        scores = {
            "energy_db": -20 * math.log10(max(energy, 1e-5)),
            "energy_gain_db": 20 * math.log10(max(point, 1e-5) / max(energy, 1e-5)),
            "sample_share": distance / max(error, 1e-12),
        }
        engine.state.metrics.update({f"{self.prefix}{name}": value for name, value in (scores | means).items()})
