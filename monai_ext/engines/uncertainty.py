"""Inference with predictive uncertainty: the mean, the parts of its variance, and samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, cast

import torch
from ignite.engine import Events
from monai.inferers import Inferer
from torch import Tensor

from monai_ext.engines.batch_engines import BatchEvaluator

__all__ = ["KINDS", "UncertainNetwork", "UncertaintyEvaluator", "UncertaintyInferer"]

KINDS = ("total", "aleatoric", "ambiguity", "epistemic")


class UncertainNetwork(Protocol):
    """A network with a predictive distribution, for instance `monai_ext.networks.BayesianSRResNet`."""

    def uncertainty(
        self, low_res: Tensor, *, weight_samples: int, latent_samples: int, generator: torch.Generator | None
    ) -> dict[str, Tensor]:
        """ "mean" and the variances `KINDS`, (B, C, H, W) each."""
        ...

    def sample(self, low_res: Tensor, n: int, *, generator: torch.Generator | None) -> Tensor:
        """(B, n, C, H, W)."""
        ...


class UncertaintyInferer(Inferer):
    """Returns what `network.uncertainty` does, float32, and "samples" (B, n, C, H, W) unless n is 0.

    Args:
        weight_samples, latent_samples: behind the variances: samples of the weights, and of the latent for each.
        samples: n.
        seed: of all samples; `restart` begins the same ones again.

    Raises:
        ValueError: no sample of weights or latent, or a negative n.
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
        """Begin the same samples again, as at the beginning of each validation."""
        self.generator = torch.Generator().manual_seed(self.seed)

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        uncertain = cast(UncertainNetwork, network)
        parts = uncertain.uncertainty(
            inputs,
            weight_samples=self.weight_samples,
            latent_samples=self.latent_samples,
            generator=self.generator,
        )
        output = {name: parts[name].float() for name in ("mean", *KINDS)}
        if self.samples:
            output["samples"] = uncertain.sample(inputs, self.samples, generator=self.generator).float()
        return output


class UncertaintyEvaluator(BatchEvaluator):
    """`BatchEvaluator` whose prediction is what `UncertaintyInferer` returns; every run draws the same samples.

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
