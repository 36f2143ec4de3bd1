"""Samples of the masks that raters would draw: the interface of all networks for several raters, and baselines.

Every network for several raters is a `RaterSampler`: `sample(image, n)` returns n probability maps
(B, n, H, W) in [0, 1], so that one evaluator serves them all. Their mean over n is the predicted probability map,
`> 0.5` makes each a mask. `sample` runs in evaluation mode without gradients and restores the modes of all layers; with
a `generator` the same state gives the same samples, without one the global generator of the device is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_ext.formulas.checks import check_not_negative
from monai_ext.networks.sampling import check_count, evaluation_mode, noise_by_case, pad_to_multiple, seeded_globals

__all__ = [
    "ConditionedHeads",
    "ConsensusNet",
    "DeepEnsemble",
    "HeadSampling",
    "LevelSetNet",
    "MapSampler",
    "MonteCarloDropout",
    "OrderedHeads",
    "RaterEnsemble",
    "RaterHeads",
    "RaterSampler",
    "draw_heads",
    "level_sets",
]


@runtime_checkable
class RaterSampler(Protocol):
    """A stochastic segmentation network."""

    per_rater: bool
    """Whether logit map r of `forward` belongs to rater r; only then is there a Dice per rater."""

    def __call__(self, image: Tensor) -> Tensor:
        """Logits (B, heads, H, W) of an image (B, C, H, W)."""
        ...

    def sample(self, image: Tensor, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """n probability maps of foreground, (B, n, H, W), float32, n >= 1."""
        ...


def draw_heads(probability: Tensor, n: int, *, generator: torch.Generator | None = None) -> Tensor:
    """n of the maps of each case, (B, heads, H, W) -> (B, n, H, W), each head as often as any other, give or take one.

    Sample i is head i mod heads as long as whole rounds last; the n mod heads samples that remain are different heads,
    drawn at random for each case. So n = heads gives every head once, without randomness.

    Raises:
        ValueError: n < 1.
    """
    check_count("n", n)
    batch, heads = probability.shape[:2]
    device = probability.device
    rounds = torch.arange(heads, device=device).repeat(n // heads).expand(batch, -1)
    if n % heads:
        noise = noise_by_case(batch, (heads,), device=device, generator=generator)
        rounds = torch.cat([rounds, noise.argsort(dim=1)[:, : n % heads]], dim=1)
    return probability[torch.arange(batch, device=device)[:, None], rounds]


def level_sets(probability: Tensor, n: int, *, spread: float = 1.0) -> Tensor:
    """Nested masks of 0 and 1 of a map (B, 1, H, W), the largest first: (B, n, H, W), float32.

    Mask i is [p > l_i] with logit(l_i) = spread * logit((i + 1/2) / n): with a spread of 1 the mean of the masks is p
    rounded to 1/n; with less they lie closer to [p > 1/2], with more they lie further apart.

    >>> level_sets(torch.tensor([[[[0.1, 0.3, 0.8]]]]), 2).tolist()
    [[[[0.0, 1.0, 1.0]], [[0.0, 0.0, 1.0]]]]

    Raises:
        ValueError: n < 1, or more than one map.
    """
    check_count("n", n)
    places = (torch.arange(n, device=probability.device) + 0.5) / n
    levels = places if spread == 1 else (spread * places.logit()).sigmoid()
    return (_single_map(probability) > levels[:, None, None]).float()


class MapSampler(nn.Module):
    """Base of networks whose samples are functions of their probability maps: `maps` once, then `share` and `draw`.

    The maps can be averaged over flips and quarter turns before samples are drawn from them, see `RaterInferer`.
    """

    def maps(self, image: Tensor) -> Tensor:
        """Probabilities (B, heads, H, W), float32, in evaluation mode and without gradients."""
        with evaluation_mode(self):
            return self(image).float().sigmoid()

    def share(self, maps: Tensor) -> Tensor:
        """Predicted share of raters who mark a pixel, (B, 1, H, W)."""
        return maps.mean(1, keepdim=True)

    def draw(self, maps: Tensor, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """n samples (B, n, H, W) from `maps`."""
        raise NotImplementedError

    def sample(self, image: Tensor, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Samples (B, n, H, W): see `RaterSampler` and `draw`."""
        check_count("n", n)
        return self.draw(self.maps(image), n, generator=generator)


