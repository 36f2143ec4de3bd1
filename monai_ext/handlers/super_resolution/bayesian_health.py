"""Scores of samples at every validation, and warnings of a collapsed latent or of samples that are all alike."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from monai.utils import evenly_divisible_all_gather
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from monai_ext.engines.bayesian import SAMPLES
from monai_ext.formulas.images import PSNR_CEILING, peak_signal_to_noise, rounded
from monai_ext.handlers.engine import Engine
from monai_ext.handlers.epochs import Alarm, EpochHandler
from monai_ext.handlers.training.tensorboard import step_of
from monai_ext.losses.energy import patch_distance, patch_energy

__all__ = ["LatentAlarm", "SampleScores"]

ALIVE = 0.01  # nats that a channel of the latent carries for each low-resolution pixel


class LatentAlarm(Alarm):
    """Warns when the latent of a `BayesianSRResNet` carries nothing, or when its samples are all alike.

    From the terms of `BayesianAdversarialTrainer`. Collapsed: all channels together carry less than `threshold` nats
    for each low-resolution pixel, so that the posterior equals the prior. Alike: the distance between two samples is
    below `share` of their distance to the original, where it should be as large. Curves, after each epoch:
    `health/active_latents`, the channels with more than 0.01 nats, and `health/sample_share`.

    Args:
        summary_writer: where to write; None: only warn.
        threshold: nats.
        share: in [0, 1).
        patience, interval: see `Alarm`.
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
        super().__init__(patience=patience, interval=interval)
        if threshold < 0 or not 0 <= share < 1:
            raise ValueError(f"threshold={threshold} must be at least 0, and share={share} in [0, 1).")
        self.summary_writer, self.threshold, self.share = summary_writer, threshold, share

    def collect(self, engine: Engine) -> None:
        terms = engine.state.output["terms"]
        channels = [value for name, value in terms.items() if name.startswith("kl_")]
        self.rows.append(torch.stack([terms["sample_distance"], terms["sample_error"], *channels]))

    def judge(self, engine: Engine) -> dict[str, str | None]:
        distance, error, *channels = torch.stack(self.rows).mean(0).tolist()
        active, share = sum(value > ALIVE for value in channels), distance / max(error, 1e-12)
        if self.summary_writer is not None:
            for name, value in (("health/active_latents", active), ("health/sample_share", share)):
                self.summary_writer.add_scalar(name, value, step_of(engine))
        collapsed = (
            f"the latent has collapsed, its {len(channels)} channels carry {sum(channels):.4f} nats for each "
            "low-resolution pixel: lower --beta, lengthen --beta_warm_up, or raise --free_nats"
        )
        alike = (
            f"the samples of an image are all alike, {share:.1%} as far from each other as from the original: raise "
            "--energy_weight, or lower --adversarial_weight and --content_weight"
        )
        return {
            "collapsed": collapsed if sum(channels) < self.threshold else None,
            "alike": alike if share < self.share else None,
        }


class SampleScores(EpochHandler):
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
        levels: samples are rounded to multiples of 1 / levels before they are reduced, unless batches have "levels".
        patch: of the energy score.
    """

    def __init__(
        self,
        *,
        degradation: Any = None,
        perceptual: Callable[[Tensor, Tensor], Tensor] | None = None,
        levels: int = 255,
        patch: int = 8,
    ):
        self.degradation, self.perceptual, self.levels = degradation, perceptual, levels
        self.patch = patch
        self._rows: list[dict[str, Tensor]] = []

    def reset(self, engine: Engine) -> None:
        self._rows.clear()

    @torch.no_grad()
    def collect(self, engine: Engine) -> None:
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
            files = rounded(samples, self.levels, own=engine.state.output.get("levels"))
            gaps = [peak_signal_to_noise(self.degradation.reduce(each), low_res) for each in files.unbind(1)]
            row["sample_lr_psnr"] = torch.stack(gaps).amin(0).clamp(max=PSNR_CEILING)
        if self.perceptual is not None:
            row["sample_perceptual"] = self.perceptual(samples[:, 0], label)
        self._rows.append(row)

    def finish(self, engine: Engine) -> None:
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
        engine.state.metrics.update({f"val_{name}": value for name, value in (scores | means).items()})
