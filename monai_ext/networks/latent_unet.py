"""Probabilistic U-Net on any backbone: a common map of the raters, and masks that a latent variable makes of it.

After Kohl et al. (2018, arXiv:1806.05034), mended where it loses: prior and posterior read the features of the backbone
instead of the image, and where the share of raters is in doubt instead of everywhere; all raters of a case are learnt
in one step; and the share of raters has a map of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from monai.networks.layers.factories import Conv, Pool
from torch import Tensor, nn

from monai_ext.networks.latent import as_gaussian, bounded_gaussian
from monai_ext.networks.level_plan import LevelPlan, plan_levels
from monai_ext.networks.rater_sampler import LatentSampling
from monai_ext.networks.sampling import check_count, crop_like, pad_to_multiples

__all__ = ["LatentUNet", "resized_maps", "same_convolution"]

LOG_SIGMA_LIMIT = 5.0
WIDTHS = (32, 64)  # of the convolutions that summarise features
LEVEL = 1.3  # deviation of the logit of the samples, where training begins
LEAST_DOUBT = 1e-3  # weight of a pixel of which the share is sure


class LatentUNet(LatentSampling):
    """A network conditioned on a latent variable of few numbers: one latent, one coherent mask.

    Features f of the backbone give the logit of the share of raters, and with the latent z that of a mask:

        share = common(f),  mask(z) = share + level(z) + upsample(residual(leaky((1 + gain) * pool(f) + shift))),
        (gain, shift) = modulation(z),  level(z) = linear in z.

    The level begins as 1.3 times the first number of z, so that samples are level sets of the share from the first
    step on, and the posterior is of use at once: without it the latent stays unused in trainings of minutes.

    z is drawn from a Gaussian that the prior reads from f, in training from the posterior, which reads f and what the
    mask of one rater adds to the share, see `RaterELBOLoss`. Both are means over pixels weighted by p (1 - p), p being
    the share: most pixels are background to all raters, and would leave nothing of their differences in a plain mean.
    Without a posterior z is drawn from the prior in training as well, for losses of samples such as `SampleEnergyLoss`.

    Args:
        network: image (B, C, *spatial) -> features (B, F, *spatial), for instance a `segmentation_backbone`.
        features: number of features F.
        latent: numbers in the latent variable.
        posterior: whether there is one.
        train_samples: without posterior, samples of a case in training.
        initial_logit: of all maps, where training begins.
        spatial_dims, spacing, structures: see `ConditionedHeads`; one latent makes the masks of all structures.

    Raises:
        ValueError: a count below 1.
    """

    learns_from_samples = True

    def __init__(
        self,
        network: nn.Module,
        *,
        features: int,
        latent: int = 6,
        posterior: bool = True,
        train_samples: int = 8,
        initial_logit: float = -3.0,
        spatial_dims: int = 2,
        spacing: Sequence[float] | None = None,
        structures: int | None = None,
    ):
        super().__init__()
        for name, value in (("features", features), ("latent", latent), ("train_samples", train_samples)):
            check_count(name, value)
        plan = plan_levels(spatial_dims, halvings=len(WIDTHS) + 1, spacing=spacing)
        conv, maps = Conv["conv", spatial_dims], structures or 1
        self.network = network
        self.latent, self.train_samples, self.structures = latent, train_samples, structures
        self.factors = plan.strides[0]
        self.pool = Pool["avg", spatial_dims](self.factors)
        self.common = conv(features, maps, 1)
        self.prior = _Gaussian(features, latent, plan)
        self.posterior = _Gaussian(features + maps, latent, plan) if posterior else None
        self.modulation = nn.Linear(latent, 2 * features)
        self.level = nn.Linear(latent, maps, bias=False)
        self.residual = nn.Sequential(
            nn.LeakyReLU(0.1),
            same_convolution(features, features, plan.kernels[1]),
            nn.LeakyReLU(0.1),
            conv(features, maps, 1),
        )
        nn.init.constant_(self.common.get_parameter("bias"), initial_logit)
        with torch.no_grad():
            self.level.weight.zero_()[:, 0] = LEVEL

    def forward(self, image: Tensor, target: Mapping[str, Tensor] | None = None) -> Any:
        """Logits of the share (B, 1, *spatial), or with the target of a training what its loss needs.

        Returns with `target`, {"masks": (B, R, *spatial), "presence": (B, R)}: {"share": (B, 1, *spatial), "logits": of
        masks, (B, n, *spatial)}. With a posterior n is R, logits r are of the latent of rater r, and there are "prior"
        (B, 2, latent) and "posterior" (B, R, 2, latent), means and log sigmas. With structures all maps are
        (B, ..., K, *spatial).
        """
        features = self.network(image)
        share = self._share(features)
        if target is None:
            return share
        pooled, probability = self._pooled(features), self._probability(share)
        doubt = probability * (1 - probability)
        prior = self.prior(pooled, doubt)
        if self.posterior is None:
            noise = torch.randn(len(image), self.train_samples, self.latent, device=image.device)
            return {"share": share, "logits": self._masks(share, pooled, _at(prior[:, None], noise))}
        masks = target["masks"]
        cases, raters = masks.shape[:2]
        masks = masks.flatten(0, 1) if self.structures else masks.flatten(0, 1)[:, None]
        added = self._pooled(masks.to(pooled.dtype)) - probability.repeat_interleave(raters, dim=0)
        repeated, doubt = (maps.repeat_interleave(raters, dim=0) for maps in (pooled, doubt))
        posterior = self.posterior(torch.cat([repeated, added], dim=1), doubt).unflatten(0, (cases, raters))
        logits = self._masks(share, pooled, _at(posterior, torch.randn_like(posterior[:, :, 0])))
        return {"share": share, "logits": logits, "prior": prior, "posterior": posterior}

    def noise_sizes(self, image: Tensor) -> list[tuple[int, ...]]:
        return [(self.latent,)]

    def summary(self, image: Tensor) -> Tensor:
        """The prior's Gaussian (B, 2, latent)."""
        features = self.network(image)
        probability = self._probability(self._share(features))
        return self.prior(self._pooled(features), probability * (1 - probability))

    def probabilities(
        self, image: Tensor, noise: list[Tensor], summary: Tensor | None = None
    ) -> tuple[Tensor | None, Tensor]:
        features = self.network(image)
        share, pooled = self._share(features), self._pooled(features)
        if summary is None:
            probability = self._probability(share)
            summary = self.prior(pooled, probability * (1 - probability))
        latent = _at(summary[:, None], noise[0])
        samples = [self._masks(share, pooled, part).float().sigmoid() for part in latent.split(8, dim=1)]
        return share.float().sigmoid(), torch.cat(samples, dim=1)

    def _share(self, features: Tensor) -> Tensor:
        """Logits (B, 1, *spatial), with structures (B, 1, K, *spatial)."""
        share = self.common(features.relu())
        return share[:, None] if self.structures else share

    def _probability(self, share: Tensor) -> Tensor:
        """The share, (B, K, *spatial / 2), without gradients."""
        maps = share[:, 0] if self.structures else share
        return self._pooled(maps.detach().sigmoid())

    def _pooled(self, maps: Tensor) -> Tensor:
        return self.pool(pad_to_multiples(maps, list(self.factors)))

    def _masks(self, share: Tensor, pooled: Tensor, latent: Tensor) -> Tensor:
        """Logits (B, n, *spatial) of the latents (B, n, Z)."""
        numbers = self.modulation(latent)
        gain, shift = numbers[(..., *[None] * (pooled.ndim - 2))].chunk(2, dim=2)  # (B, n, F, 1, 1[, 1])
        modulated = pooled[:, None] * (1 + gain) + shift
        residual = self.residual(modulated.flatten(0, 1))
        size = [factor * side for factor, side in zip(self.factors, residual.shape[2:], strict=True)]
        residual = crop_like(resized_maps(residual, size), share[:, 0] if self.structures else share)
        residual = residual.unflatten(0, modulated.shape[:2])  # (B, n, K, *spatial)
        residual = residual + self.level(latent)[(..., *[None] * len(size))]
        return share + (residual if self.structures else residual[:, :, 0])


