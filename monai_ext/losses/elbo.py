"""Evidence lower bound of a conditional variational autoencoder (Kohl et al. 2018, eq. 4), and collapse of its latent.

Gaussians over the latent are tensors (B, 2, latent): means [:, 0] and log sigmas [:, 1]. Divergences are in nats.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_ext.formulas.checks import check_not_negative, check_same_shape
from monai_ext.formulas.gaussians import gaussian_kl

__all__ = ["ELBOLoss", "ELBOTerms", "latent_kl", "samples_alike"]


def latent_kl(prior: Tensor, posterior: Tensor) -> Tensor:
    """`gaussian_kl` of posterior || prior for each number of the latent, (B, latent), float32, in nats.

    Sum over the latent for the divergence of a case. Near zero for all cases, the latent has collapsed: the posterior
    adds nothing to the prior.

    >>> standard = torch.tensor([[[0.0], [0.0]]])  # mean 0, log sigma 0
    >>> latent_kl(standard, standard + torch.tensor([[[2.0], [0.0]]]))  # two sigmas apart: 2^2 / 2
    tensor([[2.]])

    Raises:
        ValueError: shapes differ or are not (B, 2, latent).
    """
    if prior.shape != posterior.shape or prior.ndim != 3 or prior.shape[1] != 2:
        raise ValueError(f"prior {tuple(prior.shape)} and posterior {tuple(posterior.shape)} must be (B, 2, latent).")
    return gaussian_kl(*posterior.float().unbind(1), *prior.float().unbind(1))


def samples_alike(probability: Tensor) -> Tensor:
    """Similarity of the samples of a case, (B,), float32: from 1 (all equal) down to 0 (certain and different).

    One minus the share of the predicted variance that lies between the samples, by the law of total variance: with p_i
    the probability of a pixel in sample i and q their mean, q (1 - q) = mean_i p_i (1 - p_i) + mean_i (p_i - q)^2, both
    sides summed over pixels. 1 as well where all samples are certain and equal. Near 1, the uncertainty is in grey
    pixels instead of differences between samples.

    >>> samples_alike(torch.tensor([[[[1.0, 0.0]], [[0.0, 0.0]]], [[[0.5, 0.0]], [[0.5, 0.0]]]]))
    tensor([0., 1.])

    Args:
        probability: of samples, floating (B, n, *spatial) in [0, 1], n >= 2.

    Raises:
        ValueError: fewer than two samples, or not floating.
    """
    if probability.ndim not in (4, 5) or probability.shape[1] < 2 or not probability.is_floating_point():
        raise ValueError(
            f"samples {tuple(probability.shape)} of {probability.dtype} must be probabilities (B, n, *spatial), n >= 2."
        )
    samples = probability.float()
    mean = samples.mean(dim=1)
    total = (mean * (1 - mean)).flatten(1).sum(1)
    within = (samples * (1 - samples)).mean(dim=1).flatten(1).sum(1)
    return torch.where(total > 0, within / total.clamp(min=torch.finfo(total.dtype).tiny), 1.0).clamp(max=1)


class ELBOTerms(NamedTuple):
    """The two parts of the bound, case by case."""

    reconstruction: Tensor
    """Cross-entropy summed over the pixels, (B,), in nats."""
    kl: Tensor
    """`latent_kl`, (B, latent)."""


class ELBOLoss(nn.Module):
    """Negative evidence lower bound: cross-entropy summed over pixels, mean over the batch, plus beta * divergence.

    Args:
        beta: weight of the divergence; 1 is the bound. `set_beta` changes it during training (warm-up from 0 lets the
            decoder learn to use the latent first), for example from MONAI's `ParamSchedulerHandler`.
        free_nats: divergence of each number of the latent without cost (Kingma et al. 2016, "free bits"): below it, as
            a mean over the batch, the gradient is zero.

    Called as loss(output, target) with the dictionary that `ProbabilisticUNet` returns for image and mask, and that
    mask, (B, 1, *spatial) in [0, 1]. The sum over pixels ties beta to the size of the image, as in the paper: a mean
    over pixels would multiply beta by their number, 16384 at 128 x 128, and the latent would collapse.

    Raises:
        ValueError: `beta` or `free_nats` negative or not finite, an output without the three entries, or a target of
            another shape than the logits.
    """

    def __init__(self, beta: float = 1.0, *, free_nats: float = 0.0):
        super().__init__()
        self.set_beta(beta)
        self.free_nats = check_not_negative("free_nats", free_nats)

    def set_beta(self, beta: float) -> None:
        """Use this weight of the divergence from now on."""
        self.beta = check_not_negative("beta", beta)

    def terms(self, output: Mapping[str, Tensor], target: Tensor) -> ELBOTerms:
        """Both parts for each case, without beta and free nats: what to log, and what to watch for collapse."""
        if not isinstance(output, Mapping) or not {"logits", "prior", "posterior"} <= output.keys():
            raise ValueError(
                "ELBOLoss needs logits, prior and posterior, but the network returned only its prediction: "
                "call network(image, mask=...) in training."
            )
        logits = output["logits"].float()
        check_same_shape(target=target, logits=logits)
        entropy = F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype), reduction="none")
        return ELBOTerms(entropy.flatten(1).sum(1), latent_kl(output["prior"], output["posterior"]))

    def forward(self, output: Mapping[str, Tensor], target: Tensor) -> Tensor:
        reconstruction, kl = self.terms(output, target)
        divergence = kl.mean(dim=0)  # (latent,)
        if self.free_nats:
            divergence = divergence.clamp(min=self.free_nats)
        return reconstruction.mean() + self.beta * divergence.sum()
