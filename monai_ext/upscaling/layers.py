"""Layers of a predictive distribution: mean, samples, bounds and the parts of the standard deviation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from monai_ext.metrics.conformal import Calibration
from monai_ext.networks.uncertain_sr import UncertainSuperResolution
from monai_ext.upscaling.counter_noise import CounterNoise
from monai_ext.upscaling.pixel_coding import PixelCoding

__all__ = ["DEVIATIONS", "LayerNetwork", "Layers", "encode_layers", "pixel_positions"]

DEVIATIONS = ("aleatoric", "ambiguity", "epistemic", "total")
WEIGHT_STREAM, SAMPLE_STREAM = 1, 2  # independent seeds for sampling weights


@dataclass(frozen=True)
class Layers:
    """Which layers are predicted beside the mean.

    Attributes:
        samples: number of plausible high-resolution images.
        bounds: calibration of the interval of every value; None for none.
        uncertainty: the standard deviations `DEVIATIONS`, of which `total` is that of all three parts together.
        weight_samples, latent_samples: T samples of the weights with L of the latent each, for bounds and uncertainty.
        seed: of all samples.
        epistemic: whether that part is among the deviations; a single network of deterministic weights has none.

    Raises:
        ValueError: a negative number of samples, or less than one of weights or latents.
    """

    samples: int = 0
    bounds: Calibration | None = None
    uncertainty: bool = False
    weight_samples: int = 8
    latent_samples: int = 4
    seed: int = 0
    epistemic: bool = True

    def __post_init__(self) -> None:
        if self.samples < 0 or min(self.weight_samples, self.latent_samples) < 1:
            raise ValueError(
                f"samples={self.samples} must not be negative, weight_samples={self.weight_samples} and "
                f"latent_samples={self.latent_samples} must be at least 1."
            )

    @property
    def names(self) -> list[str]:
        """All layers in their order.

        >>> Layers(samples=2, uncertainty=True).names
        ['mean', 'sample 1', 'sample 2', 'aleatoric', 'ambiguity', 'epistemic', 'total']
        """
        samples = [f"sample {number + 1}" for number in range(self.samples)]
        bounds = [] if self.bounds is None else ["lower", "upper"]
        return ["mean", *samples, *bounds, *self.deviations]

    @property
    def deviations(self) -> tuple[str, ...]:
        """The standard deviations among them, the last ones."""
        found = DEVIATIONS if self.epistemic else tuple(name for name in DEVIATIONS if name != "epistemic")
        return found if self.uncertainty else ()

    @property
    def needs_variance(self) -> bool:
        """Whether bounds or uncertainty are among the layers."""
        return self.uncertainty or self.bounds is not None

    def dtype(self, dtype: np.dtype) -> np.dtype:
        """The type of strips for pixels of `dtype`: standard deviations are not rounded."""
        return np.result_type(dtype, np.float32) if self.uncertainty else dtype


class LayerNetwork:
    """Windows of an image and their positions -> the layers, identical wherever the image is cut.

    All windows share the noise of one `CounterNoise` and the same samples of the weights.

    Args:
        network: in evaluation mode; its weights are replaced during sampling, so no two threads may share it.
        layers: what is predicted.

    Raises:
        ValueError: the network predicts a single image, or there is no layer beside the mean.
    """

    def __init__(self, network: Callable[..., Tensor], layers: Layers):
        if not isinstance(network, UncertainSuperResolution):
            raise ValueError(
                f"{type(network).__name__} predicts a single image: samples, bounds and uncertainty need a network "
                "such as BayesianSRResNet."
            )
        if len(layers.names) < 2:
            raise ValueError("no layer beside the mean: choose samples, bounds or uncertainty.")
        self.network, self.layers = network, layers
        channels = network.latent_channels
        self.noise = CounterNoise(channels, seed=layers.seed) if channels else None

    @torch.no_grad()
    def __call__(self, low_res: Tensor, positions: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, layers * C, s h, s w), float32: layer after layer in the order of `Layers.names`.

        Samples and bounds are clipped to [0, 1]; standard deviations are on that scale.

        Args:
            positions: (B, 2, h, w), see `pixel_positions`.
        """
        found: list[Tensor] = []
        if self.layers.samples:
            found += self._samples(low_res, positions)
        if self.layers.needs_variance:
            parts = self._parts(low_res, positions)
            mean = parts["mean"]
            if self.layers.bounds is not None:
                found += self.layers.bounds.apply(mean, parts[self.layers.bounds.kind])
            if self.layers.uncertainty:
                found += [parts[name].clamp(min=0).sqrt() for name in self.layers.deviations]
        else:
            mean = self.network(low_res)
        return torch.cat([mean, *found], dim=1)

    def _samples(self, low_res: Tensor, positions: Tensor) -> list[Tensor]:
        count = self.layers.samples
        if self.noise is None:
            samples = self.network.sample(low_res, count, generator=self._generator(SAMPLE_STREAM))
            return list(samples.clamp(0, 1).unbind(1))
        moments = self.network.moments(low_res, _noise_at(self.noise, positions, 0, count))
        return [mean.clamp(0, 1) for mean, _ in moments]

    def _parts(self, low_res: Tensor, positions: Tensor) -> dict[str, Tensor]:
        weights, latents = self.layers.weight_samples, self.layers.latent_samples
        noise = None
        if self.noise is not None:
            # Images of the layers "sample" have numbers from 0 on, these negative ones.
            noise = _noise_at(self.noise, positions, -weights * latents, 0).unflatten(1, (weights, latents))
        return self.network.uncertainty(
            low_res,
            weight_samples=weights,
            latent_samples=latents,
            generator=self._generator(WEIGHT_STREAM),
            noise=noise,
        )

    def _generator(self, stream: int) -> torch.Generator:
        return torch.Generator().manual_seed(2 * self.layers.seed + stream)