class _Gaussian(nn.Module):
    """Strided convolutions, weighted mean, a linear layer: (B, F, *spatial) -> (B, 2, latent), mean and log sigma."""

    def __init__(self, features: int, latent: int, plan: LevelPlan):
        super().__init__()
        layers: list[nn.Module] = []
        for place, width in enumerate(WIDTHS, 1):
            layers += [same_convolution(features, width, plan.kernels[place], plan.strides[place]), nn.LeakyReLU(0.1)]
            features = width
        self.layers = nn.Sequential(*layers)
        self.linear = nn.Linear(features, 2 * latent)

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        """Weights (B, K, *spatial) are added up over K."""
        maps = self.layers(x)
        pool: Callable[..., Tensor] = F.adaptive_avg_pool2d if x.ndim == 4 else F.adaptive_avg_pool3d
        weight = pool(weight, maps.shape[2:])
        weight = (weight.sum(1, keepdim=True) + LEAST_DOUBT).flatten(2)
        mean = (maps.flatten(2) * weight).sum(2) / weight.sum(2)
        return bounded_gaussian(as_gaussian(self.linear(mean)), LOG_SIGMA_LIMIT)


def _at(gaussian: Tensor, noise: Tensor) -> Tensor:
    """Latents (B, n, Z) of Gaussians (B, n or 1, 2, Z)."""
    return gaussian[:, :, 0] + gaussian[:, :, 1].exp() * noise


def same_convolution(
    in_channels: int, out_channels: int, kernel: Sequence[int], stride: Sequence[int] | int = 1
) -> nn.Module:
    """A convolution whose output has the size of its input, divided by the stride."""
    padding = tuple(side // 2 for side in kernel)
    return Conv["conv", len(kernel)](in_channels, out_channels, tuple(kernel), stride=stride, padding=padding)


def resized_maps(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps (B, n, *spatial), linearly resized."""
    return F.interpolate(maps, list(size), mode="bilinear" if maps.ndim == 4 else "trilinear")
