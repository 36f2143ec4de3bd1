"""Convolutions with a distribution over their weights, for the argument `conv=` of networks.

Both kinds are `nn.Conv2d`s with its parameter names, so that weights of a network of plain convolutions load into them.
In evaluation they compute with their mean weights; inside `drawn_weights` with one sample of them, the same for all
pixels and all calls, so that all tiles of an image are computed by the same network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_ext.formulas.gaussians import gaussian_kl
from monai_ext.networks.sampling import normal_noise
from monai_ext.runtime.settings import chosen

__all__ = [
    "DropoutConv2d",
    "StochasticConv2d",
    "VariationalConv2d",
    "bayesian_convolution",
    "drawn_weights",
    "has_uncertain_weights",
    "weight_divergence",
]


Network = TypeVar("Network", bound=nn.Module)


class StochasticConv2d(nn.Conv2d):
    """A convolution whose weights can be sampled, as `drawn_weights` does."""

    def draw_weight(self, generator: torch.Generator | None = None) -> Tensor:
        """A sample of the weights, shaped as `weight`; a CPU generator serves any device."""
        raise NotImplementedError


class DropoutConv2d(StochasticConv2d):
    """Convolution that drops whole channels of its input (Tompson et al. 2015; Gal and Ghahramani 2016).

    A sample of its weights has those of the dropped channels at zero and the others at weight / (1 - rate).

    Args:
        args, kwargs: as for `nn.Conv2d`.
        rate: probability with which a channel is dropped, in training anew for each image.
        fewest: a layer that reads fewer channels drops none: an image's bands are too few to lose one.

    Raises:
        ValueError: the rate is not in [0, 1).
    """

    def __init__(self, *args: Any, rate: float = 0.1, fewest: int = 16, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"rate={rate} must be in [0, 1).")
        self.rate = float(rate) if self.in_channels >= fewest else 0.0

    def forward(self, input: Tensor) -> Tensor:
        if self.training and self.rate > 0:
            input = F.dropout2d(input, self.rate, True)
        return self._conv_forward(input, self.weight, self.bias)

    def draw_weight(self, generator: torch.Generator | None = None) -> Tensor:
        if self.rate == 0:
            return self.weight.detach()
        source = self.weight.device if generator is None else generator.device
        uniform = torch.rand(self.weight.shape[1], device=source, generator=generator).to(self.weight.device)
        return self.weight.detach() * ((uniform >= self.rate) / (1 - self.rate)).to(self.weight)[None, :, None, None]


class VariationalConv2d(StochasticConv2d):
    """Convolution with a Gaussian for each weight: mean `weight`, deviation exp(`log_deviation`).

    After Blundell et al. (2015), *Weight Uncertainty in Neural Networks*. Training draws the weights once for all
    places of an image, as `draw_weight` does; each image's draw is made of one for the batch by random signs (Flipout,
    Wen et al. 2018, arXiv:1803.04386). Noise drawn for each place, as by the local reparametrisation, would average out
    over the places and leave weights far too uncertain. The bias is deterministic. The prior of every weight is a
    Gaussian of mean 0.

    Args:
        args, kwargs: as for `nn.Conv2d`.
        deviation: of the weights at the beginning, as a share of the deviation with which `nn.Conv2d` draws them.
        prior: deviation of the prior as a share of the same.

    Raises:
        ValueError: one of them is not above 0.
    """

    def __init__(self, *args: Any, deviation: float = 0.05, prior: float = 2.0, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if not deviation > 0 or not prior > 0:
            raise ValueError(f"deviation={deviation} and prior={prior} must be above 0.")
        usual = 1 / math.sqrt(3 * self.weight[0].numel())  # of the uniform numbers that nn.Conv2d begins with
        self.prior_deviation = prior * usual
        self.log_deviation = nn.Parameter(torch.full_like(self.weight, math.log(deviation * usual)))

    def forward(self, input: Tensor) -> Tensor:
        mean = self._conv_forward(input, self.weight, self.bias)
        if not self.training:
            return mean
        change = self.log_deviation.exp() * torch.randn_like(self.log_deviation)
        change = self._conv_forward(input * _signs(input), change, None)
        return mean + change * _signs(change)

    def draw_weight(self, generator: torch.Generator | None = None) -> Tensor:
        noise = normal_noise(self.weight.shape, device=self.weight.device, generator=generator).to(self.weight)
        return self.weight.detach() + self.log_deviation.detach().exp() * noise

    def divergence(self) -> Tensor:
        """KL(weights || prior) of all weights together, in nats, a scalar."""
        return gaussian_kl(self.weight, self.log_deviation, 0.0, math.log(self.prior_deviation)).sum()


def _signs(maps: Tensor) -> Tensor:
    """-1 or 1 by chance for each channel of each image, (B, C, 1, 1)."""
    return torch.randint(0, 2, (*maps.shape[:2], 1, 1), device=maps.device, dtype=maps.dtype) * 2 - 1


def bayesian_convolution(weight_uncertainty: str, *, dropout: float = 0.1) -> Callable[..., nn.Conv2d]:
    """Kind of convolution for the argument `conv=` of a network, by name.

    Args:
        weight_uncertainty: "none", "dropout" or "variational".
        dropout: rate of `DropoutConv2d`.

    Raises:
        ValueError: another name.
    """
    kinds: dict[str, Callable[..., nn.Conv2d]] = {
        "none": nn.Conv2d,
        "dropout": partial(DropoutConv2d, rate=dropout),
        "variational": VariationalConv2d,
    }
    return chosen(kinds, weight_uncertainty=weight_uncertainty)


def has_uncertain_weights(module: nn.Module) -> bool:
    """Whether samples of its weights differ."""
    return any(isinstance(m, StochasticConv2d) and getattr(m, "rate", 1) > 0 for m in module.modules())


def weight_divergence(module: nn.Module) -> Tensor | float:
    """The sum of `VariationalConv2d.divergence` over its layers; 0 without such."""
    return sum(m.divergence() for m in module.modules() if isinstance(m, VariationalConv2d))


@contextmanager
def drawn_weights(module: Network, generator: torch.Generator | None = None) -> Iterator[Network]:
    """Inside the block every `StochasticConv2d` of `module` computes with one sample of its weights, without gradients.

    Use it in evaluation mode, and from one thread at a time: the weights themselves are replaced inside the block.
    The same state of the generator gives the same sample.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, StochasticConv2d)]
    means = [layer.weight.data for layer in layers]
    try:
        for layer in layers:
            layer.weight.data = layer.draw_weight(generator)
        yield module
    finally:
        for layer, mean in zip(layers, means, strict=True):
            layer.weight.data = mean
