"""Probabilistic U-Net (Kohl et al. 2018, arXiv:1806.05034): a U-Net conditioned on a latent variable.

A prior net reads the image, a posterior net image and one rater's mask; each gives an axis-aligned Gaussian over a
latent of six numbers. One latent gives one coherent mask.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from monai.networks.layers.factories import Conv
from monai.networks.nets import BasicUNet
from monai.networks.nets.basic_unet import Down, TwoConv
from torch import Tensor, nn

from monai_ext.networks.latent import as_gaussian, bounded_gaussian, latent_at
from monai_ext.networks.level_plan import LevelPlan, plan_levels, shape_basic_unet, shape_block
from monai_ext.networks.rater_sampler import LatentSampling
from monai_ext.networks.sampling import crop_like, pad_to_multiples

__all__ = ["ProbabilisticUNet"]

LEAK = 0.1  # of the combination
LOG_SIGMA_LIMIT = 8.0  # |log sigma| stays below: sigma between 3e-4 and 3e3 keeps the divergence finite


class _LatentGaussian(nn.Module):
    """The way down of a U-Net, mean over pixels, linear: (B, C, *spatial) -> (B, 2, latent), mean and log sigma."""

    def __init__(self, in_channels: int, features: Sequence[int], plan: LevelPlan, *, latent: int, norm: str | tuple):
        super().__init__()
        dims = len(plan.multiples)
        stages: list[nn.Module] = [TwoConv(dims, in_channels, features[0], "RELU", norm, bias=True)]
        for before, after in pairwise(features):
            stages.append(Down(dims, before, after, "RELU", norm, bias=True))
        if not plan.is_isotropic:
            for stage, kernel, stride in zip(stages, plan.kernels, [(1,) * dims, *plan.strides], strict=True):
                shape_block(stage, kernel, stride)
        self.stages = nn.Sequential(*stages)
        self.axes = list(range(2, 2 + dims))
        self.linear = nn.Linear(features[-1], 2 * latent)
        self.limit = LOG_SIGMA_LIMIT  # an attribute, because TorchScript sees no globals

    def forward(self, x: Tensor) -> Tensor:
        return bounded_gaussian(as_gaussian(self.linear(self.stages(x).mean(dim=self.axes))), self.limit)


class _Combination(nn.Module):
    """1x1 convolutions on features (B, F, *spatial) with the latent (B, latent) beside them in every pixel -> logits.

    The first convolution is split into its two sums: that of the features is the same for all samples, that of the
    latent the same for all pixels, and nothing has to be tiled.

    Leaky where the paper has plain ReLU: in a narrow network the early push to background, which most pixels are, can
    switch off for good every unit that indicates foreground, and no probability rises above one half again. For the
    same reason the last bias begins at the log odds of `foreground` (Lin et al. 2017, arXiv:1708.02002, section 3.3).
    """

    def __init__(self, features: int, *, spatial_dims: int, latent: int, layers: int, foreground: float, maps: int):
        super().__init__()
        conv = Conv["conv", spatial_dims]
        self.of_features = conv(features, features, 1)
        self.of_latent = nn.Linear(latent, features, bias=False)
        further: list[nn.Module] = [nn.LeakyReLU(LEAK)]
        for _ in range(layers - 1):
            further += [conv(features, features, 1), nn.LeakyReLU(LEAK)]
        last = conv(features, maps, 1)
        if last.bias is not None:
            nn.init.constant_(last.bias, math.log(foreground / (1 - foreground)))
        self.further = nn.Sequential(*further, last)

    def forward(self, features: Tensor, latent: Tensor) -> Tensor:
        return self.combine(self.of_features(features), latent)

    def combine(self, projected: Tensor, latent: Tensor) -> Tensor:
        """Logits (B, maps, *spatial) from what `of_features` made of the features."""
        shift = self.of_latent(latent)
        for _ in range(projected.ndim - 2):
            shift = shift.unsqueeze(-1)
        return self.further(projected + shift)


class ProbabilisticUNet(LatentSampling):
    """Image (B, C, *spatial) -> logits (B, 1, *spatial) of one sample drawn from the prior; any sides >= 1.

    U-Net, prior and posterior are MONAI's `BasicUNet` and its way down: five levels and two convolutions in each, where
    the paper has seven and three. No InstanceNorm in the latter two: it removes the means over pixels, which are all
    that the Gaussian is made of. Sides that are not multiples of 16 are padded with the border's values and cropped.

    Args:
        in_channels: image channels C.
        features: widths of the five levels; the paper's first five are the default.
        latent: numbers in the latent variable.
        combination_layers: hidden 1x1 convolutions after the latent is joined, of width `features[0]`.
        norm: MONAI's name of the normalisation.
        foreground: probability of foreground that the network begins with, in (0, 1); 0.5 in the paper. Near the share
            of foreground in the masks it saves the epochs in which only this share is learnt.
        spatial_dims: 2 for images, 3 for volumes.
        spacing: size of a voxel along each axis, for volumes of thick slices, see `plan_levels`.
        structures: number K, for logits and masks (B, K, *spatial) and samples (B, n, K, *spatial): one latent gives
            all K masks of a sample.

    Raises:
        ValueError: another number of widths than five, a count below 1, `foreground` outside (0, 1), or as
            `plan_levels`.
    """

    def __init__(
        self,
        in_channels: int = 1,
        features: Sequence[int] = (32, 64, 128, 192, 192),
        *,
        latent: int = 6,
        combination_layers: int = 3,
        norm: str | tuple = "batch",
        foreground: float = 0.02,
        spatial_dims: int = 2,
        spacing: Sequence[float] | None = None,
        structures: int | None = None,
    ):
        super().__init__()
        if not 0 < foreground < 1:
            raise ValueError(f"foreground={foreground} must be between 0 and 1.")
        features = tuple(features)
        if len(features) != 5 or min(in_channels, latent, combination_layers, *features) < 1:
            raise ValueError(
                f"features={features}, in_channels={in_channels}, latent={latent}, "
                f"combination_layers={combination_layers}: five widths, and all counts at least 1."
            )
        plan = plan_levels(spatial_dims, spacing=spacing)
        self.multiples = plan.multiples
        self.latent = latent
        self.structures = structures
        self.maps = structures or 1
        self.unet = BasicUNet(spatial_dims, in_channels, 1, features=(*features, features[0]), act="RELU", norm=norm)
        shape_basic_unet(self.unet, plan)
        self.unet.final_conv = nn.Identity()  # the combination takes its last features instead of its logits
        self.prior = _LatentGaussian(in_channels, features, plan, latent=latent, norm=norm)
        self.posterior = _LatentGaussian(in_channels + self.maps, features, plan, latent=latent, norm=norm)
        self.combination = _Combination(
            features[0], spatial_dims=spatial_dims, latent=latent, layers=combination_layers, foreground=foreground,
            maps=self.maps,
        )  # fmt: skip

    def forward(self, image: Tensor, mask: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        """Logits of a sample, or with a mask what the evidence lower bound is made of.

        Args:
            image: (B, C, *spatial).
            mask: of one rater, (B, 1, *spatial) of 0 and 1, for training: the latent is drawn from the posterior and
                the result is {"logits": (B, 1, *spatial), "prior": (B, 2, latent), "posterior": (B, 2, latent)}, the
                Gaussians as means [:, 0] and log sigmas [:, 1], float32; see `monai_ext.losses.ELBOLoss`. Not in
                TorchScript, where a function has one type of result.
            noise: (B, latent), standard normal numbers in place of the global generator's; zeros give the sample
                at the mean of the Gaussian.

        Raises:
            ValueError: the mask is not (B, 1, *spatial) as the image is.
        """
        padded = pad_to_multiples(image, self.multiples)
        features = self.unet(padded)
        prior = self.prior(padded)
        if mask is not None:
            if torch.jit.is_scripting():
                raise ValueError("a scripted network draws from its prior only: call it without mask.")
            else:
                return self._training_output(image, features, prior, mask, noise)
        return crop_like(self.combination(features, _sample(prior, noise)), image)

    @torch.jit.unused
    def _training_output(
        self, image: Tensor, features: Tensor, prior: Tensor, mask: Tensor, noise: Tensor | None
    ) -> Any:  # a dictionary of tensors; TorchScript allows `forward` one type of result
        expected = (image.shape[0], self.maps, *image.shape[2:])
        if mask.shape != expected:
            raise ValueError(f"mask {tuple(mask.shape)} must be {expected}: the mask of one rater for each image.")
        centred = mask.to(image.dtype) - 0.5
        posterior = self.posterior(pad_to_multiples(torch.cat([image, centred], dim=1), self.multiples))
        logits = self.combination(features, _sample(posterior, noise))
        return {"logits": crop_like(logits, image), "prior": prior, "posterior": posterior}

    def noise_sizes(self, image: Tensor) -> list[tuple[int, ...]]:
        return [(self.latent,)]

    def summary(self, image: Tensor) -> Tensor:
        """The prior's Gaussian (B, 2, latent)."""
        return self.prior(pad_to_multiples(image, self.multiples))

    def probabilities(
        self, image: Tensor, noise: list[Tensor], summary: Tensor | None = None
    ) -> tuple[Tensor | None, Tensor]:
        """Samples from the prior (B, n, *spatial); see `LatentSampling`.

        The U-Net, the prior and the first half of the combination run once; each sample costs the 1x1 convolutions
        after it. Memory beyond the result: the features of one sample.
        """
        padded = pad_to_multiples(image, self.multiples)
        prior = self.prior(padded) if summary is None else summary
        projected = crop_like(self.combination.of_features(self.unet(padded)), image)
        samples = image.new_empty((*noise[0].shape[:2], self.maps, *image.shape[2:]), dtype=torch.float32)
        for i, numbers in enumerate(noise[0].unbind(1)):
            logits = self.combination.combine(projected, latent_at(prior, numbers))
            samples[:, i] = logits.float().sigmoid()
        return None, samples[:, :, 0] if self.structures is None else samples


def _sample(gaussian: Tensor, noise: Tensor | None) -> Tensor:
    """The latent of this noise, or of noise from the global generator: (B, latent)."""
    if noise is None:
        noise = torch.randn_like(gaussian[:, 0])
    return latent_at(gaussian, noise)
