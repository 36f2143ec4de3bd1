"""Augmentation of cases with several raters, whose masks are all kept or of which one is drawn for each case."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from torch import Tensor

from monai_ext.formulas.checks import check_choice
from monai_ext.formulas.consensus import CONSENSUS_METHODS, consensus_map
from monai_ext.transforms.augmentations import RandomAffine, RandomFlip, RandomGamma, RandomNoise
from monai_ext.transforms.batch import BatchAugment
from monai_ext.transforms.clicks import ClickAugment
from monai_ext.transforms.parameters import AugmentParameters

__all__ = ["OneRaterAugment", "RaterConsensusd", "pick_rater", "rater_augmentation"]


def pick_rater(masks: Tensor, presence: Tensor, uniform: Tensor) -> Tensor:
    """The mask of one rater of each case, (B, 1, *spatial), drawn uniformly among those present.

    >>> masks = torch.arange(3).view(1, 3, 1, 1)  # rater r fills the mask with r
    >>> presence = torch.tensor([[True, False, True]])
    >>> [pick_rater(masks, presence, torch.tensor([u])).item() for u in (0.0, 0.49, 0.5, 0.99)]
    [0, 0, 2, 2]

    Args:
        masks: (B, R, *spatial), or (B, R, K, *spatial) of K structures.
        presence: (B, R), True where the rater marked the case, at least once in every case.
        uniform: (B,) in [0, 1): u picks rater floor(u K) of the K that are present.
    """
    present = presence.to(masks.device) != 0
    count = present.sum(1)
    place = (uniform.to(masks.device) * count).long().clamp(max=count - 1)
    order = present.long().cumsum(1) - 1  # place of each rater among those present
    chosen = ((order == place[:, None]) & present).to(torch.uint8).argmax(1)
    return masks[torch.arange(len(masks), device=masks.device), chosen][:, None]


class RaterConsensusd(MapTransform):
    """The masks of several raters as one, for networks that learn a single mask: (R, *spatial) -> (1, *spatial).

    Args:
        keys: of the masks of a case, such as "label" of `DecodeRaters`.
        method: one of `CONSENSUS_METHODS`, see `monai_ext.formulas.consensus`.
        presence_key: of (R,), True where the rater marked the case; a case without it has all.
        soft: keep the map, float32 in [0, 1], instead of the mask where it is at least one half, uint8.
        allow_missing_keys: see MONAI's `MapTransform`.

    Raises:
        ValueError: no such method; when called, shapes that do not fit.
    """

    def __init__(
        self,
        keys: KeysCollection = "label",
        *,
        method: str = "staple",
        presence_key: str = "presence",
        soft: bool = False,
        allow_missing_keys: bool = False,
    ):
        super().__init__(keys, allow_missing_keys)
        self.method = check_choice("method", method, CONSENSUS_METHODS)
        self.presence_key, self.soft = presence_key, soft

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        presence = item.get(self.presence_key)
        for key in self.key_iterator(item):
            masks = torch.as_tensor(item[key]).as_subclass(Tensor)[None]
            here = None if presence is None else torch.as_tensor(presence)[None]
            consensus = consensus_map(masks, presence=here, method=self.method)
            item[key] = consensus if self.soft else (consensus >= 0.5).to(torch.uint8)
        return item


class OneRaterAugment(BatchAugment):
    """`BatchAugment` that keeps the mask of one rater, drawn anew for each case in each epoch: label (B, 1, H, W).

    This is how a probabilistic U-Net learns from a set of raters (Kohl et al. 2018). Missing ones are never drawn. The
    rater is drawn with the epoch's other random numbers (see `DeviceLoader`): it depends on seed, epoch and place in
    the epoch alone, so that a resumed run sees the raters of an uninterrupted one. Arguments as for `BatchAugment`; a
    batch needs "presence" (B, R). Of K structures, presence (B, R, K) and label (B, R K, H, W), all masks of one rater
    are kept, (B, K, H, W), who marked all of them.
    """

    def draw(self, count: int, generator: torch.Generator | None = None) -> AugmentParameters:
        parameters = super().draw(count, generator)
        parameters.tensors["rater"] = torch.rand(count, generator=generator)
        return parameters

    @torch.no_grad()
    def apply(self, batch: Mapping, parameters: AugmentParameters) -> dict:
        label, presence = batch[self.label_key], batch["presence"]
        if presence.ndim == 3:
            of_raters = label.unflatten(1, presence.shape[1:])
            label = pick_rater(of_raters, (presence != 0).all(2), parameters.tensors["rater"])[:, 0]
        else:
            label = pick_rater(label, presence, parameters.tensors["rater"])
        return super().apply({**batch, self.label_key: label}, parameters)


def rater_augmentation(
    *,
    flip_prob: float = 0.5,
    rotate: float | Sequence[float] = 20,
    scale: Sequence[float] | None = (0.85, 1.18),
    translate: float | None = 0.05,
    gamma: Sequence[float] | None = (0.8, 1.25),
    noise: float | None = 0.03,
    normalise: str = "minmax",
    channels_last: bool = True,
    one_rater: bool = False,
    spatial_dims: int = 2,
    inner_size: Sequence[int] | None = None,
    clicks: int = 0,
) -> BatchAugment | ClickAugment:
    """The augmentation of the bundles for several raters: flips, shift, zoom and rotation, gamma, noise.

    Args:
        flip_prob: see `RandomFlip`. Flips may mix up raters who differ by side.
        rotate: degrees, see `RandomAffine`; in 3-D one number turns about the axis of the slices alone.
        scale, translate: see `RandomAffine`.
        gamma: see `RandomGamma`.
        noise: see `RandomNoise`.
        normalise: of `DecodeRaterImages`; gamma and noise are for images in [0, 1], which "minmax" makes.
        channels_last: see `BatchAugment`.
        one_rater: keep the mask of one rater, drawn anew in each epoch, see `OneRaterAugment`.
        spatial_dims: 2 or 3.
        inner_size: see `BatchAugment`.
        clicks: last channels of the images that are clicks, drawn anew, see `ClickAugment`.
    """
    angles = (0, 0, rotate) if spatial_dims == 3 and isinstance(rotate, (int, float)) else rotate
    parts = [RandomFlip(flip_prob), RandomAffine(angles, scale, translate=translate)]
    if normalise == "minmax":
        parts += [RandomGamma(gamma), RandomNoise(noise)]
    kind = OneRaterAugment if one_rater else BatchAugment
    augment = kind(parts, channels_last=channels_last, spatial_dims=spatial_dims, inner_size=inner_size)
    return ClickAugment(augment, clicks) if clicks else augment
