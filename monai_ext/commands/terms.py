"""Terms that pages explain: each page has those that occur in it, at its foot."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

__all__ = ["ENERGY_DISTANCE", "TERMS", "terms_in"]

ENERGY_DISTANCE = "energy distance, energy distance²"
# Term -> what it means; names of one meaning are separated by commas.
TERMS = {
    "Dice": "overlap of two masks, 2 |A ∩ B| / (|A| + |B|): 1 for equal masks, 0 for nothing in common",
    "Jaccard, IoU": "overlap of two masks, |A ∩ B| / |A ∪ B|; never above Dice",
    "precision": "share of the predicted pixels that are in the target",
    "sensitivity": "share of the target's pixels that are predicted",
    "specificity": "share of the pixels outside of the target that are not predicted",
    "clDice": "agreement of the centrelines of two masks, for vessels and other thin structures",
    "HD95": "the larger of both directed 95th percentiles of the distances between two boundaries; lower is better",
    "ASSD": "mean distance between two boundaries, in both directions; lower is better",
    "Surface Dice": "share of both boundaries that lies within a tolerance of the other",
    "majority": "pixels marked by at least half of the raters",
    "QUBIQ score": "mean Dice of predicted probability and share of raters, both thresholded at 0.1, 0.2, ..., 0.9",
    ENERGY_DISTANCE: "distance between the set of samples and the set of the "
    "raters' masks, 2 E d(S, Y) − E d(S, S′) − E d(Y, Y′) with d = 1 − IoU; 0 for equal distributions, lower is better",
    "Hungarian IoU": "mean IoU of samples and raters after the best one-to-one assignment",
    "diversity": "mean of 1 − IoU between samples, or between raters; neither more nor less than the raters' is better",
    "sample": "one output of a stochastic model",
    "head": "the output of a network for one rater, or for one place in the order of the masks' sizes",
    "share of raters": "fraction of the raters who marked a pixel, s",
    "correlation with disagreement, correlation of uncertainty and disagreement": "over the pixels, of the predicted "
    "p(1 − p) with s(1 − s), the variance of the raters' yes and no; 1 is perfect",
    "ECE, expected calibration error": "mean gap over bins between predicted probability and share of foreground",
    "ACE": "the same over bins of equal weight",
    "MCE": "the largest gap of a bin",
    "Brier": "mean squared difference of predicted probability and target; 0 is best",
    "AURC": "area under the curve of risk (1 − Dice) against the share of cases kept when uncertain ones are removed",
    "Krippendorff's alpha, Fleiss' kappa": "agreement beyond that expected by chance: 1 is perfect, 0 chance",
    "ICC": "intraclass correlation: share of the variance of areas that is between cases",
    "STAPLE": "one mask estimated from several together with each rater's sensitivity and specificity",
    "PSNR": "peak signal-to-noise ratio, 20 log10(range / root mean squared error), in dB; higher is better",
    "SSIM": "structural similarity of two images: 1 for equal images",
    "LR-PSNR": "PSNR between the low resolution and the output reduced to its size",
    "perceptual distance": "squared difference of unit-normalised features of an ImageNet network; lower is better",
    "aleatoric": "part of the predictive variance: noise of the data",
    "ambiguity": "part of the predictive variance: several plausible outputs for one input",
    "epistemic": "part of the predictive variance: uncertain weights",
    "NTIRE diversity": "gain of the best sample per pixel over the best single sample, in percent",
    "energy score, CRPS": "distance between a predicted distribution and the target; lower is better",
    "coverage": "share of the targets that lie inside the intervals",
    "AUSE": "area between the error left after removing pixels by predicted uncertainty and by true error; 0 is best",
    "95 % interval": "by the percentile bootstrap: the middle 95 % of the means of resampled cases",
    "Wilcoxon": "signed-rank test of paired differences, without assuming a normal distribution",
    "Holm": "adjustment of p values for the number of tests",
    "rank-biserial": "effect size from −1 to 1: how much the ranks of positive differences outweigh the negative ones",
    "fold": "a part of the cases that is held out for validation",
    "seed": "of the random numbers of a training",
    "phantom, phantoms": "synthetic data with known truth",
    "averaged weights": "exponential moving average of the weights (EMA)",
    "discriminator": "a network trained to distinguish outputs from originals, against which the other is trained",
}


def terms_in(texts: Iterable[str], terms: Mapping[str, str] = TERMS) -> dict[str, str]:
    """The terms that occur in any of `texts`, in singular or plural, with their meanings.

    >>> list(terms_in(["Hungarian IoU and the raters' majority"]))
    ['Jaccard, IoU', 'majority', 'Hungarian IoU']
    """
    text = "\n".join(texts)
    found = {}
    for term, meaning in terms.items():
        names = "|".join(re.escape(name) for name in term.split(", "))
        if re.search(rf"(?<![\w-])(?:{names})s?(?!\w)", text, re.IGNORECASE):
            found[term] = meaning
    return found