def _noise_at(noise: CounterNoise, positions: Tensor, first: int, last: int) -> Tensor:
    """(B, last - first, Z, h, w): samples number `first` to `last` - 1 of the noise."""
    windows = []
    for rows, columns in zip(positions[:, 0, :, 0], positions[:, 1, 0], strict=True):
        windows.append(torch.stack([noise.at(number, rows, columns) for number in range(first, last)]))
    return torch.stack(windows)


def pixel_positions(top: int, bottom: int, width: int, *, left: int = 0) -> Tensor:
    """Row and column of the pixels in rows [top, bottom) and `width` columns: (1, 2, bottom - top, width), int64."""
    columns = torch.arange(left, left + width)
    return torch.stack(torch.meshgrid(torch.arange(top, bottom), columns, indexing="ij"))[None]


def encode_layers(channels: Tensor, coding: PixelCoding, layers: Layers) -> Tensor:
    """Pixels (N, layers * bands + alpha, h, w) of all layers, see `PixelCoding.encode`; of the type `layers.dtype`.

    Args:
        channels: (N, layers * bands + alpha + validity, h, w).
    """
    names, bands = layers.names, coding.bands
    # Validity beside alpha serves the filling of windows; it marks nothing in the output, of whatever type.
    validity = coding.validity if coding.marks_missing else 0
    values = replace(coding, dtype=layers.dtype(coding.dtype), validity=validity)
    deviations = replace(values, low=0.0, high=coding.high - coding.low)
    rest = channels[:, len(names) * bands : channels.shape[1] - coding.validity + validity]
    planes = []
    for number, name in enumerate(names):
        layer = torch.cat([channels[:, number * bands : (number + 1) * bands], rest], dim=1)
        planes.append((deviations if name in DEVIATIONS else values).encode(layer))
    alpha = planes[0][:, bands:]
    if coding.opaque != values.opaque:
        alpha = alpha * (coding.opaque / values.opaque)
    return torch.cat([*(layer[:, :bands] for layer in planes), alpha], dim=1)
