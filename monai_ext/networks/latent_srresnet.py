"""A generator with a latent variable: many high resolutions for one low resolution, with the variance of each pixel.

A conditional variational autoencoder (Sohn et al. 2015) around a generator of single images: prior p(z | LR) and
posterior q(z | LR, HR) are Gaussians at every low-resolution pixel, the decoder predicts the mean of every value, and
this is projected onto the images that reduce to the input exactly. The scale of the remaining noise is predicted from
the input alone: the likelihood is trained on latents of the posterior, and leaves what depends on those of the prior
arbitrary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Independent

from monai_ext.formulas.images import LinearReduction
from monai_ext.formulas.likelihoods import family_of
from monai_ext.networks.gated_sr_net import GatedSRNet
from monai_ext.networks.latent import as_distribution, as_gaussian, bounded_gaussian, latent_at
from monai_ext.networks.projection import ConsistencyProjection
from monai_ext.networks.srresnet import ResidualBlock, SRResNet, SubPixelNetwork
from monai_ext.networks.uncertain_sr import UncertainSuperResolution
from monai_ext.networks.variational import bayesian_convolution
from monai_ext.runtime.settings import as_bool, chosen

__all__ = ["BayesianSRResNet", "bayesian_srresnet"]

READING_SIZE = 9  # of the convolution on the latent, as that of the generator on the image
DETAIL_GAIN = 10.0  # detail is about a tenth of the range of an image
LOG_SIGMA_LIMIT = 5.0
LOG_SCALE_RANGE = (-7.0, 0.0)  # a quarter of an 8-bit level, and the whole range
FIRST_SCALE = 0.05


class BayesianSRResNet(UncertainSuperResolution):
    """Low resolution (B, C, h, w) in [0, 1] -> high resolution (B, C, s h, s w), many of them; any h and w >= 1.

    The generator's body runs once for all samples of the latent; a sample costs the texture blocks and the generator's
    last layers. Before training the output is that of the generator, but for the projection.

    Args:
        generator: `SRResNet` or `GatedSRNet` with as many bands out as in; its weights may come from a trained one,
            unchanged.
        operator: the reduction that every output must agree with, such as `monai_ext.transforms.Degradation`, of the
            generator's scale.
        latent_channels: Z, numbers of the latent at each low-resolution pixel.
        texture_blocks: residual blocks between latent and image.
        likelihood: of a value around its mean: "laplace" or "gaussian".
        wide_scale: read the scale of the noise from 13 x 13 pixels of the features by several layers, instead of from
            3 x 3 by one: how large errors are depends on the kind of texture around.
        conv: kind of the convolutions in the texture blocks, see `monai_ext.networks.variational`; pass the same to an
            `SRResNet`.
        iterations: of projection and clipping in evaluation mode, see `ConsistencyProjection`.

    Raises:
        ValueError: a count below 1, another likelihood, or parts of differing scales or bands.
    """

    def __init__(
        self,
        generator: SubPixelNetwork,
        operator: LinearReduction,
        *,
        latent_channels: int = 8,
        texture_blocks: int = 2,
        likelihood: str = "laplace",
        wide_scale: bool | str = False,
        conv: Callable[..., nn.Module] = nn.Conv2d,
        iterations: int = 4,
    ):
        super().__init__()
        bands, out = generator.channels
        if bands != out or generator.scale != operator.scale:
            raise ValueError(
                f"the generator makes {out} bands of {bands} at scale {generator.scale}, the operator has scale "
                f"{operator.scale}: bands and scales must agree."
            )
        if min(latent_channels, texture_blocks) < 1:
            raise ValueError(f"latent_channels={latent_channels} and texture_blocks={texture_blocks} are at least 1.")
        features, scale = generator.features, generator.scale
        values = bands * scale**2  # of the high resolution, for each low-resolution pixel
        self.scale, self.latent_channels = scale, latent_channels
        self.likelihood, self.variance_factor = likelihood, family_of(likelihood, argument="likelihood").variance_factor
        self.log_sigma_limit = LOG_SIGMA_LIMIT  # attributes, because TorchScript sees no globals
        self.log_scale_range = LOG_SCALE_RANGE
        self.generator = generator
        self.prior_net = _gaussian_head(features, features, latent_channels)
        self.posterior_net = nn.Sequential(
            nn.Conv2d(features + values, features, 3, padding=1),
            nn.PReLU(),
            ResidualBlock(features, norm=None, conv=nn.Conv2d),
            *_gaussian_head(features, features, latent_channels),
        )
        self.reading = nn.Conv2d(latent_channels, features, READING_SIZE, padding=READING_SIZE // 2)
        self.texture = nn.Sequential(
            conv(features, features, 3, padding=1, bias=True),
            nn.PReLU(),
            *(ResidualBlock(features, norm=None, conv=conv) for _ in range(texture_blocks)),
            nn.Conv2d(features, features, 3, padding=1),
        )
        reading = _wide_reading(features) if as_bool(wide_scale, "wide_scale") else []
        size = 1 if reading else 3
        self.scale_net = nn.Sequential(
            *reading, nn.Conv2d(features, values, size, padding=size // 2), nn.PixelShuffle(scale)
        )
        self.projection = ConsistencyProjection(operator, iterations)
        for layer in (self.prior_net[-1], self.texture[-1], self.scale_net[-2]):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)
        nn.init.constant_(dict(self.scale_net[-2].named_parameters())["bias"], math.log(FIRST_SCALE))

    def forward(
        self, low_res: Tensor, noise: Tensor | None = None, high_res: Tensor | None = None, samples: int = 0
    ) -> Tensor:
        """The high resolution for one latent, which reduces to the input exactly; or the terms of the training loss.

        In evaluation mode it is within [0, 1] and reduces to the input up to a small gap, see `ConsistencyProjection`.

        Args:
            low_res: (B, C, h, w).
            noise: (B, Z, h, w), standard normal: the latent is mean + sigma * noise of the prior; None: its mean. Noise
                drawn for a whole image and cut as the image is makes tiles of one coherent sample.
            high_res: the original, (B, C, s h, s w), for training; not in TorchScript. The latent is drawn from the
                posterior, and the result is a dictionary, float32: "mean" and "log_scale" (B, C, s h, s w), "prior" and
                "posterior" (B, 2, Z, h, w), means [:, 0] and log sigmas [:, 1], and "samples" (B, samples, C, s h, s w)
                of samples from the prior.
            samples: with `high_res`, how many of those.

        Raises:
            ValueError: noise or high_res of another shape.
        """
        if high_res is not None:
            if torch.jit.is_scripting():
                raise ValueError("a scripted network draws from its prior only: call it without high_res.")
            else:
                return self._training_output(low_res, high_res, noise, samples)
        deep = self.generator.encode(low_res)
        prior = self._prior(deep)
        mean = self._render(deep, self._latent(prior, noise), low_res)
        return self.projection(mean, low_res, not self.training)

    @torch.jit.unused
    def _training_output(
        self, low_res: Tensor, high_res: Tensor, noise: Tensor | None, samples: int
    ) -> Any:  # a dictionary of tensors; TorchScript allows `forward` one type of result
        deep = self.generator.encode(low_res)
        prior = self._prior(deep)
        posterior = self._posterior(deep, prior, low_res, high_res)
        batch, _, channels, height, width = prior.shape
        noises = torch.randn((samples + 1, batch, channels, height, width), device=low_res.device)
        if noise is not None:
            noises[0] = noise
        latents = torch.cat([self._latent(posterior, noises[0]), *(self._latent(prior, each) for each in noises[1:])])
        # all latents as one batch: that of the posterior first, then the samples
        repeated = low_res.repeat(samples + 1, 1, 1, 1)
        detailed = self._detailed(deep.repeat(samples + 1, 1, 1, 1), latents)
        images = self.projection(self.generator.upscale(detailed, repeated).float(), repeated).unflatten(0, (-1, batch))
        output = {
            "mean": images[0],
            "log_scale": self._log_scale(deep),
            "prior": prior,
            "posterior": posterior,
        }
        if samples:
            output["samples"] = images[1:].transpose(0, 1)
        return output

    def prior(self, low_res: Tensor) -> Independent:
        """p(z | LR), a distribution over (B, Z, h, w)."""
        return as_distribution(self._prior(self.generator.encode(low_res)))

    def posterior(self, low_res: Tensor, high_res: Tensor) -> Independent:
        """q(z | LR, HR), a distribution over (B, Z, h, w)."""
        deep = self.generator.encode(low_res)
        return as_distribution(self._posterior(deep, self._prior(deep), low_res, high_res))

    def decode(self, low_res: Tensor, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log scale of every value given the latent (B, Z, h, w): (B, C, s h, s w) each, float32.

        The mean reduces to the input exactly; it is not clipped.
        """
        deep = self.generator.encode(low_res)
        return self.projection(self._render(deep, latent, low_res), low_res), self._log_scale(deep)

    def moments(self, low_res: Tensor, noise: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """See `UncertainSuperResolution`: means as `forward` gives them in evaluation mode."""
        deep = self.generator.encode(low_res)
        prior = self._prior(deep)
        variance = self.variance_factor * (2 * self._log_scale(deep)).exp()
        for each in noise.unbind(1):
            mean = self._render(deep, self._latent(prior, each), low_res)
            yield self.projection(mean, low_res, True), variance

    def _render(self, deep: Tensor, latent: Tensor, low_res: Tensor) -> Tensor:
        return self.generator.upscale(self._detailed(deep, latent), low_res).float()

    def _detailed(self, deep: Tensor, latent: Tensor) -> Tensor:
        """The generator's features (B, F, h, w) with what the latent decides."""
        return deep + self.texture(deep + self.reading(latent))

    def _log_scale(self, deep: Tensor) -> Tensor:
        """From the input alone: training shows the likelihood latents of the posterior, not those of samples."""
        low, high = self.log_scale_range
        return self.scale_net(deep).float().clamp(low, high)

    def _prior(self, deep: Tensor) -> Tensor:
        return bounded_gaussian(as_gaussian(self.prior_net(deep)), self.log_sigma_limit)

    def _posterior(self, deep: Tensor, prior: Tensor, low_res: Tensor, high_res: Tensor) -> Tensor:
        expected = [low_res.shape[0], low_res.shape[1], *(self.scale * side for side in low_res.shape[2:])]
        if list(high_res.shape) != expected:
            raise ValueError(
                f"high_res {tuple(high_res.shape)} must be {tuple(expected)}, {self.scale} times the low resolution."
            )
        upscaled = F.interpolate(low_res, scale_factor=float(self.scale), mode="bicubic", align_corners=False)
        detail = F.pixel_unshuffle(DETAIL_GAIN * (high_res - upscaled), self.scale)
        # As a difference to the prior (Vahdat & Kautz 2020): where it is zero, the divergence is zero.
        difference = as_gaussian(self.posterior_net(torch.cat([deep, detail.to(deep)], dim=1)))
        return bounded_gaussian(prior + difference, self.log_sigma_limit)

    def _latent(self, gaussian: Tensor, noise: Tensor | None) -> Tensor:
        mean = gaussian[:, 0]
        if noise is None:
            return mean
        if noise.shape != mean.shape:
            raise ValueError(f"noise {noise.shape} must be {mean.shape}: (B, Z, h, w), as the latent.")
        return latent_at(gaussian, noise)


def _wide_reading(features: int) -> list[nn.Module]:
    def depthwise(spread: int) -> nn.Module:
        return nn.Conv2d(features, features, 5, padding=2 * spread, dilation=spread, groups=features)

    return [nn.Conv2d(features, features, 1), nn.PReLU(), depthwise(1), nn.PReLU(), depthwise(2), nn.PReLU()]


def _gaussian_head(channels: int, features: int, latent_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, features, 3, padding=1),
        nn.PReLU(),
        nn.Conv2d(features, 2 * latent_channels, 3, padding=1),
    )


