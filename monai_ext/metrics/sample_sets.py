"""Scores of sets of sampled images: spread, energy score and distance, coverage of the targets.

Notation: samples (B, n, C, H, W); targets (B, K, C, H, W), K for each case, or (B, C, H, W) for one. The distance of
two images is the root mean square of their difference over pixels and bands, a metric on the image's own scale; all is
computed in float64.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from monai_ext.formulas.energy import mean_within
from monai_ext.formulas.images import (
    PSNR_CEILING,
    LinearReduction,
    as_wide,
    decibels,
    peak_signal_to_noise,
    rounded,
)
from monai_ext.formulas.likelihoods import sample_crps
from monai_ext.metrics.image_scores import ImageScores

__all__ = [
    "SampleSetScores",
    "SetQuality",
    "best_of_samples",
    "energy_score",
    "mode_recall",
    "ntire_diversity",
    "sample_distance",
    "sample_energy_distance",
    "set_distances",
    "set_precision_recall",
]

NEIGHBOURS = 3  # of the balls in precision and recall, as in the paper


def set_distances(first: Tensor, second: Tensor) -> Tensor:
    """Root mean square differences of all pairs: (B, n, C, H, W) and (B, K, C, H, W) -> (B, n, K), float64.

    Equal images have distance 0 exactly.

    >>> set_distances(torch.zeros(1, 2, 1, 1, 4), torch.full((1, 1, 1, 1, 4), 0.5))[0, :, 0].tolist()
    [0.5, 0.5]

    Raises:
        ValueError: the sets are not of images of one shape, or of different batch sizes.
    """
    if first.ndim != 5 or second.ndim != 5 or first.shape[2:] != second.shape[2:] or len(first) != len(second):
        raise ValueError(
            f"sets {tuple(first.shape)} and {tuple(second.shape)} must be (B, n, C, H, W) and (B, K, C, H, W)."
        )
    rows, others = as_wide(first).flatten(2), as_wide(second).flatten(2)
    # the way by a matrix product would leave equal images 1e-8 apart
    distances = torch.cdist(rows, others, compute_mode="donot_use_mm_for_euclid_dist")
    return distances / rows.shape[-1] ** 0.5


def _as_set(targets: Tensor) -> Tensor:
    return targets[:, None] if targets.ndim == 4 else targets


def sample_distance(samples: Tensor) -> Tensor:
    """Mean distance of two different samples, (B,): 0 where all samples are equal, or n = 1."""
    distances = set_distances(samples, samples)
    return mean_within(distances, estimator="U" if distances.shape[1] > 1 else "V")


def best_of_samples(samples: Tensor, targets: Tensor) -> Tensor:
    """Distance of each target to the sample nearest to it, (B, K)."""
    return set_distances(samples, _as_set(targets)).amin(1)


def energy_score(samples: Tensor, targets: Tensor) -> Tensor:
    """E d(x, y) - E d(x, x') / 2 (Gneiting & Raftery 2007, eq. 22), mean over the targets, (B,); lower is better.

    A proper score: its mean over targets is lowest for samples from their distribution. Pairs x, x' are different
    draws, so that its mean does not depend on n; a set of one sample is a point and scores its distance.
    """
    samples_to_targets = set_distances(samples, _as_set(targets)).mean((1, 2))
    return samples_to_targets - sample_distance(samples) / 2


def sample_energy_distance(samples: Tensor, targets: Tensor) -> Tensor:
    """2 E d(x, y) - E d(x, x') - E d(y, y'), all pairs (V-statistic), (B,): 0 for equal sets, never negative."""
    targets = _as_set(targets)
    within = (mean_within(set_distances(images, images)) for images in (samples, targets))
    return (2 * set_distances(samples, targets).mean((1, 2)) - sum(within)).clamp(min=0)


def ntire_diversity(samples: Tensor, target: Tensor) -> Tensor:
    """100 (global best - local best) / global best, (B,), in [0, 100] (Lugmayr et al. 2021, NTIRE challenge).

    Global best: distance to the target of the best sample. Local best: that of the image put together from the best
    sample at each place. Both 0, as where a sample equals the target, is no diversity: 0. It grows with n; the
    challenge has n = 10.

    >>> samples = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).view(1, 2, 1, 1, 2)  # each is right in one of two pixels
    >>> ntire_diversity(samples, torch.ones(1, 1, 1, 2)).item()
    100.0

    The distance is the squared difference, mean over bands, where the challenge takes LPIPS.

    Args:
        target: (B, C, H, W).

    Raises:
        ValueError: shapes do not fit.
    """
    if samples.ndim != 5 or samples[:, 0].shape != target.shape:
        raise ValueError(
            f"samples {tuple(samples.shape)} of target {tuple(target.shape)}: they must be (B, n, C, H, W) and "
            "(B, C, H, W)."
        )
    maps = (as_wide(samples) - as_wide(target)[:, None]).square().mean(2).flatten(2)
    global_best, local_best = maps.mean(2).amin(1), maps.amin(1).mean(1)
    return torch.where(global_best == 0, 0.0, 100 * (global_best - local_best) / global_best)


def mode_recall(samples: Tensor, targets: Tensor, *, radius: float | None = None) -> Tensor:
    """Share of the K targets that are the nearest target of at least one sample, (B,), from 1/K to 1.

    For targets that are all modes of a distribution. With n samples of K equally likely modes, 1 - (1 - 1/K)^n is
    expected. Of targets equally near, the first counts.

    Args:
        radius: samples further than this from their target do not count.
    """
    distances = set_distances(samples, targets)
    nearest, chosen = distances.min(2)
    hits = torch.nn.functional.one_hot(chosen, distances.shape[2])  # (B, n, K)
    if radius is not None:
        hits = hits * (nearest <= radius)[..., None]
    return hits.amax(1).double().mean(1)


class SetQuality(NamedTuple):
    """Shares from 0 to 1, (B,) each."""

    precision: Tensor  # of samples that look like targets
    recall: Tensor  # of targets that look like samples


def set_precision_recall(samples: Tensor, targets: Tensor, *, neighbours: int = NEIGHBOURS) -> SetQuality:
    """Improved precision and recall (Kynkaanniemi et al. 2019, eq. 1), on pixels instead of network features.

    A set fills the balls around its members that reach to their `neighbours`-th nearest other member; precision is the
    share of samples in the balls of the targets, recall the share of targets in those of the samples.

    Raises:
        ValueError: a set has not more than `neighbours` members.
    """
    smallest = min(samples.shape[1], targets.shape[1])
    if not 1 <= neighbours < smallest:
        raise ValueError(f"neighbours={neighbours} must be at least 1, and below the {smallest} images of a set.")
    between = set_distances(samples, targets)

    def reach(images: Tensor) -> Tensor:
        # the nearest of all is the image itself
        return set_distances(images, images).kthvalue(neighbours + 1, dim=2).values

    precision = (between <= reach(targets)[:, None]).any(2).double().mean(1)
    recall = (between <= reach(samples)[..., None]).any(1).double().mean(1)
    return SetQuality(precision, recall)


class SampleSetScores(ImageScores):
    """Scores of each set of samples as a MONAI metric, called as metric(samples, targets, low_res=None).

        best_psnr         PSNR of the sample nearest to a target, mean over targets; at most 100 dB
        sample_crps       of single values, see `sample_crps`, fair; mean over values and targets
        energy_score      see `energy_score`
        sample_distance   see `sample_distance`
        diversity         see `ntire_diversity`, mean over targets
        lr_psnr_worst     PSNR of the reduced sample against the input, of the worst sample

    and for K > 1 targets:

        energy_distance   see `sample_energy_distance`
        precision, recall see `set_precision_recall`, with at most 3 neighbours; left out if a set has one member
        mode_recall       see `mode_recall`

    Args:
        degradation: with the method `reduce`; None, or no `low_res`, leaves out `lr_psnr_worst`.
        levels: of `lr_psnr_worst`: samples are clipped to [0, 1] and rounded to multiples of 1 / levels, as a file of 8
            bits holds them; None takes them as they are. Called with `levels` (B,), these stand for it.
    """

    def __init__(self, *, degradation: LinearReduction | None = None, levels: int | None = 255):
        super().__init__()
        self.degradation, self.levels = degradation, levels

    def _scores(self, y_pred: Tensor, y: Tensor, **kwargs: Any) -> dict[str, Tensor]:
        low_res, levels = kwargs.get("low_res"), kwargs.get("levels")
        each = [  # one at a time: float64 copies of all samples of a batch would fill the memory
            self._of_one(
                y_pred[i : i + 1],
                _as_set(y[i : i + 1]),
                *(None if given is None else given[i : i + 1] for given in (low_res, levels)),
            )
            for i in range(len(y_pred))
        ]
        return {name: torch.cat([scores[name] for scores in each]) for name in each[0]}

    def _of_one(
        self, samples: Tensor, targets: Tensor, low_res: Tensor | None, levels: Tensor | None
    ) -> dict[str, Tensor]:
        wide = as_wide(samples)
        crps = [sample_crps(wide, as_wide(target)).mean().reshape(1) for target in targets.unbind(1)]
        best = decibels(best_of_samples(wide, targets).square()).clamp(max=PSNR_CEILING)
        diversities = [ntire_diversity(wide, target) for target in targets.unbind(1)]
        scores = {
            "best_psnr": best.mean(1),
            "sample_crps": torch.stack(crps).mean(0),
            "energy_score": energy_score(wide, targets),
            "sample_distance": sample_distance(wide),
            "diversity": torch.stack(diversities).mean(0),
        }
        if self.degradation is not None and low_res is not None:
            scores["lr_psnr_worst"] = self._worst_low_res(self.degradation, wide, low_res, levels)
        if targets.shape[1] > 1:
            scores["energy_distance"] = sample_energy_distance(wide, targets)
            scores["mode_recall"] = mode_recall(wide, targets)
            neighbours = min(NEIGHBOURS, samples.shape[1] - 1, targets.shape[1] - 1)
            if neighbours:
                quality = set_precision_recall(wide, targets, neighbours=neighbours)
                scores["precision"], scores["recall"] = quality
        return scores

    def _worst_low_res(
        self, degradation: LinearReduction, samples: Tensor, low_res: Tensor, levels: Tensor | None
    ) -> Tensor:
        images = samples if self.levels is None else rounded(samples.clamp(0, 1), self.levels, own=levels)
        reduced = degradation.reduce(images.flatten(0, 1))
        given = as_wide(low_res)[:, None].expand(-1, samples.shape[1], -1, -1, -1).flatten(0, 1)
        values = peak_signal_to_noise(reduced, given).unflatten(0, samples.shape[:2])
        return values.amin(1).clamp(max=PSNR_CEILING)
