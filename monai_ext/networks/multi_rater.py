"""One way to ask any network for samples about what an annotator would draw, and the baselines that answer it.

Every network for several annotators is a `RaterSampler`: `sample(image, n)` gives n probability maps (B, n, H, W) in
[0, 1], so that one evaluator serves them all. Their mean over n is the predicted probability map, `> 0.5` makes each a
mask. `sample` runs in evaluation mode without gradients and leaves the modes of all layers as they were; with a
`generator` the same state gives the same draws, without one the global generator of the device is used.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "ConsensusNet",
    "DeepEnsemble",
    "HeadSampling",
    "LevelSetNet",
    "MapSampler",
    "MonteCarloDropout",
    "OrderedHeads",
    "RaterEnsemble",
    "RaterSampler",
    "draw_heads",
    "evaluation_mode",
    "level_sets",
    "noise_by_case",
    "normal_noise",
    "pad_to_multiple",
]


@runtime_checkable
class RaterSampler(Protocol):
    """What an evaluator may ask of a network for several annotators."""

    per_rater: bool
    """Whether logit map r of `forward` speaks for annotator r; only then is there a Dice per annotator."""

    def __call__(self, image: Tensor) -> Tensor:
        """Logits (B, heads, H, W) of an image (B, C, H, W)."""
        ...

    def sample(self, image: Tensor, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Samples: probabilities of foreground (B, n, H, W), float32, n >= 1."""
        ...


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradients inside; afterwards every layer has the mode that it had before."""
    modes = [(layer, layer.training) for layer in module.modules()]
    try:
        module.eval()
        with torch.no_grad():
            yield
    finally:
        for layer, training in modes:
            layer.training = training


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """`image` (B, C, H, W) with its border repeated at the bottom and the right, up to multiples of `multiple`."""
    height, width = image.shape[-2], image.shape[-1]
    bottom, right = (multiple - height % multiple) % multiple, (multiple - width % multiple) % multiple
    return F.pad(image, (0, right, 0, bottom), mode="replicate")


def normal_noise(
    shape: Sequence[int], *, device: torch.device | str, generator: torch.Generator | None = None
) -> Tensor:
    """Standard normal float32 numbers on `device`, drawn where `generator` lives: a CPU generator serves any device."""
    source = device if generator is None else generator.device
    return torch.randn(tuple(shape), device=source, generator=generator).to(device)


def noise_by_case(
    cases: int, shape: Sequence[int], *, device: torch.device | str, generator: torch.Generator | None = None
) -> Tensor:
    """`normal_noise` (cases, *shape), drawn for one case after the other, so that batches of any size get the same."""
    return torch.stack([normal_noise(shape, device=device, generator=generator) for _ in range(cases)])


def draw_heads(probability: Tensor, n: int, *, generator: torch.Generator | None = None) -> Tensor:
    """n of the maps of each case, (B, heads, H, W) -> (B, n, H, W), each head as often as any other, give or take one.

    Draw i shows head i mod heads as long as whole rounds last; the n mod heads draws that remain are different heads,
    drawn at random for each case. So n = heads gives every head once and nothing is left to chance.

    Raises:
        ValueError: n < 1.
    """
    check_count(n)
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
    check_count(n)
    places = (torch.arange(n, device=probability.device) + 0.5) / n
    levels = places if spread == 1 else (spread * places.logit()).sigmoid()
    return (_single_map(probability) > levels[:, None, None]).float()


class MapSampler(nn.Module):
    """For networks whose samples follow from their probability maps: `maps` once, then `share` and `draw`.

    So the maps can be averaged over flips and quarter turns before samples are drawn from them, see `RaterInferer`.
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
        check_count(n)
        return self.draw(self.maps(image), n, generator=generator)


