"""The variance of a predictive distribution in three parts: noise, ambiguity, and uncertainty of the weights.

Weights are sampled T times, for each sample of the weights the latent L times, and each pair gives a mean and a
variance. By the law of total variance

    total = E[variance] + E_weights[Var_latent[mean]] + Var_weights[E_latent[mean]]
            aleatoric     ambiguity                     epistemic

The naive estimate of the last part counts ambiguity / L twice, since each inner mean is one of L samples; the balanced
one-way layout of the analysis of variance takes it out again (Searle et al. 1992, *Variance Components*, ch. 3).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["combine_samples", "summarise_latents"]


def summarise_latents(means: Tensor, variances: Tensor) -> Tensor:
    """What is needed of one sample of the weights: (3, ...), mean, variance among the L means, mean of the variances.

    Args:
        means, variances: (L, ...).
    """
    spread = means.var(0) if len(means) > 1 else torch.zeros_like(means[0])
    return torch.stack([means.mean(0), spread, variances.mean(0)])


def combine_samples(summaries: Sequence[Tensor], *, latent_samples: int) -> dict[str, Tensor]:
    """Mean and variance of T x L samples, and the three parts of the variance, each shaped (...) like a single output.

    Unbiased but for one case: where samples of the weights differ less than the latent alone explains, the epistemic
    part would be negative. It is 0 there, and the ambiguity becomes the sample variance of all T L means together, the
    restricted maximum likelihood estimate for that case. The parts always add up to the total.

    What cannot be told apart from so few samples counts as zero: the ambiguity for L = 1, the epistemic part for T = 1.

    >>> noise = torch.tensor([0.5, 0.5])  # of two samples of the latent, for two of the weights
    >>> summaries = [summarise_latents(torch.tensor(means), noise) for means in ([1.0, 3.0], [5.0, 7.0])]
    >>> parts = combine_samples(summaries, latent_samples=2)
    >>> [parts[name].item() for name in ("mean", "aleatoric", "ambiguity", "epistemic", "total")]
    [4.0, 0.5, 2.0, 7.0, 9.5]

    Args:
        summaries: T of them, of `summarise_latents`.
        latent_samples: L, of which each was made.
    """
    means, spreads, noises = torch.stack(list(summaries), dim=1)
    samples = len(means)
    mean, ambiguity, aleatoric = means.mean(0), spreads.mean(0), noises.mean(0)
    epistemic = torch.zeros_like(mean)
    if samples > 1:
        between = means.var(0)
        difference = between - ambiguity / latent_samples
        # One pool of T L samples: sums of squares between and within, over their degrees of freedom.
        within = ambiguity * samples * (latent_samples - 1)
        pooled = (between * latent_samples * (samples - 1) + within) / (samples * latent_samples - 1)
        epistemic = difference.clamp(min=0)
        if latent_samples > 1:
            ambiguity = torch.where(difference < 0, pooled, ambiguity)
    return {
        "mean": mean,
        "aleatoric": aleatoric,
        "ambiguity": ambiguity,
        "epistemic": epistemic,
        "total": aleatoric + ambiguity + epistemic,
    }
