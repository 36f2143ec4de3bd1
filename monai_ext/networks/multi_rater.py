"""Methods for several raters that draw their samples from maps, and ensembles and dropout of any method.

All of them are `RaterSampler`s, so that one evaluator serves them all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from monai.networks.layers.factories import Conv, Pool
from torch import Tensor, nn

from monai_ext.formulas.checks import check_not_negative
from monai_ext.networks.level_plan import plan_levels
from monai_ext.networks.rater_sampler import AS_IT_IS, RaterPrediction, RaterSampler, Symmetry
from monai_ext.networks.sampling import (
    check_count,
    crop_like,
    evaluation_mode,
    kept_in_training,
    noise_by_case,
    pad_to_multiples,
    seeded_globals,
)

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
    "StructureMaps",
    "draw_heads",
    "level_sets",
]


def draw_heads(probability: Tensor, n: int, *, generator: torch.Generator | None = None) -> Tensor:
    """n of the maps of each case, each head as often as any other: (B, heads, *spatial) -> (B, n, *spatial).

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
    """Nested masks of 0 and 1 of a map (B, 1, *spatial), the largest first: (B, n, *spatial), float32.

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
    return (_single_map(probability) > levels[(..., *[None] * (probability.ndim - 2))]).float()


class MapSampler(nn.Module):
    """Base of methods whose samples are functions of their maps: `maps`, then `share` and `draw`.

    With test-time augmentation the maps are averaged over the symmetries before samples are drawn from them.
    """

    per_rater = False

    def maps(self, image: Tensor) -> Tensor:
        """Probabilities (B, heads, *spatial), float32, in evaluation mode and without gradients."""
        with evaluation_mode(self):
            return self(image).float().sigmoid()

    def averaged(self, maps: Sequence[Tensor]) -> Tensor:
        """Mean of the maps under several symmetries, each moved back."""
        return sum(maps[1:], maps[0]) / len(maps)

    def share(self, maps: Tensor) -> Tensor:
        """Predicted share of raters who mark a pixel, (B, 1, *spatial)."""
        return maps.mean(1, keepdim=True)

    def draw(self, maps: Tensor, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """n samples (B, n, *spatial) from `maps`."""
        raise NotImplementedError

    def predict(
        self,
        image: Tensor,
        n: int,
        *,
        symmetries: Sequence[Symmetry] = AS_IT_IS,
        generator: torch.Generator | None = None,
    ) -> RaterPrediction:
        """See `RaterSampler`."""
        check_count("n", n)
        maps = self.averaged([symmetry.back(self.maps(symmetry.of(image)), image) for symmetry in symmetries])
        samples = self.draw(maps, n, generator=generator)
        return RaterPrediction(self.share(maps), samples, maps if self.per_rater else None)

    def sample(self, image: Tensor, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """See `RaterSampler`."""
        return self.predict(image, n, generator=generator).samples


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
        network: image (B, C, *spatial) -> logits (B, 1, *spatial), for instance MONAI's `BasicUNet`.
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
        return maps.expand(-1, n, *maps.shape[2:])


class LevelSetNet(ConsensusNet):
    """A network trained on soft labels, whose samples are level sets of its map p: sample i is [p > level i].

    If p is the share of raters who mark a pixel, and the raters' masks are nested, the level sets are these masks.
    Pixels sampled independently with probability p have the same mean, but are noise instead of outlines.

    Args:
        network: image (B, C, *spatial) -> logits (B, 1, *spatial).
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
        network: image (B, C, *spatial) -> logits of H heads, (B, H, *spatial).
        spread: see `LevelSetNet`.
    """

    def forward(self, image: Tensor) -> Tensor:
        return self.network(image)

    def draw(self, maps: Tensor, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        return level_sets(self.share(maps), n, spread=self.spread)


class RaterEnsemble(HeadSampling):
    """One network for each rater ("U-Net combined"): image (B, C, *spatial) -> logits (B, R, *spatial).

    Args:
        networks: R networks, each image -> logits (B, 1, *spatial), with weights of their own.

    Raises:
        ValueError: no network, or the same object twice.
    """

    per_rater = True

    def __init__(self, networks: Sequence[nn.Module]):
        super().__init__()
        check_different(type(self).__name__, networks)
        self.networks = nn.ModuleList(networks)

    def forward(self, image: Tensor) -> Tensor:
        maps: list[Tensor] = []
        for network in self.networks:
            maps.append(_single_map(network(image)))
        return torch.cat(maps, dim=1)


class RaterHeads(HeadSampling):
    """A network with one logit map for each rater: image (B, C, *spatial) -> logits (B, R, *spatial).

    Args:
        network: image -> logits, for instance a `segmentation_backbone` with R output channels.
    """

    per_rater = True

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        return self.network(image)


class StructureMaps(nn.Module):
    """A network whose channels are K structures of each head: logits (B, heads K, *spatial) -> (B, heads, K, *spatial).

    Args:
        network: image -> logits, the structures of the first head first.
        structures: number K.
    """

    def __init__(self, network: nn.Module, structures: int):
        super().__init__()
        self.network = network
        self.structures = structures

    def forward(self, image: Tensor) -> Tensor:
        return self.network(image).unflatten(1, (-1, self.structures))


class ConditionedHeads(HeadSampling):
    """One network for all raters, whose last layers are conditioned on an embedding of each: logits (B, R, *spatial).

    Features f of the network give a common logit, and a residual for each rater r (FiLM, Perez et al. 2018; one
    embedding for each rater as in Pionono, Schmidt et al. 2023), at half resolution, where it costs a quarter:

        logit_r = common(f) + upsample(residual(relu((1 + gain_r) * pool(f) + shift_r))),
        (gain_r, shift_r) = modulation(e_r).

    The residual starts at zero, so that raters' differences are learnt from a common output; a rater with few masks
    shares everything but the embedding.

    Args:
        network: image (B, C, *spatial) -> features (B, F, *spatial), for instance a `segmentation_backbone`.
        features: number of features F.
        raters: number of raters R.
        embedding: numbers in a rater's embedding.
        initial_logit: of all maps, where training begins.
        spatial_dims: 2 for images, 3 for volumes.
        spacing: size of a voxel along each axis; the residual keeps the resolution of an axis of thick slices, see
            `plan_levels`.
        structures: number K, for logits (B, R, K, *spatial); each has a common logit and a residual of its own.
    """

    per_rater = True

    def __init__(
        self,
        network: nn.Module,
        *,
        features: int,
        raters: int,
        embedding: int = 8,
        initial_logit: float = -3.0,
        spatial_dims: int = 2,
        spacing: Sequence[float] | None = None,
        structures: int | None = None,
    ):
        super().__init__()
        plan = plan_levels(spatial_dims, halvings=1, spacing=spacing)
        kernel = plan.kernels[1]
        self.network = network
        self.structures = structures
        maps = structures or 1
        self.multiples = plan.multiples
        self.pool = Pool["avg", spatial_dims](plan.strides[0])
        self.common = Conv["conv", spatial_dims](features, maps, 1)
        self.embedding = nn.Embedding(raters, embedding)
        self.modulation = nn.Linear(embedding, 2 * features)
        padding = tuple(side // 2 for side in kernel)
        self.residual = Conv["conv", spatial_dims](features, maps, kernel, padding=padding)
        nn.init.constant_(self.common.get_parameter("bias"), initial_logit)
        for parameter in self.residual.parameters():
            nn.init.zeros_(parameter)

    def forward(self, image: Tensor) -> Tensor:
        features = self.network(image)
        pooled = self.pool(pad_to_multiples(features, self.multiples))
        modulation = self.modulation(self.embedding.weight)  # (R, 2 F)
        for _ in self.multiples:
            modulation = modulation.unsqueeze(-1)
        gain, shift = modulation.chunk(2, dim=1)
        conditioned = (pooled[:, None] * (1 + gain) + shift).relu()  # (B, R, F, *spatial / 2)
        residual = self.residual(conditioned.flatten(0, 1))  # (B * R, K, *spatial / 2)
        factors = [float(step) for step in self.multiples]
        residual = F.interpolate(residual, scale_factor=factors, mode="bilinear" if image.ndim == 4 else "trilinear")
        residual = crop_like(residual, image).unflatten(0, conditioned.shape[:2])
        logits = self.common(features.relu())[:, None] + residual
        return logits[:, :, 0] if self.structures is None else logits


class DeepEnsemble(nn.Module):
    """M networks of one method that differ in their initial weights only (Lakshminarayanan et al. 2017).

    All members learn the same; the share is the mean of theirs, and of the samples each member gives n / M.

    Args:
        members: M methods without heads of raters, with weights of their own.

    Raises:
        ValueError: no member, the same object twice, or members with heads of raters.
    """

    per_rater = False

    def __init__(self, members: Sequence[nn.Module]):
        super().__init__()
        check_different(type(self).__name__, members)
        check_without_heads(type(self).__name__, members[0])
        self.members = nn.ModuleList(members)
        self.learns_from_samples = getattr(members[0], "learns_from_samples", False)

    def forward(self, image: Tensor, target: Mapping[str, Tensor] | None = None) -> list:
        """The output of each member; `target` is handed on to members that learn from their samples."""
        return [member(image) if target is None else member(image, target) for member in self.members]

    def predict(
        self,
        image: Tensor,
        n: int,
        *,
        symmetries: Sequence[Symmetry] = AS_IT_IS,
        generator: torch.Generator | None = None,
    ) -> RaterPrediction:
        """See `RaterSampler`."""
        check_count("n", n)
        shares, samples = [], []
        for place, member in enumerate(self.members):
            count = len(range(place, n, len(self.members)))
            found = _as_sampler(member).predict(image, max(count, 1), symmetries=symmetries, generator=generator)
            shares.append(found.share)
            samples.append(found.samples[:, :count])
        return RaterPrediction(torch.stack(shares).mean(0), torch.cat(samples, dim=1))

    def sample(self, image: Tensor, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """See `RaterSampler`."""
        return self.predict(image, n, generator=generator).samples


class MonteCarloDropout(nn.Module):
    """Dropout at test time (Gal and Ghahramani 2016): sample i of n is the i-th sample of the method in pass i.

    In each pass dropout is on and all else in evaluation mode. The share is the mean over the passes, which
    test-time augmentation divides among the symmetries.

    Args:
        network: a method without heads of raters, with dropout layers (`torch.nn.Dropout` and its kin).

    Raises:
        ValueError: the network has no dropout layer with a probability above 0, so that all passes would be equal; or
            it has heads of raters.
    """

    per_rater = False

    def __init__(self, network: nn.Module):
        super().__init__()
        check_without_heads(type(self).__name__, network)
        self.network = network
        self.learns_from_samples = getattr(network, "learns_from_samples", False)
        if not any(layer.p > 0 for layer in self._dropouts()):
            raise ValueError(
                f"MonteCarloDropout: {type(network).__name__} has no dropout layer with p > 0, so that all samples "
                "would be equal: build it with a dropout probability."
            )

    def _dropouts(self) -> list[nn.modules.dropout._DropoutNd]:
        return [layer for layer in self.network.modules() if isinstance(layer, nn.modules.dropout._DropoutNd)]

    def forward(self, image: Tensor, target: Mapping[str, Tensor] | None = None) -> Any:
        """The output of the network; `target` is handed on to one that learns from its samples."""
        return self.network(image) if target is None else self.network(image, target)

    def predict(
        self,
        image: Tensor,
        n: int,
        *,
        symmetries: Sequence[Symmetry] = AS_IT_IS,
        generator: torch.Generator | None = None,
    ) -> RaterPrediction:
        """See `RaterSampler`; a `generator` seeds the global ones, which dropout uses."""
        check_count("n", n)
        with kept_in_training(self._dropouts()):
            cases = [self._of_one(case, n, symmetries, generator) for case in image.split(1)]
        shares, samples = zip(*cases, strict=True)
        return RaterPrediction(torch.cat(shares), torch.cat(samples))

    def sample(self, image: Tensor, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """See `RaterSampler`."""
        return self.predict(image, n, generator=generator).samples

    def _of_one(
        self, case: Tensor, n: int, symmetries: Sequence[Symmetry], generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Share (1, 1, *spatial) and samples (1, n, *spatial) of a case (1, C, *spatial)."""
        shares, samples = [], []
        with seeded_globals(generator, case.device):
            for place, symmetry in enumerate(symmetries[:n]):
                passes = range(place, n, len(symmetries))
                batch = case.expand(len(passes), *case.shape[1:])
                found = _as_sampler(self.network).predict(batch, n, symmetries=[symmetry])
                shares.append(found.share)
                samples.append(found.samples[range(len(passes)), passes])
        return torch.cat(shares).mean(0, keepdim=True), torch.cat(samples)[None]


def check_different(name: str, networks: Sequence[nn.Module]) -> None:
    """Raise a ValueError where there is no network, or one twice."""
    if not networks or len({id(network) for network in networks}) != len(networks):
        raise ValueError(
            f"{name} got {len(networks)} networks, some of them the same object or none at all: build each one by "
            "itself."
        )


def check_without_heads(name: str, network: nn.Module) -> None:
    """Raise a ValueError where `network` is no method without heads of raters."""
    if not isinstance(network, RaterSampler) or network.per_rater:
        raise ValueError(
            f"{name} is for methods for several raters without a head for each, and {type(network).__name__} is none: "
            "wrap a plain network in ConsensusNet."
        )


def _as_sampler(network: nn.Module) -> RaterSampler:
    return cast(RaterSampler, network)


def _single_map(logits: Tensor) -> Tensor:
    if logits.shape[1] != 1:
        raise ValueError(f"expected one logit map per network, got {logits.shape[1]}: build it with out_channels=1.")
    return logits
