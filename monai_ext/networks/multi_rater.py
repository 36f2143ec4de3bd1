"""One way to ask any network for samples about what an annotator would draw, and the baselines that answer it.

Every network for several annotators is a `RaterSampler`: `sample(image, n)` gives n probability maps (B, n, H, W) in
[0, 1], so that one evaluator serves them all. Their mean over n is the predicted probability map, `> 0.5` makes each a
mask. `sample` runs in evaluation mode without gradients and leaves the modes of all layers as they were; with a
`generator` the same state gives the same draws, without one the global generator of the device is used.
"""

from __future__ import annotations

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
    "MonteCarloDropout",
    "RaterEnsemble",
    "RaterSampler",
    "draw_heads",
    "evaluation_mode",
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


def draw_heads(probability: Tensor, n: int, *, generator: torch.Generator | None = None) -> Tensor:
    """n of the maps of each case, (B, heads, H, W) -> (B, n, H, W), each head as often as any other, give or take one.

    Draw i shows head i mod heads as long as whole rounds last; the n mod heads draws that remain are different heads,
    drawn at random for each case. So n = heads gives every head once and nothing is left to chance.

    Raises:
        ValueError: n < 1.
    """
    _check_count(n)
    batch, heads = probability.shape[:2]
    device = probability.device
    rounds = torch.arange(heads, device=device).repeat(n // heads).expand(batch, -1)
    if n % heads:
        noise = normal_noise((batch, heads), device=device, generator=generator)
        rounds = torch.cat([rounds, noise.argsort(dim=1)[:, : n % heads]], dim=1)
    return probability[torch.arange(batch, device=device)[:, None], rounds]


class HeadSampling:
    """For networks with several heads: a sample is the map of one head, drawn by `draw_heads`."""

    def sample(self, image: Tensor, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Maps of the heads (B, n, H, W): see `RaterSampler` and `draw_heads`."""
        _check_count(n)
        with evaluation_mode(self):
            return draw_heads(self(image).float().sigmoid(), n, generator=generator)


class ConsensusNet(nn.Module):
    """A network that knows one answer, as trained on the majority vote: all its samples are equal.

    Args:
        network: image (B, C, H, W) -> logits (B, 1, H, W), for instance MONAI's `BasicUNet`.
    """

    per_rater = False

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        return self.network(image)

    def sample(self, image: Tensor, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """The probability map n times, (B, n, H, W), one stretch of memory for all; nothing is drawn."""
        _check_count(n)
        return self._probability(image).expand(-1, n, -1, -1)

    def _probability(self, image: Tensor) -> Tensor:
        with evaluation_mode(self):
            return _single_map(self.network(image)).float().sigmoid()


class LevelSetNet(ConsensusNet):
    """A network trained on soft labels, whose samples are level sets of its map p: draw i is [p > (i + 1/2) / n].

    Were p the share of annotators who mark a pixel and did each of them draw a region that holds the regions of the
    more cautious ones, these nested masks would be the annotators themselves. Pixels drawn on their own, with
    probability p each, would have the same mean and be noise instead of outlines.
    """

    def sample(self, image: Tensor, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Nested masks of 0 and 1 (B, n, H, W), the largest first; their mean is p rounded to 1/n. Nothing is drawn."""
        _check_count(n)
        probability = self._probability(image)
        levels = (torch.arange(n, device=probability.device) + 0.5) / n
        return (probability > levels[:, None, None]).float()


class RaterEnsemble(HeadSampling, nn.Module):
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
        """n passes (B, n, H, W), one after the other. Dropout reads the global generators; with a `generator` they are
        seeded from it for the time being and restored."""
        _check_count(n)
        with evaluation_mode(self), _global_draws_from(generator, image.device):
            for layer in self._dropouts():
                layer.train()
            draws = [_single_map(self.network(image)).float().sigmoid() for _ in range(n)]
        return torch.cat(draws, dim=1)


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


def _check_count(n: int) -> None:
    if n < 1:
        raise ValueError(f"n={n}: at least one sample is needed.")