class HeadSampling(MapSampler):
    """For networks with several heads: a sample is the map of one head, drawn by `draw_heads`."""

    def draw(self, maps: Tensor, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        return draw_heads(maps, n, generator=generator)


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
        """The map n times, one stretch of memory for all; nothing is drawn."""
        check_count(n)
        return maps.expand(-1, n, -1, -1)


class LevelSetNet(ConsensusNet):
    """A network trained on soft labels, whose samples are level sets of its map p: sample i is [p > level i].

    Were p the share of raters who mark a pixel and did each of them draw a region that holds the regions of the
    more cautious ones, these nested masks would be the raters themselves. Pixels drawn on their own, with
    probability p each, would have the same mean and be noise instead of outlines.

    Args:
        network: image (B, C, H, W) -> logits (B, 1, H, W).
        spread: of the levels, see `level_sets`; to be chosen on cases of which the raters' diversity is known.
    """

    def __init__(self, network: nn.Module, *, spread: float = 1.0):
        super().__init__(network)
        self.spread = checked_spread(spread)

    def draw(self, maps: Tensor, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Nested masks of 0 and 1, the largest first; nothing is drawn at random."""
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
    """One network for each annotator ("U-Net combined"): image (B, C, H, W) -> logits (B, R, H, W).

    Args:
        networks: R networks, each image -> logits (B, 1, H, W), with weights of their own.

    Raises:
        ValueError: no network, or one that is there twice.
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


class DeepEnsemble(RaterEnsemble):
    """M networks that differ in their initial weights only (Lakshminarayanan et al. 2017), logits (B, M, H, W).

    All members learn the same label; a sample is the map of one member, so there are M different ones at most.
    """

    per_rater = False


class MonteCarloDropout(nn.Module):
    """A network asked several times with its dropout left on (Gal and Ghahramani 2016), all else in evaluation mode.

    Args:
        network: image (B, C, H, W) -> logits (B, 1, H, W), with dropout layers (`torch.nn.Dropout` and its kin).

    Raises:
        ValueError: the network has no dropout layer with a probability above 0: all draws would be equal.
    """

    per_rater = False

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        if not any(layer.p > 0 for layer in self._dropouts()):
            raise ValueError(
                f"MonteCarloDropout: {type(network).__name__} has no dropout layer with p > 0, so that all draws would "
                "be equal: build it with a dropout probability."
            )

    def _dropouts(self) -> list[nn.modules.dropout._DropoutNd]:
        return [layer for layer in self.network.modules() if isinstance(layer, nn.modules.dropout._DropoutNd)]

    def forward(self, image: Tensor) -> Tensor:
        return self.network(image)

    def sample(self, image: Tensor, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """n passes (B, n, H, W), those of one case at once. Dropout reads the global generators; with a `generator`
        they are seeded from it for the time being and restored."""
        check_count(n)
        with evaluation_mode(self):
            for layer in self._dropouts():
                layer.train()
            samples = [self._of_one(case, n, generator) for case in image.split(1)]
        return torch.cat(samples)

    def _of_one(self, case: Tensor, n: int, generator: torch.Generator | None) -> Tensor:
        with _global_draws_from(generator, case.device):
            return _single_map(self.network(case.expand(n, -1, -1, -1))).float().sigmoid()[:, 0][None]


@contextmanager
def _global_draws_from(generator: torch.Generator | None, device: torch.device) -> Iterator[None]:
    if generator is None:
        yield
        return
    seed = int(torch.randint(2**62, (1,), device=generator.device, generator=generator))
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed the other devices for good
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def _single_map(logits: Tensor) -> Tensor:
    if logits.shape[1] != 1:
        raise ValueError(f"expected one logit map per network, got {logits.shape[1]}: build it with out_channels=1.")
    return logits


def checked_spread(spread: float) -> float:
    if not 0 <= spread < math.inf:
        raise ValueError(f"spread={spread} must be finite and at least 0; 1 leaves the levels as they are.")
    return float(spread)


def check_count(n: int) -> None:
    if n < 1:
        raise ValueError(f"n={n}: at least one sample is needed.")
