"""Methods for several raters that draw their samples from maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.networks.layers.factories import Conv, Pool
from torch import Tensor, nn

from monai_ext.formulas.checks import check_not_negative
from monai_ext.networks.level_plan import plan_levels
from monai_ext.networks.rater_sampler import RaterPrediction, RaterSampler, Symmetry
from monai_ext.networks.sampling import check_count, crop_like, evaluation_mode, noise_by_case, pad_to_multiples

__all__ = [
    "ConditionedHeads",
    "ConsensusNet",
    "HeadSampling",
    "LevelSetNet",
    "MapSampler",
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


class MapSampler(RaterSampler):
    """Base of methods whose samples are functions of their maps: `maps`, then `share` and `draw`.

    With test-time augmentation the maps are averaged over the symmetries before samples are drawn from them.
    """

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

    def predicted(
        self, image: Tensor, n: int, symmetries: Sequence[Symmetry], generator: torch.Generator | None
    ) -> RaterPrediction:
        maps = self.averaged([symmetry.back(self.maps(symmetry.of(image)), image) for symmetry in symmetries])
        samples = self.draw(maps, n, generator=generator)
        return RaterPrediction(self.share(maps), samples, maps if self.per_rater else None)


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
        initial_logit: added to all logits, so that training begins near empty masks: where it begins at p = 1/2, the
            background has to be learnt first, and small structures inside of large ones may stay behind.
    """

    def __init__(self, network: nn.Module, structures: int, *, initial_logit: float = -3.0):
        super().__init__()
        self.network = network
        self.structures = structures
        self.initial_logit = initial_logit

    def forward(self, image: Tensor) -> Tensor:
        return self.network(image).unflatten(1, (-1, self.structures)) + self.initial_logit


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


def check_different(name: str, networks: Sequence[nn.Module]) -> None:
    """Raise a ValueError where there is no network, or one twice."""
    if not networks or len({id(network) for network in networks}) != len(networks):
        raise ValueError(
            f"{name} got {len(networks)} networks, some of them the same object or none at all: build each one by "
            "itself."
        )


def _single_map(logits: Tensor) -> Tensor:
    if logits.shape[1] != 1:
        raise ValueError(f"expected one logit map per network, got {logits.shape[1]}: build it with out_channels=1.")
    return logits
