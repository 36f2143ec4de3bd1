"""Base of transforms of probability maps, channel by channel."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from torch import Tensor

from monai_ext.runtime.settings import as_bool

__all__ = ["ProbabilityMapTransform"]


class ProbabilityMapTransform(MapTransform):
    """Passes each channel of probability maps (C, H, W) through `one_channel`, which a subclass has.

    Args:
        keys: probability maps, floating point, (C, H, W).
        threshold: of the mask, in (0, 1).
        enabled: False passes everything through, so that a configuration can switch it.

    Raises:
        ValueError: a threshold outside (0, 1), or, when called, a map that is not (C, H, W).
    """

    def __init__(self, keys: KeysCollection, *, threshold: float = 0.5, enabled: bool | str = True):
        super().__init__(keys)
        if not 0 < threshold < 1:
            raise ValueError(f"threshold={threshold} must lie between 0 and 1.")
        self.threshold = float(threshold)
        self.enabled = as_bool(enabled, "enabled")

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        for key in self.key_iterator(item) if self.enabled else ():
            maps = torch.as_tensor(item[key])
            if maps.ndim != 3:
                raise ValueError(f"{key!r} must be a map (C, H, W), not of shape {tuple(maps.shape)}.")
            item[key] = torch.stack([self.one_channel(channel) for channel in maps])
        return item

    def one_channel(self, probability: Tensor) -> Tensor:
        """A map (H, W) of the same shape and type."""
        raise NotImplementedError