class HeadSampling(MapSampler):
    """Base of networks with several heads: a sample is the map of one head, drawn by `draw_heads`.

    With a `spread` above 0, set after construction, the samples are level sets of the heads, n / heads of each, see
    `level_sets`: the doubt of each head then counts as well as the difference of the heads. These are not random; n =
    heads gives the mask of each head.
    """

    spread = 0.0

    def draw(self, maps: Tensor, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        if self.spread == 0:
            return draw_heads(maps, n, generator=generator)
        check_count("n", n)
        heads = maps.split(1, dim=1)[:n]
        counts = [len(range(place, n, len(heads))) for place in range(len(heads))]
        sets = [level_sets(head, count, spread=self.spread) for head, count in zip(heads, counts, strict=True)]
        return torch.cat(sets, dim=1)


class ConsensusNet(MapSampler):
    """A network with one map, as trained on the majority vote: all its samples are equal.

    Args:
        network: image (B, C, H, W) -> logits (B, 1, H, W), for instance MONAI's `BasicUNet`.
    """

    per_rater = False

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        return _single_map(self.network(image))

    def draw(self, maps: Tensor, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """The map n times, as views of one map."""
        check_count("n", n)
        return maps.expand(-1, n, -1, -1)


class LevelSetNet(ConsensusNet):
    """A network trained on soft labels, whose samples are level sets of its map p: sample i is [p > level i].

    If p is the share of raters who mark a pixel, and the raters' masks are nested, the level sets are these masks.
    Pixels sampled independently with probability p have the same mean, but are noise instead of outlines.

    Args:
        network: image (B, C, H, W) -> logits (B, 1, H, W).
        spread: of the levels, see `level_sets`; to be chosen on cases of which the raters' diversity is known.
    """

    def __init__(self, network: nn.Module, *, spread: float = 1.0):
        super().__init__(network)
        self.spread = check_not_negative("spread", spread)

    def draw(self, maps: Tensor, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Nested masks of 0 and 1, the largest first; not random."""
        return level_sets(maps, n, spread=self.spread)


class OrderedHeads(LevelSetNet):
    """A network with a head for each place in the order of the masks' sizes, smallest first, for anonymous raters.

    Head h of H learns the mask at the place (h + 1/2) / H of each case's masks in order of area, see `OrderedLoss`: an
    order that exists where raters are different people in each case. The mean of the heads is the share of raters, and
    the samples are its level sets.

    Args:
        network: image (B, C, H, W) -> logits (B, H, H, W).
        spread: see `LevelSetNet`.
    """

    def forward(self, image: Tensor) -> Tensor:
        return self.network(image)

    def draw(self, maps: Tensor, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        return level_sets(self.share(maps), n, spread=self.spread)


class RaterEnsemble(HeadSampling):
    """One network for each rater ("U-Net combined"): image (B, C, H, W) -> logits (B, R, H, W).

    Args:
        networks: R networks, each image -> logits (B, 1, H, W), with weights of their own.

    Raises:
        ValueError: no network, or the same object twice.
    """

    per_rater = True

    def __init__(self, networks: Sequence[nn.Module]):
        super().__init__()
        if not networks or len({id(network) for network in networks}) != len(networks):
            raise ValueError(
                f"{type(self).__name__} got {len(networks)} networks, some of them the same object or none at all: "
                "build each one by itself."
            )
        self.networks = nn.ModuleList(networks)

    def forward(self, image: Tensor) -> Tensor:
        maps: list[Tensor] = []
        for network in self.networks:
            maps.append(_single_map(network(image)))
        return torch.cat(maps, dim=1)


class RaterHeads(HeadSampling):
    """A network with one logit map for each rater: image (B, C, H, W) -> logits (B, R, H, W).

    Args:
        network: image -> logits, for instance a `segmentation_backbone` with R output channels.
    """

    per_rater = True

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        return self.network(image)


class ConditionedHeads(HeadSampling):
    """One network for all raters, whose last layers are conditioned on an embedding of each: logits (B, R, H, W).

    Features f of the network give a common logit, and a residual for each rater r (FiLM, Perez et al. 2018; one
    embedding for each rater as in Pionono, Schmidt et al. 2023), at half resolution, where it costs a quarter:

        logit_r = common(f) + upsample(residual(relu((1 + gain_r) * pool(f) + shift_r))),
        (gain_r, shift_r) = modulation(e_r).

    The residual starts at zero, so that raters' differences are learnt from a common output; a rater with few masks
    shares everything but the embedding.

    Args:
        network: image (B, C, H, W) -> features (B, F, H, W), for instance a `segmentation_backbone`.
        features: number of features F.
        raters: number of raters R.
        embedding: numbers in a rater's embedding.
        initial_logit: of all maps, where training begins.
    """

    per_rater = True

    def __init__(
        self, network: nn.Module, *, features: int, raters: int, embedding: int = 8, initial_logit: float = -3.0
    ):
        super().__init__()
        self.network = network
        self.common = nn.Conv2d(features, 1, 1)
        self.embedding = nn.Embedding(raters, embedding)
        self.modulation = nn.Linear(embedding, 2 * features)
        self.residual = nn.Conv2d(features, 1, 3, padding=1)
        nn.init.constant_(self.common.get_parameter("bias"), initial_logit)
        for parameter in self.residual.parameters():
            nn.init.zeros_(parameter)

    def forward(self, image: Tensor) -> Tensor:
        features = self.network(image)
        pooled = F.avg_pool2d(pad_to_multiple(features, 2), 2)
        gain, shift = self.modulation(self.embedding.weight)[..., None, None].chunk(2, dim=1)  # (R, F, 1, 1)
        conditioned = (pooled[:, None] * (1 + gain) + shift).relu()  # (B, R, F, H / 2, W / 2)
        residual = self.residual(conditioned.flatten(0, 1)).unflatten(0, conditioned.shape[:2])[:, :, 0]
        residual = F.interpolate(residual, scale_factor=2.0, mode="bilinear")
        return self.common(features.relu()) + residual[..., : image.shape[-2], : image.shape[-1]]


class DeepEnsemble(RaterEnsemble):
    """M networks that differ in their initial weights only (Lakshminarayanan et al. 2017), logits (B, M, H, W).

    All members learn the same label; a sample is the map of one member, so there are M different ones at most.
    """

    per_rater = False


class MonteCarloDropout(nn.Module):
    """Dropout at test time (Gal and Ghahramani 2016): a sample is a pass with dropout on, all else in evaluation mode.

    Args:
        network: image (B, C, H, W) -> logits (B, 1, H, W), with dropout layers (`torch.nn.Dropout` and its kin).

    Raises:
        ValueError: the network has no dropout layer with a probability above 0: all samples would be equal.
    """

    per_rater = False

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        if not any(layer.p > 0 for layer in self._dropouts()):
            raise ValueError(
                f"MonteCarloDropout: {type(network).__name__} has no dropout layer with p > 0, so that all samples "
                "would be equal: build it with a dropout probability."
            )

    def _dropouts(self) -> list[nn.modules.dropout._DropoutNd]:
        return [layer for layer in self.network.modules() if isinstance(layer, nn.modules.dropout._DropoutNd)]

    def forward(self, image: Tensor) -> Tensor:
        return self.network(image)

    def sample(self, image: Tensor, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """n passes (B, n, H, W), those of one case at once; a `generator` seeds the global ones, which dropout uses."""
        check_count("n", n)
        with evaluation_mode(self):
            for layer in self._dropouts():
                layer.train()
            samples = [self._of_one(case, n, generator) for case in image.split(1)]
        return torch.cat(samples)

    def _of_one(self, case: Tensor, n: int, generator: torch.Generator | None) -> Tensor:
        with seeded_globals(generator, case.device):
            return _single_map(self.network(case.expand(n, -1, -1, -1))).float().sigmoid()[:, 0][None]


def _single_map(logits: Tensor) -> Tensor:
    if logits.shape[1] != 1:
        raise ValueError(f"expected one logit map per network, got {logits.shape[1]}: build it with out_channels=1.")
    return logits
