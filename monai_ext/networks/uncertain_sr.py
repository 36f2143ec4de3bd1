"""Super-resolution with uncertainty: the interface of all such networks, deterministic networks and ensembles.

Every such network is an `UncertainSuperResolution`: `sample(low_res, n)` returns n samples of the high resolution,
`uncertainty(low_res)` the mean and the parts of the variance, see `variance_parts`. Both run in evaluation mode without
gradients. A network subclasses it with `moments`, and with `weight_samples` where its weights do not come from the
layers of `variational`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from itertools import chain
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from monai_ext.formulas.images import LinearReduction
from monai_ext.networks.projection import ConsistencyProjection
from monai_ext.networks.sampling import check_count, evaluation_mode, normal_noise
from monai_ext.networks.variance_parts import combine_samples, summarise_latents
from monai_ext.networks.variational import drawn_weights, has_uncertain_weights

__all__ = ["PointSuperResolution", "UncertainSuperResolution", "WeightEnsemble"]


class UncertainSuperResolution(nn.Module):
    """Low resolution (B, C, h, w) -> several high resolutions (B, C, s h, s w); values in [0, 1] on both sides.

    Attributes:
        scale: s.
        latent_channels: Z; a latent is made from standard normal noise (B, Z, h, w). 0: there is none.
    """

    if TYPE_CHECKING:  # annotations of the class itself would have to be TorchScript's
        scale: int
        latent_channels: int

    def moments(self, low_res: Tensor, noise: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Mean and variance, (B, C, s h, s w) each, float32, of the output for each latent of `noise` in turn.

        Args:
            noise: (B, L, Z, h, w), standard normal.
        """
        raise NotImplementedError

    def distinct_weights(self) -> int | None:
        """Number of different samples of the weights: 1 for deterministic ones, None for a continuous distribution."""
        return None if has_uncertain_weights(self) else 1

    def draw_weights(
        self, generator: torch.Generator | None = None
    ) -> AbstractContextManager[UncertainSuperResolution]:
        """Inside `with network.draw_weights(generator) as drawn:`, `drawn` computes with one sample of the weights."""
        return drawn_weights(self, generator)

    def weight_samples(
        self, count: int, generator: torch.Generator | None = None
    ) -> Generator[UncertainSuperResolution, None, None]:
        """The network with `count` samples of its weights, one after the other; each is valid until the next."""
        for _ in range(count):
            with self.draw_weights(generator) as drawn:
                yield drawn

    def draw_noise(self, low_res: Tensor, count: int, generator: torch.Generator | None = None) -> Tensor:
        """(B, count, Z, h, w), standard normal, float32; a CPU generator serves any device."""
        batch, _, height, width = low_res.shape
        shape = (batch, count, self.latent_channels, height, width)
        return normal_noise(shape, device=low_res.device, generator=generator)

    def sample(self, low_res: Tensor, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """n samples of the high resolution, (B, n, C, s h, s w), float32.

        They differ by their latent, with the mean of the weights; without a latent, by samples of the weights.

        Raises:
            ValueError: n < 1.
        """
        check_count("n", n)
        with evaluation_mode(self):
            if self.latent_channels:
                means = (mean for mean, _ in self.moments(low_res, self.draw_noise(low_res, n, generator)))
                return _stacked(means, n)
            none = self.draw_noise(low_res, 1)
            with closing(self.weight_samples(n, generator)) as draws:
                return _stacked((next(drawn.moments(low_res, none))[0] for drawn in draws), n)

    def uncertainty(
        self,
        low_res: Tensor,
        *,
        weight_samples: int = 8,
        latent_samples: int = 4,
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """ "mean", and the variances "aleatoric", "ambiguity", "epistemic" and "total", (B, C, s h, s w) each, float32.

        See `monai_ext.networks.variance_parts` for what they are. Where fewer than T samples of the weights
        differ, each gets as many more latents, so that there are T L outputs in all; without a latent, one for each.

        Args:
            weight_samples: T.
            latent_samples: L, for each sample of the weights.
            generator: of the noise, then of the weights.
            noise: (B, T, L, Z, h, w), standard normal, instead of drawn noise: cut from the noise of a whole image, it
                makes tiles agree, and so does a generator of the same state for each tile.

        Raises:
            ValueError: T or L below 1, or noise of another shape.
        """
        check_count("weight_samples", weight_samples)
        check_count("latent_samples", latent_samples)
        batch, _, height, width = low_res.shape
        wanted = (batch, weight_samples, latent_samples, self.latent_channels, height, width)
        if noise is not None and noise.shape != wanted:
            raise ValueError(f"noise {tuple(noise.shape)} must be {wanted}: (B, T, L, Z, h, w).")
        groups = min(weight_samples, self.distinct_weights() or weight_samples)
        if self.latent_channels == 0:
            noise = low_res.new_empty((batch, groups, 0, height, width))
        elif noise is None:
            noise = self.draw_noise(low_res, weight_samples * latent_samples, generator)
        else:
            noise = noise.flatten(1, 2)
        each = noise.shape[1] // groups
        summaries = []
        with evaluation_mode(self), closing(self.weight_samples(groups, generator)) as draws:
            for i, drawn in enumerate(draws):
                means, variances = zip(*drawn.moments(low_res, noise[:, i * each : (i + 1) * each]), strict=True)
                summaries.append(summarise_latents(torch.stack(means), torch.stack(variances)))
        return combine_samples(summaries, latent_samples=each)


class PointSuperResolution(UncertainSuperResolution):
    """A network without a latent, such as `SRResNet`: all its uncertainty is in its weights.

    Samples differ by the weights (Monte-Carlo dropout, where they are `DropoutConv2d`s), or are all equal.

    Args:
        network: low resolution -> high resolution, with `scale`.
        operator: makes every output consistent, see `ConsistencyProjection`; None clips outputs to [0, 1] only.
    """

    latent_channels = 0

    def __init__(self, network: nn.Module, operator: LinearReduction | None = None):
        super().__init__()
        self.network = network
        self.scale = cast(int, network.scale)
        self.projection = None if operator is None else ConsistencyProjection(operator)

    def forward(self, low_res: Tensor) -> Tensor:
        high_res = self.network(low_res).float()
        if self.projection is None:
            return high_res.clamp(0.0, 1.0)
        return self.projection(high_res, low_res, True)

    def moments(self, low_res: Tensor, noise: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        mean = self(low_res)
        for _ in range(noise.shape[1]):
            yield mean, torch.zeros_like(mean)


class WeightEnsemble(UncertainSuperResolution):
    """Deep ensemble (Lakshminarayanan et al. 2017): a sample of the weights is one of the networks.

    All networks are taken once, in random order, before one is repeated.

    Args:
        networks: of one scale, band count and latent.

    Raises:
        ValueError: no network, the same one twice, or networks that do not fit together.
    """

    def __init__(self, networks: Sequence[UncertainSuperResolution]):
        super().__init__()
        kinds = {(network.scale, network.latent_channels) for network in networks}
        if len({id(network) for network in networks}) != len(networks) or len(kinds) != 1:
            raise ValueError(
                f"WeightEnsemble got {len(networks)} networks of (scale, latent_channels) {sorted(kinds)}: give one or "
                "more, each built by itself, that agree in both."
            )
        self.networks = nn.ModuleList(networks)
        self.scale, self.latent_channels = kinds.pop()

    def forward(self, low_res: Tensor, noise: Tensor | None = None) -> Tensor:
        """The mean of the networks' outputs; `noise` (B, Z, h, w) goes to each."""
        outputs = [network(low_res) if noise is None else network(low_res, noise) for network in self.networks]
        return torch.stack(outputs).mean(0)

    def moments(self, low_res: Tensor, noise: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Latent i goes to network i mod M."""
        members = self._members()
        shares = [member.moments(low_res, noise[:, m :: len(members)]) for m, member in enumerate(members)]
        for i in range(noise.shape[1]):
            yield next(shares[i % len(shares)])

    def _members(self) -> list[UncertainSuperResolution]:
        return cast(list[UncertainSuperResolution], list(self.networks))

    def distinct_weights(self) -> int | None:
        return None if has_uncertain_weights(self) else len(self.networks)

    @contextmanager
    def draw_weights(self, generator: torch.Generator | None = None) -> Iterator[UncertainSuperResolution]:
        with closing(self.weight_samples(1, generator)) as draws:
            yield next(draws)

    def weight_samples(
        self, count: int, generator: torch.Generator | None = None
    ) -> Generator[UncertainSuperResolution, None, None]:
        order: list[int] = []
        for _ in range(count):
            if not order:
                order = normal_noise((len(self.networks),), device="cpu", generator=generator).argsort().tolist()
            with self._members()[order.pop()].draw_weights(generator) as drawn:
                yield drawn


def _stacked(images: Iterator[Tensor], count: int) -> Tensor:
    """(B, count, ...) of `count` images (B, ...), without holding them twice."""
    first = next(images)
    stack = first.new_empty((first.shape[0], count, *first.shape[1:]))
    for i, image in enumerate(chain([first], images)):
        stack[:, i] = image
    return stack
