"""Pairs for super-resolution from records that hold several high resolutions of one low resolution."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from monai_ext.transforms.draws import AugmentParameters
from monai_ext.transforms.pairs import PairedCrops

__all__ = ["ManyHighResCrops"]


class ManyHighResCrops(PairedCrops):
    """Batch of records -> image: low resolution (B, C, h, w), label: one of its answers (B, C, s h, s w), in [0, 1].

    Takes "label" (B, K, C, H, W) of any real type, K answers to one low resolution each, as `DecodeManyHighResd` gives
    them. With a crop size each record shows an answer drawn anew in every epoch, with the epoch's other random numbers.
    Without one the label is the first answer, which is the original, and all of them join as "answers".

    The low resolution is the label's own, degraded here, so that they agree at the borders of a crop too; a stored one
    is left out. The answers of a record have the same but for those borders and the rounding.

    Args:
        degradation, crop_size, kwargs: as for `PairedCrops`; without a crop size nothing is turned or recoloured.

    Raises:
        ValueError: labels that are no sets of answers, an augmentation without a crop size, or as `PairedCrops`.
    """

    def __init__(self, degradation: Callable[..., Tensor], *, crop_size: int | None = None, **kwargs: Any):
        if crop_size is None and kwargs:
            raise ValueError(f"{', '.join(kwargs)}: whole answers are left as they are; set a crop_size.")
        super().__init__(degradation, crop_size=crop_size, **kwargs)

    def draw(self, count: int, generator: torch.Generator | None = None) -> AugmentParameters:
        draw = super().draw(count, generator)
        if self.crop_size is not None:
            draw.tensors["answer"] = torch.rand(count, generator=generator)
        return draw

    @torch.no_grad()
    def apply(self, batch: Mapping, draw: AugmentParameters) -> dict:
        rest = {key: value for key, value in batch.items() if key != "label"}
        answers = batch["label"].as_subclass(Tensor)
        if answers.ndim != 5 or len(answers) != len(draw):
            raise ValueError(f"label {tuple(answers.shape)} must be (B, K, C, H, W), B={len(draw)} as drawn.")
        if self.crop_size is None:
            low, high = self._intensities(answers.dtype)
            unit = (answers.to(torch.float32) - low) * (1.0 / (high - low))  # as the label is scaled, to the bit
            return super().apply({**rest, self.image_key: answers[:, 0]}, draw) | {"answers": unit}
        count = answers.shape[1]
        chosen = (draw.tensors["answer"].to(answers.device) * count).long().clamp(max=count - 1)
        record = torch.arange(len(answers), device=answers.device)
        return super().apply({**rest, self.image_key: answers[record, chosen]}, draw)
