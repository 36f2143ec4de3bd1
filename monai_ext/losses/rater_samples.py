"""Losses of networks that learn from their own samples: bound of a latent, likelihood, energy score.

Each is called as loss(output, target). `output` is that of a network for several raters in training, {"share": logits
of the share of raters, (B, 1, *spatial), "logits": of samples, (B, n, *spatial)}, with further entries for the bound;
`target` is as in `monai_ext.losses.raters`. All raters of a case are learnt in one step, and a `ConsensusLoss` of the
share, whose map they do not give by themselves, is added to each.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_ext.formulas.checks import check_not_negative
from monai_ext.formulas.energy import mean_within
from monai_ext.formulas.gaussians import gaussian_kl
from monai_ext.formulas.overlaps import soft_jaccard_distances
from monai_ext.formulas.structures import presence_of_structures, structures_as_cases
from monai_ext.formulas.votes import present_raters
from monai_ext.losses.elbo import ELBOTerms
from monai_ext.losses.raters import ConsensusLoss, PairLoss, PerRaterLoss, Target
from monai_ext.losses.structures import PerStructureLoss

__all__ = ["RaterELBOLoss", "SampleEnergyLoss", "SampleLikelihoodLoss", "sample_energy", "sample_log_likelihood"]


class _SampleLoss(nn.Module):
    """`consensus` of the share, plus what a subclass makes of the samples."""

    def __init__(self, losses: PairLoss | Sequence[PairLoss], *, structures: int | None = None):
        super().__init__()
        consensus = ConsensusLoss(losses)
        self.structures = structures
        self.consensus = PerStructureLoss(consensus, structures=structures) if structures else consensus

    def forward(self, output: Mapping[str, Tensor], target: Target) -> Tensor:
        if not isinstance(output, Mapping) or not {"share", "logits"} <= output.keys():
            raise ValueError(
                f"{type(self).__name__} is for outputs with share and logits, but the network returned only its "
                "prediction: call network(image, target) in training, as PrepareRaters(network=...) does."
            )
        output = {name: values.float() for name, values in output.items()}
        return self.consensus(output["share"], target) + self.of_samples(output, target)

    @abstractmethod
    def of_samples(self, output: Mapping[str, Tensor], target: Target) -> Tensor:
        """A scalar; `output` is float32."""

    def masks_and_presence(self, target: Target) -> tuple[Tensor, Tensor]:
        """Masks and who marked them, (B, R), with structures all of them."""
        masks, presence = (target["masks"], target["presence"]) if isinstance(target, Mapping) else (target, None)
        if self.structures:
            structures_as_cases("masks", masks, self.structures)  # checks it
            return masks, presence_of_structures(presence, masks).all(2)
        return masks, present_raters(masks != 0, presence)


class RaterELBOLoss(_SampleLoss):
    """Evidence lower bound of a latent with the masks of all raters in one step: losses of masks + beta * divergence.

    Mask r of the output comes from the posterior of rater r. Both parts are means over the raters present of all cases.
    The losses are usually means over pixels, so that beta = 1 here is as much as the number of pixels in the paper's
    bound, and makes the latent collapse: for Dice and ten times the cross-entropy take 0.0005 to 0.005.

    Args:
        losses: of masks, as for `PerRaterLoss`.
        beta: weight of the divergence, see `ELBOLoss`; `set_beta` changes it.
        free_nats: divergence of each number of the latent without cost, as a mean over raters and cases.
        structures: number K where maps are (B, ..., K, *spatial).

    The output has "prior", (B, 2, Z) or (B, R, 2, Z), and "posterior", (B, R, 2, Z), too: see `LatentUNet`.

    Raises:
        ValueError: `beta` or `free_nats` negative or not finite, or an output without these entries.
    """

    def __init__(
        self,
        losses: PairLoss | Sequence[PairLoss],
        *,
        beta: float = 0.001,
        free_nats: float = 0.0,
        structures: int | None = None,
    ):
        super().__init__(losses, structures=structures)
        self.per_rater = PerRaterLoss(losses)
        self.set_beta(beta)
        self.free_nats = check_not_negative("free_nats", free_nats)

    def set_beta(self, beta: float) -> None:
        """Use this weight of the divergence from now on."""
        self.beta = check_not_negative("beta", beta)

    def terms(self, output: Mapping[str, Tensor], target: Target) -> ELBOTerms:
        """Both parts as means over the raters present of each case, without beta and free nats."""
        values, present = self._terms(output["logits"].float(), target)
        count = present.sum(1).clamp(min=1)
        return ELBOTerms(values.sum(1) / count, _divergence(output, present).sum(1) / count[:, None])

    def of_samples(self, output: Mapping[str, Tensor], target: Target) -> Tensor:
        values, present = self._terms(output["logits"], target)
        count = present.sum().clamp(min=1)
        divergence = _divergence(output, present).sum((0, 1)) / count
        return values.sum() / count + self.beta * divergence.clamp(min=self.free_nats).sum()

    def _terms(self, logits: Tensor, target: Target) -> tuple[Tensor, Tensor]:
        """Losses of the masks, (B, R), means over structures, and who is present, (B, R)."""
        if not self.structures:
            return self.per_rater.terms(logits, target)
        masks, presence = (target["masks"], target["presence"]) if isinstance(target, Mapping) else (target, None)
        known = presence_of_structures(presence, masks)
        cases = structures_as_cases("masks", masks, self.structures)
        folded = {"masks": cases, "presence": known.transpose(1, 2).flatten(0, 1)}
        values, _ = self.per_rater.terms(structures_as_cases("logits", logits, self.structures), folded)
        total = values.unflatten(0, (-1, self.structures)).sum(1)  # (B, R)
        return total / known.sum(2).clamp(min=1), known.any(2)


def _divergence(output: Mapping[str, Tensor], present: Tensor) -> Tensor:
    """KL(posterior || prior) of each rater, (B, R, Z), 0 where missing."""
    if not {"prior", "posterior"} <= output.keys():
        raise ValueError("RaterELBOLoss is for outputs with prior and posterior: build the network with a posterior.")
    prior, posterior = output["prior"].float(), output["posterior"].float()
    prior = prior[:, None] if prior.ndim == 3 else prior
    kl = gaussian_kl(*posterior.unbind(2), *prior.unbind(2))
    return kl.masked_fill(~present[..., None], 0)


class SampleLikelihoodLoss(_SampleLoss):
    """Negative `sample_log_likelihood`, per pixel, mean over the raters present (Monteiro et al. 2020).

    Args:
        losses: of the share, as for `ConsensusLoss`.
        weight: of the likelihood.
        structures: see `RaterELBOLoss`; likely are samples of all structures together.
    """

    def __init__(self, losses: PairLoss | Sequence[PairLoss], *, weight: float = 10.0, structures: int | None = None):
        super().__init__(losses, structures=structures)
        self.weight = check_not_negative("weight", weight)

    def of_samples(self, output: Mapping[str, Tensor], target: Target) -> Tensor:
        masks, present = self.masks_and_presence(target)
        values = -sample_log_likelihood(output["logits"], masks) / masks[0, 0].numel()
        return self.weight * values.masked_fill(~present, 0).sum() / present.sum().clamp(min=1)


def sample_log_likelihood(logits: Tensor, masks: Tensor) -> Tensor:
    """Log of the mean likelihood of each mask under n samples of logits: (B, n, *S), (B, R, *S) -> (B, R), in nats.

    log (1 / n) sum_i exp(-cross-entropy of mask and sample i, summed over the pixels)
    """
    rows, labels = logits.flatten(2), masks.flatten(2).to(logits.dtype)
    entropy = F.softplus(rows).sum(2)[:, :, None] - rows @ labels.mT
    return (-entropy).logsumexp(1) - torch.tensor(float(rows.shape[1])).log()


class SampleEnergyLoss(_SampleLoss):
    """`sample_energy` of the samples' probabilities against the raters' masks, mean over the cases with raters.

    After PULASki (Chatterjee et al. 2023, arXiv:2312.15686). Lower scores of sets are no reason to take more diverse
    ones: choose the spread of the samples so that their diversity meets the raters', see `choose_spread`.

    Args:
        losses: of the share, as for `ConsensusLoss`.
        weight: of the energy score.
        structures: see `RaterELBOLoss`; distances are those of all structures together.
    """

    def __init__(self, losses: PairLoss | Sequence[PairLoss], *, weight: float = 1.0, structures: int | None = None):
        super().__init__(losses, structures=structures)
        self.weight = check_not_negative("weight", weight)

    def of_samples(self, output: Mapping[str, Tensor], target: Target) -> Tensor:
        masks, present = self.masks_and_presence(target)
        values = sample_energy(output["logits"].sigmoid(), masks, presence=present)
        known = present.any(1)
        return self.weight * values.masked_fill(~known, 0).sum() / known.sum().clamp(min=1)


def sample_energy(
    samples: Tensor,
    masks: Tensor,
    *,
    presence: Tensor | None = None,
    distances: Callable[[Tensor, Tensor], Tensor] = soft_jaccard_distances,
) -> Tensor:
    """Energy score of a set of soft masks against the raters': (B, n, *S) in [0, 1], (B, R, *S) -> (B,).

        mean of d(sample, mask) over samples and raters present - half the mean of d over pairs of different samples

    least in the mean for samples distributed as the raters' masks, d being of negative type; see
    `monai_ext.formulas.energy`. A case without raters is NaN.

    Args:
        presence: (B, R), False where a rater is missing.
        distances: of every two maps, (B, n, pixels) and (B, m, pixels) -> (B, n, m).
    """
    rows, labels = samples.flatten(2), masks.flatten(2).to(samples.dtype)
    between = distances(rows, labels).mean(1)
    if presence is None:
        error = between.mean(1)
    else:
        present = presence.to(between.device) != 0
        error = between.masked_fill(~present, 0).sum(1) / present.sum(1)
    return error - mean_within(distances(rows, rows), estimator="U") / 2
