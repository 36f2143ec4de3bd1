"""Loss of a super-resolution network with a latent: the evidence lower bound, and an energy score.

The bound trains the decoder on latents of the posterior only; the energy score trains it on those of the prior, from
which samples are drawn, and keeps these as diverse as the originals are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from monai_ext.formulas.checks import check_not_negative, check_same_shape
from monai_ext.formulas.likelihoods import family_of
from monai_ext.losses.elbo import latent_kl
from monai_ext.losses.energy import patch_energy

__all__ = [
    "SuperResolutionELBO",
    "SuperResolutionTerms",
    "negative_log_likelihood",
    "values_per_pixel",
    "watched_terms",
]


def negative_log_likelihood(mean: Tensor, log_scale: Tensor, target: Tensor, *, likelihood: str = "laplace") -> Tensor:
    """Mean over the values of each image of -log p(target | mean, scale), (B,), float32, in nats (Kendall, Gal 2017).

    Laplace: |x - m| / b + log(2 b), variance 2 b^2. Gaussian: ((x - m) / s)^2 / 2 + log(s) + log(2 pi) / 2.

    >>> zero = torch.zeros(1, 1, 1, 1)
    >>> round(negative_log_likelihood(zero, zero, zero + 3).item(), 4)  # 3 + log 2
    3.6931

    Args:
        mean, log_scale, target: (B, C, H, W), floating.

    Raises:
        ValueError: shapes differ, or another likelihood.
    """
    check_same_shape(mean=mean, log_scale=log_scale, target=target)
    family = family_of(likelihood, argument="likelihood")
    log_scale = log_scale.float()
    error = (target.float() - mean.float()) * (-log_scale).exp()
    return family.standard_nll(error, log_scale).flatten(1).mean(1)


class SuperResolutionTerms(NamedTuple):
    """The parts of `SuperResolutionELBO` case by case, without their weights."""

    likelihood: Tensor
    """`negative_log_likelihood`, (B,), in nats for each value."""
    kl: Tensor
    """`latent_kl` of each channel of the latent, (B, Z), in nats for each low-resolution pixel."""
    error: Tensor
    """`patch_distance` of the samples to the target, (B,)."""
    distance: Tensor
    """`patch_distance` between the samples, (B,): with samples like originals, as large as the error."""


class SuperResolutionELBO(nn.Module):
    """elbo_weight * (negative log-likelihood + beta * divergence) + energy_weight * energy score, all for each value.

    Called as loss(output, target) with the dictionary that `BayesianSRResNet` returns for low and high resolution, with
    two samples at least, and that high resolution (B, C, s h, s w).

    Args:
        beta: weight of the divergence; 1 is the bound. `set_beta` changes it during training, see `BetaWarmUp`.
        free_nats: divergence that each channel of the latent has for free at each low-resolution pixel, as a mean over
            pixels and batch (Kingma et al. 2016).
        likelihood: "laplace" or "gaussian".
        elbo_weight: the likelihood's slopes are those of an absolute error divided by the predicted scale: about this
            weight makes them comparable to an L1 loss.
        energy_weight: of the energy score, see `patch_energy`; 0 leaves it out.
        patch: its patches, pixels of the high resolution.

    Raises:
        ValueError: a weight is negative or not finite, another likelihood, or an output without its entries.
    """

    def __init__(
        self,
        beta: float = 1.0,
        *,
        free_nats: float = 0.02,
        likelihood: str = "laplace",
        elbo_weight: float = 0.05,
        energy_weight: float = 1.0,
        patch: int = 8,
    ):
        super().__init__()
        family_of(likelihood, argument="likelihood")
        self.set_beta(beta)
        self.free_nats = check_not_negative("free_nats", free_nats)
        self.elbo_weight = check_not_negative("elbo_weight", elbo_weight)
        self.energy_weight = check_not_negative("energy_weight", energy_weight)
        self.likelihood, self.patch = likelihood, patch

    def set_beta(self, beta: float) -> None:
        """Use this weight of the divergence from now on."""
        self.beta = check_not_negative("beta", beta)

    def terms(self, output: Mapping[str, Tensor], target: Tensor) -> SuperResolutionTerms:
        """All parts of each case, without weights and free nats."""
        needed = {"mean", "log_scale", "prior", "posterior", "samples"}
        if not isinstance(output, Mapping) or not needed <= output.keys():
            raise ValueError(
                f"SuperResolutionELBO needs {', '.join(sorted(needed))}: call network(low_res, high_res=..., "
                "samples=2) in training."
            )
        likelihood = negative_log_likelihood(output["mean"], output["log_scale"], target, likelihood=self.likelihood)
        prior, posterior = output["prior"], output["posterior"]
        kl = latent_kl(prior.flatten(2), posterior.flatten(2)).view_as(prior[:, 0]).mean((2, 3))  # (B, Z)
        error, distance = patch_energy(output["samples"], target, patch=self.patch)
        return SuperResolutionTerms(likelihood, kl, error, distance)

    def weighted(self, terms: SuperResolutionTerms, *, values: int) -> dict[str, tuple[float, Tensor]]:
        """Name -> (weight, mean over the batch) of what is added up.

        Args:
            values: of the high resolution for each low-resolution pixel, C s^2.
        """
        divergence = terms.kl.mean(0).clamp(min=self.free_nats).sum() / values
        energy = (terms.error - terms.distance / 2).mean()
        return {
            "likelihood": (self.elbo_weight, terms.likelihood.mean()),
            "kl": (self.elbo_weight * self.beta, divergence),
            "energy": (self.energy_weight, energy),
        }

    def forward(self, output: Mapping[str, Tensor], target: Tensor) -> Tensor:
        terms = self.terms(output, target)
        weighted = self.weighted(terms, values=values_per_pixel(output)).values()
        return torch.stack([weight * term for weight, term in weighted]).sum()


def values_per_pixel(output: Mapping[str, Tensor]) -> int:
    """C s^2: values of the high resolution for each pixel of the latent."""
    return output["mean"][0].numel() // output["prior"][0, 0, 0].numel()


@torch.no_grad()
def watched_terms(terms: SuperResolutionTerms) -> dict[str, Tensor]:
    """Scalars that show whether the latent is alive: divergence of each channel, distance between samples, error."""
    channels = {f"kl_{i:02d}": value for i, value in enumerate(terms.kl.mean(0))}
    return channels | {"sample_distance": terms.distance.mean(), "sample_error": terms.error.mean()}
