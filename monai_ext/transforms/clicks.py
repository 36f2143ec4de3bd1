"""Clicks drawn in training as further channels of the images, for networks that take them as a prompt."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from monai_ext.formulas.clicks import click_maps, consensus_and_union, random_click
from monai_ext.transforms.batch import BatchAugment
from monai_ext.transforms.parameters import AugmentParameters

__all__ = ["ClickAugment"]

WITHOUT_CLICK = 0.1  # of the cases, so that a network also learns to do without
WITH_BACKGROUND = 0.5


class ClickAugment:
    """An augmentation after which the last channels of the image are clicks, see `click_maps`.

    The clicks that the images come with are cut off before, and others drawn on the augmented masks: in the first
    channel a random pixel of the consensus, which at least half of the raters marked (of the union, where there is
    none), except for a tenth of the cases; in the second, for half of the cases, one that nobody marked. All depends on
    the epoch's random numbers alone, see `DeviceLoader`. For several structures see `consensus_and_union`.

    Args:
        augment: of images without clicks.
        clicks: 1 for foreground, 2 for foreground and background.
    """

    def __init__(self, augment: BatchAugment, clicks: int):
        self.augment, self.clicks = augment, clicks

    def draw(self, count: int, generator: torch.Generator | None = None) -> AugmentParameters:
        parameters = self.augment.draw(count, generator)
        parameters.tensors["clicks"] = torch.rand(count, 4, generator=generator)
        return parameters

    @torch.no_grad()
    def apply(self, batch: Mapping, parameters: AugmentParameters) -> dict:
        found = self.augment.apply({**batch, "image": batch["image"][:, : -self.clicks]}, parameters)
        image, uniform = found["image"], parameters.tensors["clicks"]
        consensus, union = consensus_and_union(found["label"] > 0.5, found["presence"])
        click = random_click(consensus, uniform[:, 0])
        click = click.masked_fill((uniform[:, 1] < WITHOUT_CLICK)[:, None], torch.nan)
        points = [click]
        if self.clicks > 1:
            outside = random_click(~union, uniform[:, 2])
            points.append(outside.masked_fill((uniform[:, 3] >= WITH_BACKGROUND)[:, None], torch.nan))
        maps = torch.stack([click_maps(each[:, None], image.shape[2:]) for each in points], dim=1)
        joined = torch.cat([image, maps.to(image.dtype)], dim=1)
        return {**found, "image": joined.contiguous(memory_format=self.augment.memory_format)}

    def __call__(self, batch: Mapping) -> dict:
        return self.apply(batch, self.draw(len(batch["image"])).to(batch["image"].device))
