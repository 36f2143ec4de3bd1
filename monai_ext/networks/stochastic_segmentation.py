"""Stochastic segmentation network (Monteiro et al. 2020, arXiv:2006.06015): a Gaussian over the logits of pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from monai_ext.networks.multi_rater import MapSampler
from monai_ext.networks.sampling import check_count, evaluation_mode, normal_noise, seeded_globals

__all__ = ["StochasticSegmentation", "expected_logit"]

LOG_DEVIATION = -3.0  # of the noise of single pixels, where training begins


class StochasticSegmentation(MapSampler):
    """Logits of a mask are a Gaussian of low rank: mean m, factors P (pixels x rank), single pixels sigma.

        logits = m + P e + sigma d,  e and d standard normal

    Features of the backbone give m, P and log sigma by a 1x1 convolution. The share of raters is the mean of the
    sigmoid, see `expected_logit`. Loss: `SampleLikelihoodLoss`, or `SampleEnergyLoss`.

    With test-time augmentation the three are averaged over the symmetries; a factor whose sign, which has no meaning,
    is turned in one of them is turned back.

    Args:
        network: image (B, C, *spatial) -> features (B, F, *spatial), for instance a `segmentation_backbone`.
        features: number of features F.
        rank: number of factors.
        train_samples: samples of a case in training.
        initial_logit: of the mean, where training begins.
        spatial_dims: 2 for images, 3 for volumes.
        spacing: has no effect: nothing is halved here.
        structures: number K, for samples (B, n, K, *spatial) whose structures have the Gaussian in common.

    Attributes:
        spread: of the samples, factor of all deviations from the mean; set after construction.

    Raises:
        ValueError: a count below 1.
    """

    spread = 1.0
    learns_from_samples = True

    def __init__(
        self,
        network: nn.Module,
        *,
        features: int,
        rank: int = 10,
        train_samples: int = 16,
        initial_logit: float = -3.0,
        spatial_dims: int = 2,
        spacing: Sequence[float] | None = None,
        structures: int | None = None,
    ):
        super().__init__()
        for name, value in (("features", features), ("rank", rank), ("train_samples", train_samples)):
            check_count(name, value)
        self.network = network
        self.train_samples = train_samples
        self.structures, maps = structures, structures or 1
        self.last = Conv["conv", spatial_dims](features, (2 + rank) * maps, 1)
        with torch.no_grad():
            bias = self.last.get_parameter("bias")
            bias[:maps], bias[maps : 2 * maps] = initial_logit, LOG_DEVIATION

    def forward(self, image: Tensor, target: Mapping[str, Tensor] | None = None) -> Any:
        """Logits of the share (B, 1, *spatial); with the target of a training also those of samples.

        Returns with `target`: {"share": (B, 1, *spatial), "logits": (B, n, *spatial)}.
        """
        maps = self._gaussian(image)
        if target is None:
            return expected_logit(maps)
        noise = torch.randn(len(maps), self.train_samples, maps.shape[1] - 2, device=maps.device)
        pixels = torch.randn(len(maps), self.train_samples, *maps.shape[2:], device=maps.device)
        return {"share": expected_logit(maps), "logits": _logits(maps, noise, pixels)}

    def maps(self, image: Tensor) -> Tensor:
        """Mean, log sigma and factors, (B, 2 + rank, *spatial), with structures (B, 2 + rank, K, *spatial), float32."""
        with evaluation_mode(self):
            return self._gaussian(image)

    def averaged(self, maps: Sequence[Tensor]) -> Tensor:
        first = maps[0][:, 2:].flatten(2)
        total = torch.zeros_like(maps[0])
        for part in maps:
            sign = (first * part[:, 2:].flatten(2)).sum(2) < 0
            factors = torch.where(sign[(..., *[None] * (part.ndim - 2))], -part[:, 2:], part[:, 2:])
            total = total + torch.cat([part[:, :2], factors], dim=1)
        return total / len(maps)

    def share(self, maps: Tensor) -> Tensor:
        return expected_logit(maps).sigmoid()

    def draw(self, maps: Tensor, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        samples = []
        for case in maps.split(1):  # the factors are drawn first, so that all parts of an image have the same
            factors = normal_noise((1, n, maps.shape[1] - 2), device=maps.device, generator=generator)
            with seeded_globals(generator, maps.device):
                pixels = torch.randn(1, n, *maps.shape[2:], device=maps.device)
            samples.append(_logits(case, self.spread * factors, self.spread * pixels).sigmoid())
        return torch.cat(samples)

    def _gaussian(self, image: Tensor) -> Tensor:
        maps = self.last(self.network(image).relu()).float()
        return maps.unflatten(1, (-1, self.structures)) if self.structures else maps


def _logits(maps: Tensor, noise: Tensor, pixels: Tensor) -> Tensor:
    """Samples (B, n, *spatial) of the maps (B, 2 + rank, *spatial) by noise (B, n, rank) and (B, n, *spatial)."""
    mean, log_deviation, factors = maps[:, :1], maps[:, 1:2], maps[:, 2:]
    return mean + torch.einsum("bnr,br...->bn...", noise, factors) + log_deviation.exp() * pixels


def expected_logit(maps: Tensor) -> Tensor:
    """Logit of the mean of sigmoid(x), x normal: about m / sqrt(1 + pi v / 8) (MacKay 1992), (B, 1, *spatial).

    Args:
        maps: mean m, log sigma and factors P of a pixel, (B, 2 + rank, *spatial); v = sigma^2 + |P|^2.
    """
    variance = (2 * maps[:, 1:2]).exp() + maps[:, 2:].square().sum(1, keepdim=True)
    return maps[:, :1] / (1 + math.pi / 8 * variance).sqrt()
