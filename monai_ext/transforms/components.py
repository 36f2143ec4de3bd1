"""Keep one connected component of a probability map."""

from __future__ import annotations

import numpy as np
import torch
from monai.config import KeysCollection
from scipy.ndimage import binary_fill_holes
from skimage.measure import label
from torch import Tensor

from monai_ext.transforms.probability_maps import ProbabilityMapTransform

__all__ = ["KeepCentralComponentd"]


class KeepCentralComponentd(ProbabilityMapTransform):
    """Keeps one connected component of a probability map (C, H, W), for pictures that show one object each.

    Kept is the component (8-connected, probability > threshold) with the greatest sum of `probability - threshold`,
    weighted by a Gaussian about the centre of the picture: size, certainty and place decide together. In dermoscopy
    the lesion is framed by the person who takes the picture (in ISIC 2017, the standard deviation of the lesion's
    pixels about the centre is 0.2 of the height and 0.17 of the width), so that a corner of the dermoscope or a mark
    of ink does not win by its area. Its holes are filled. Probabilities elsewhere are lowered to just below the
    threshold and those in the holes raised to just above it; all others stay, so that maps can still be ranked and
    shown. A map without any pixel above the threshold is returned as it is.

    Args:
        keys: probability maps, floating point, (C, H, W); each channel is treated alone.
        threshold: a pixel belongs to a component when its probability is greater than this, in (0, 1).
        centre_sigma: standard deviation of the Gaussian, as a fraction of height and of width; None: no preference.
        enabled: False passes everything through, so that a configuration can switch it.

    Raises:
        ValueError: a threshold outside (0, 1), a `centre_sigma` that is not positive, a map that is not (C, H, W).
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        threshold: float = 0.5,
        centre_sigma: float | None = 0.2,
        enabled: bool | str = True,
    ):
        super().__init__(keys, threshold=threshold, enabled=enabled)
        if centre_sigma is not None and not centre_sigma > 0:
            raise ValueError(f"centre_sigma={centre_sigma} must be above 0, or None for no preference.")
        self.centre_sigma = centre_sigma

    def one_channel(self, probability: Tensor) -> Tensor:
        values = probability.detach().cpu().double().numpy()
        components, count = label(values > self.threshold, connectivity=2, return_num=True)
        if not count:
            return probability
        excess = np.clip(values - self.threshold, 0, None) * self._weight(values.shape)
        kept = components == 1 + np.bincount(components.ravel(), excess.ravel(), count + 1)[1:].argmax()
        kept = torch.from_numpy(binary_fill_holes(kept)).to(probability.device)
        margin = 2 * torch.finfo(probability.dtype).eps
        below, above = self.threshold * (1 - margin), self.threshold * (1 + margin)
        return torch.where(kept, probability.clamp(min=above), probability.clamp(max=below))

    def _weight(self, shape: tuple[int, int]) -> np.ndarray:
        if self.centre_sigma is None:
            return np.ones(shape)
        row, column = (np.exp(-0.5 * (((np.arange(n) + 0.5) / n - 0.5) / self.centre_sigma) ** 2) for n in shape)
        return row[:, None] * column
