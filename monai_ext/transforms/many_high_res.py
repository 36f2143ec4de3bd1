"""Pairs for super-resolution from records with several high-resolution targets of one low-resolution image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from monai_ext.transforms.augmentations import Augmentation
from monai_ext.transforms.degradation import Degradation
from monai_ext.transforms.pairs import PairedCrops
from monai_ext.transforms.parameters import AugmentParameters

__all__ = ["ManyHighResCrops"]


class ManyHighResCrops(PairedCrops):
    """Batch of records -> image: low resolution (B, C, h, w), label: one of its targets (B, C, s h, s w), in [0, 1].

    Takes "label" (B, K, C, H, W) of any real type, K targets of one low-resolution image each, see
    `DecodeManyHighResd`. With a crop size the target of each record is drawn anew in every epoch, with the epoch's
    other random numbers. Without one the label is the first target, the original, and "targets" holds all of them.

    The low resolution is that of the label, computed here, so that both agree at the borders of a crop too; a stored
    one is dropped. The targets of a record share it up to those borders and rounding.

    Args:
        degradation, parts, crop_size, kwargs: as for `PairedCrops`; without a crop size nothing is augmented.

    Raises:
        ValueError: labels of another shape, an augmentation without a crop size, or as `PairedCrops`.
    """

    def __init__(
        self,
        degradation: Degradation,
        parts: Sequence[Augmentation] = (),
        *,
        crop_size: int | None = None,
        **kwargs: Any,
    ):
        if crop_size is None and (parts or kwargs):
            raise ValueError("whole targets are not augmented: set a crop_size, or leave out all but the degradation.")
        super().__init__(degradation, parts, crop_size=crop_size, **kwargs)

    def draw(self, count: int, generator: torch.Generator | None = None) -> AugmentParameters:
        parameters = super().draw(count, generator)
        if self.crop_size is not None:
            parameters.tensors["target"] = torch.rand(count, generator=generator)
        return parameters

    @torch.no_grad()
    def apply(self, batch: Mapping, parameters: AugmentParameters) -> dict:
        rest = {key: value for key, value in batch.items() if key != "label"}
        targets = batch["label"].as_subclass(Tensor)
        if targets.ndim != 5 or len(targets) != len(parameters):
            raise ValueError(f"label {tuple(targets.shape)} must be (B, K, C, H, W), B={len(parameters)} as drawn.")
        if self.crop_size is None:
            low, high = self._intensities(targets.dtype)
            unit = (targets.to(torch.float32) - low) * (1.0 / (high - low))  # as the label is scaled, to the bit
            return super().apply({**rest, "image": targets[:, 0]}, parameters) | {"targets": unit}
        count = targets.shape[1]
        chosen = (parameters.tensors["target"].to(targets.device) * count).long().clamp(max=count - 1)
        record = torch.arange(len(targets), device=targets.device)
        return super().apply({**rest, "image": targets[record, chosen]}, parameters)
