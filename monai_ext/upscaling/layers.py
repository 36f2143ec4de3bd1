"""What a network that knows several answers says of an image, as layers: mean, samples, bounds, parts of its doubt."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from monai_ext.metrics.conformal import Calibration
from monai_ext.networks.uncertain_sr import UncertainSuperResolution
from monai_ext.upscaling.counter_noise import CounterNoise

__all__ = ["LayerNetwork", "Layers", "SPREADS"]

SPREADS = ("aleatoric", "ambiguity", "epistemic", "total")
WEIGHT_STREAM, SAMPLE_STREAM = 1, 2  # seeds of the draws of weights, apart from each other


@dataclass(frozen=True)
class Layers:
    """Which layers are asked for, beside the mean.

    Attributes:
        samples: number of images that could be the original.
        bounds: what the interval of every value is made by; None for none.
        uncertainty: the standard deviations `SPREADS`, of which `total` is that of all three parts together.
        weight_samples, latent_samples: T draws of the weights with L of the latent each, behind bounds and uncertainty.
        seed: of all draws.

    Raises:
        ValueError: fewer than no samples, or less than one draw.
    """

    samples: int = 0
    bounds: Calibration | None = None
    uncertainty: bool = False
    weight_samples: int = 8
    latent_samples: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.samples < 0 or min(self.weight_samples, self.latent_samples) < 1:
            raise ValueError(
                f"samples={self.samples} must not be negative, weight_samples={self.weight_samples} and "
                f"latent_samples={self.latent_samples} must be at least 1."
            )

    @property
    def names(self) -> list[str]:
        """Of all layers in their order.

        >>> Layers(samples=2, uncertainty=True).names
        ['mean', 'sample 1', 'sample 2', 'aleatoric', 'ambiguity', 'epistemic', 'total']
        """
        samples = [f"sample {number + 1}" for number in range(self.samples)]
        bounds = [] if self.bounds is None else ["lower", "upper"]
        return ["mean", *samples, *bounds, *(SPREADS if self.uncertainty else ())]

    @property
    def needs_variance(self) -> bool:
        """Whether bounds or uncertainty are asked for."""
        return self.uncertainty or self.bounds is not None


class LayerNetwork:
    """A window of an image and where it lies -> its layers, the same wherever the image is cut.

    All windows see the noise of one `CounterNoise` and the same draws of the weights.

    Args:
        network: in evaluation mode; its weights are replaced for the time of a draw, so no two threads may share it.
        layers: what is asked of it.
    """

    def __init__(self, network: UncertainSuperResolution, layers: Layers):
        self.network, self.layers = network, layers
        channels = network.latent_channels
        self.noise = CounterNoise(channels, seed=layers.seed) if channels else None

    @torch.no_grad()
    def __call__(self, low_res: Tensor, positions: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, layers * C, s h, s w), float32: layer after layer in the order of `Layers.names`.

        Samples and bounds are clipped to [0, 1]; the spreads are standard deviations on that scale.

        Args:
            positions: (B, 2, h, w), row and column of every pixel in its image, int64.
        """
        found = []
        if self.layers.samples:
            found += self._samples(low_res, positions)
        if self.layers.needs_variance:
            parts = self._parts(low_res, positions)
            mean = parts["mean"]
            if self.layers.bounds is not None:
                found += self.layers.bounds.apply(mean, parts[self.layers.bounds.kind])
            if self.layers.uncertainty:
                found += [parts[name].clamp(min=0).sqrt() for name in SPREADS]
        else:
            mean = self.network(low_res)
        return torch.cat([mean, *found], dim=1)

    def _samples(self, low_res: Tensor, positions: Tensor) -> list[Tensor]:
        count = self.layers.samples
        if self.noise is None:
            drawn = self.network.sample(low_res, count, generator=self._generator(SAMPLE_STREAM))
            return list(drawn.clamp(0, 1).unbind(1))
        moments = self.network.moments(low_res, self._noise(positions, 0, count))
        return [mean.clamp(0, 1) for mean, _ in moments]

    def _parts(self, low_res: Tensor, positions: Tensor) -> dict[str, Tensor]:
        weights, latents = self.layers.weight_samples, self.layers.latent_samples
        noise = None
        if self.noise is not None:
            # The draws of samples are numbered from 0 on, these from the other end.
            noise = self._noise(positions, -weights * latents, 0).unflatten(1, (weights, latents))
        return self.network.uncertainty(
            low_res,
            weight_samples=weights,
            latent_samples=latents,
            generator=self._generator(WEIGHT_STREAM),
            noise=noise,
        )

    def _noise(self, positions: Tensor, first: int, last: int) -> Tensor:
        """(B, last - first, Z, h, w): draws number `first` to `last` - 1 of the field."""
        windows = []
        for rows, columns in zip(positions[:, 0, :, 0], positions[:, 1, 0], strict=True):
            windows.append(torch.stack([self.noise.at(draw, rows, columns) for draw in range(first, last)]))
        return torch.stack(windows)

    def _generator(self, stream: int) -> torch.Generator:
        return torch.Generator().manual_seed(2 * self.layers.seed + stream)
