"""Ensembles of networks, and Monte Carlo dropout for methods for several raters without a head for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_ext.networks.multi_rater import check_different
from monai_ext.networks.rater_sampler import RaterPrediction, RaterSampler, Symmetry
from monai_ext.networks.sampling import kept_in_training, seeded_globals

__all__ = ["DeepEnsemble", "MonteCarloDropout", "ProbabilityEnsemble"]


class ProbabilityEnsemble(nn.Module):
    """M networks, image -> logits; its logits are those of the mean of their probabilities.

    Args:
        members: networks with weights of their own, such as those of the folds of a cross-validation.

    Raises:
        ValueError: no member, or the same object twice.
    """

    def __init__(self, members: Sequence[nn.Module]):
        super().__init__()
        check_different(type(self).__name__, members)
        self.members = nn.ModuleList(members)

    def forward(self, image: Tensor) -> Tensor:
        logits = torch.stack([member(image) for member in self.members]).float()
        return F.logsigmoid(logits).logsumexp(0) - F.logsigmoid(-logits).logsumexp(0)


class DeepEnsemble(RaterSampler):
    """M networks of one method that differ in their initial weights only (Lakshminarayanan et al. 2017).

    All members learn the same; the share is the mean of theirs, and of the samples each member gives n / M.

    Args:
        members: M methods without heads of raters, with weights of their own.

    Raises:
        ValueError: no member, the same object twice, or members with heads of raters.
    """

    def __init__(self, members: Sequence[nn.Module]):
        super().__init__()
        check_different(type(self).__name__, members)
        for member in members:
            check_without_heads(type(self).__name__, member)
        self.members = nn.ModuleList(members)
        self.learns_from_samples = getattr(members[0], "learns_from_samples", False)

    def forward(self, image: Tensor, target: Mapping[str, Tensor] | None = None) -> list:
        """The output of each member; `target` is handed on to members that learn from their samples."""
        return [member(image) if target is None else member(image, target) for member in self.members]

    def joined(self, n: int, predict: Callable[[RaterSampler, int], RaterPrediction]) -> RaterPrediction:
        """What `predict(member, count)` gives of all members, n samples in all."""
        shares, samples = [], []
        for place, member in enumerate(self.members):
            count = len(range(place, n, len(self.members)))
            found = predict(_as_sampler(member), max(count, 1))
            shares.append(found.share)
            samples.append(found.samples[:, :count])
        return RaterPrediction(torch.stack(shares).mean(0), torch.cat(samples, dim=1))

    def predicted(
        self, image: Tensor, n: int, symmetries: Sequence[Symmetry], generator: torch.Generator | None
    ) -> RaterPrediction:
        return self.joined(
            n, lambda member, count: member.predict(image, count, symmetries=symmetries, generator=generator)
        )


class MonteCarloDropout(RaterSampler):
    """Dropout at test time (Gal and Ghahramani 2016): sample i of n is the i-th sample of the method in pass i.

    In each pass dropout is on and all else in evaluation mode. The share is the mean over the passes, which
    test-time augmentation divides among the symmetries.

    Args:
        network: a method without heads of raters, with dropout layers (`torch.nn.Dropout` and its kin).

    Raises:
        ValueError: the network has no dropout layer with a probability above 0, so that all passes would be equal; or
            it has heads of raters.
    """

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

    def predicted(
        self, image: Tensor, n: int, symmetries: Sequence[Symmetry], generator: torch.Generator | None
    ) -> RaterPrediction:
        """A `generator` seeds the global ones, which dropout uses."""
        with kept_in_training(self._dropouts()):
            cases = [self._of_one(case, n, symmetries, generator) for case in image.split(1)]
        shares, samples = zip(*cases, strict=True)
        return RaterPrediction(torch.cat(shares), torch.cat(samples))

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


def check_without_heads(name: str, network: nn.Module) -> None:
    """Raise a ValueError where `network` is no method without heads of raters."""
    if not isinstance(network, RaterSampler) or network.per_rater:
        raise ValueError(
            f"{name} is for methods for several raters without a head for each, and {type(network).__name__} is none: "
            "wrap a plain network in ConsensusNet."
        )


def _as_sampler(network: nn.Module) -> RaterSampler:
    return cast(RaterSampler, network)
