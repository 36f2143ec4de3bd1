"""Adapt the threshold of a probability map to the certainty of its outline."""

from __future__ import annotations

import math

from monai.config import KeysCollection
from torch import Tensor

from monai_ext.transforms.probability_maps import ProbabilityMapTransform

__all__ = ["AdaptiveThresholdd"]

CERTAIN = 16.0  # logits are limited to this


class AdaptiveThresholdd(ProbabilityMapTransform):
    """Lowers the logits of a probability map (C, H, W), the more the less certain its outline is; shape and type stay.

    Networks that were trained by soft Dice tend to draw too large an area where they are uncertain (Bertels et al.
    2019, arXiv:1911.02278), as in images of a camera that they have not seen. How uncertain an outline is shows in the
    area inside it, which then depends on the threshold: with A(z) the number of pixels whose logit is above z,

        u = log(A(t - 1) / A(t + 1)),    shift = min(max(gain (u - tolerance), 0), at_most, (largest logit - t) / 2)

    where t is the logit of `threshold`. The shift is subtracted from all logits, so that `threshold` stands for a
    higher one. The last limit keeps the surest pixels above it: no object vanishes. A map without any pixel above the
    threshold is returned as it is, and so is one of a certain outline.

    Args:
        keys: probability maps, floating point, (C, H, W); each channel is treated alone.
        threshold: of the mask, in (0, 1).
        gain: logits for each unit of u above `tolerance`.
        tolerance: u of an outline that is certain enough.
        at_most: the largest shift.
        enabled: False passes everything through, so that a configuration can switch it.

    Raises:
        ValueError: a threshold outside (0, 1), a negative number, a map that is not (C, H, W).
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        threshold: float = 0.5,
        gain: float = 4.0,
        tolerance: float = 0.3,
        at_most: float = 3.0,
        enabled: bool | str = True,
    ):
        super().__init__(keys, threshold=threshold, enabled=enabled)
        if min(gain, tolerance, at_most) < 0:
            raise ValueError(f"gain={gain}, tolerance={tolerance} and at_most={at_most} must not be negative.")
        self.gain, self.tolerance, self.at_most = gain, tolerance, at_most

    def one_channel(self, probability: Tensor) -> Tensor:
        logits = probability.float().logit().clamp(-CERTAIN, CERTAIN)
        shift = self.shift(logits)
        return (logits - shift).sigmoid().to(probability.dtype) if shift > 0 else probability

    def shift(self, logits: Tensor) -> float:
        """What is subtracted from these logits, of any shape."""
        middle = math.log(self.threshold / (1 - self.threshold))
        margin = logits.max().item() - middle
        if margin <= 0:
            return 0.0
        wide, narrow = ((logits > middle + step).sum().item() for step in (-1, 1))
        uncertainty = math.log(wide / narrow) if narrow else math.inf
        return min(max(self.gain * (uncertainty - self.tolerance), 0.0), self.at_most, margin / 2)