def bayesian_srresnet(
    channels: int,
    operator: LinearReduction,
    *,
    generator_name: str = "srresnet",
    features: int = 48,
    blocks: int = 12,
    norm: str | tuple | None = None,
    residual: bool | str = True,
    upsampling: str = "direct",
    latent_channels: int = 8,
    texture_blocks: int = 2,
    likelihood: str = "laplace",
    wide_scale: bool | str = False,
    weight_uncertainty: str = "none",
    dropout: float = 0.1,
) -> BayesianSRResNet:
    """A `BayesianSRResNet` around a generator of the operator's scale.

    Args:
        channels: of image and output.
        generator_name: "srresnet", whose convolutions are of the same kind as those of the texture blocks, or "gated",
            a `GatedSRNet`, whose weights are deterministic.
        features, blocks, residual: see `SRResNet` or `GatedSRNet`.
        norm, upsampling: of `SRResNet`.
        operator, latent_channels, texture_blocks, likelihood, wide_scale: see `BayesianSRResNet`.
        weight_uncertainty, dropout: see `bayesian_convolution`.

    Raises:
        ValueError: another generator, or uncertain weights for a gated one.
    """
    conv = bayesian_convolution(weight_uncertainty, dropout=dropout)
    size: dict[str, Any] = {"features": features, "blocks": blocks, "scale": operator.scale, "residual": residual}
    makers: dict[str, Callable[[], SubPixelNetwork]] = {
        "srresnet": lambda: SRResNet(channels, channels, **size, norm=norm, upsampling=upsampling, conv=conv),
        "gated": lambda: GatedSRNet(channels, channels, **size),
    }
    maker = chosen(makers, generator_name=generator_name)
    if generator_name == "gated" and weight_uncertainty != "none":
        raise ValueError(
            f"generator_name='gated' has deterministic weights: weight_uncertainty={weight_uncertainty!r} needs "
            "'srresnet'."
        )
    return BayesianSRResNet(
        maker(),
        operator,
        latent_channels=latent_channels,
        texture_blocks=texture_blocks,
        likelihood=likelihood,
        wide_scale=wide_scale,
        conv=conv,
    )
