"""Networks that know what they do not know, asked for everything that is scored: a mean, kinds of variance, samples."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import torch
from ignite.engine import Events
from monai.inferers import Inferer
from torch import Tensor

from monai_ext.engines.batch_engines import BatchEvaluator

__all__ = ["KINDS", "AnswersWithUncertainty", "UncertaintyEvaluator", "UncertaintyInferer"]

KINDS = ("total", "aleatoric", "ambiguity", "epistemic")


class AnswersWithUncertainty(Protocol):
    """What is asked of a network, for instance of `monai_ext.networks.BayesianSRResNet`."""

    def uncertainty(
        self, low_res: Tensor, *, weight_samples: int, latent_samples: int, generator: torch.Generator | None
    ) -> dict[str, Tensor]:
        """ "mean" and the variances `KINDS`, (B, C, H, W) each."""
        ...

    def sample(self, low_res: Tensor, n: int, *, generator: torch.Generator | None) -> Tensor:
        """Plausible answers, (B, n, C, H, W)."""
        ...


class UncertaintyInferer(Inferer):
    """Returns what `network.uncertainty` does, float32, and "samples" (B, n, C, H, W) unless n is 0.

    Args:
        weight_samples, latent_samples: of the uncertainty: how many weights, and for each how many latents.
        samples: n.
        seed: of all draws; `restart` begins the same draws again.

    Raises:
        ValueError: no draw, or a negative number of samples.
    """

    def __init__(self, *, weight_samples: int = 4, latent_samples: int = 8, samples: int = 10, seed: int = 0):
        if weight_samples < 1 or latent_samples < 1 or samples < 0:
            raise ValueError(
                f"weight_samples={weight_samples} and latent_samples={latent_samples} must be at least 1, "
                f"samples={samples} at least 0."
            )
        self.weight_samples, self.latent_samples = weight_samples, latent_samples
        self.samples, self.seed = samples, seed
        self.restart()

    def restart(self) -> None:
        """Draw the first numbers again, as at the beginning of each validation."""
        self.generator = torch.Generator().manual_seed(self.seed)

    def __call__(self, inputs: Tensor, network: AnswersWithUncertainty, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        draws = {"weight_samples": self.weight_samples, "latent_samples": self.latent_samples}
        answers = network.uncertainty(inputs, **draws, generator=self.generator)
        answers = {name: answers[name].float() for name in ("mean", *KINDS)}
        if self.samples:
            answers["samples"] = network.sample(inputs, self.samples, generator=self.generator).float()
        return answers


class UncertaintyEvaluator(BatchEvaluator):
    """`BatchEvaluator` whose prediction is what `UncertaintyInferer` returns; every run draws the same numbers.

    Args:
        inferer: an `UncertaintyInferer`.
        kwargs: as for `BatchEvaluator`.
    """

    def __init__(
        self,
        device: torch.device | str,
        val_data_loader: Iterable,
        network: torch.nn.Module,
        *,
        inferer: UncertaintyInferer,
        **kwargs: Any,
    ):
        super().__init__(device, val_data_loader, network, inferer=inferer, **kwargs)
        self.add_event_handler(Events.EPOCH_STARTED, lambda: inferer.restart())
