"""Perceptual losses and scores by those feature networks whose weights are given."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from monai_ext.losses.perceptual import ContentLoss, PerceptualDistance, PerceptualEnergy
from monai_ext.losses.shifted_crops import ShiftedCrops
from monai_ext.networks.features import MobileNetV2Features, VGG19Features

__all__ = ["Perception", "content_loss", "perceptual_energy", "perceptual_score"]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Perception:
    """What compares images by their features, each None without weights of a feature network; built when first asked.

    Args:
        feature_weights, vgg19_weights, device, bands: as of `content_loss`.
        shift: of `content`, see `ShiftedCrops`; 0 compares whole images.

    Attributes:
        content: `content_loss`.
        energy: `perceptual_energy`.
        score: `perceptual_score`.
    """

    feature_weights: str | Path | None = None
    vgg19_weights: str | Path | None = None
    device: torch.device | str = "cpu"
    bands: Sequence[int] = (0, 1, 2)
    shift: int = 0

    def _options(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "shift"}

    @cached_property
    def content(self) -> nn.Module | None:
        loss = content_loss(**self._options())
        return ShiftedCrops(loss, self.shift) if loss is not None and self.shift else loss

    @cached_property
    def energy(self) -> nn.Module | None:
        return perceptual_energy(**self._options())

    @cached_property
    def score(self) -> nn.Module | None:
        return perceptual_score(feature_weights=self.feature_weights, device=self.device, bands=self.bands)


def content_loss(
    *,
    feature_weights: str | Path | None,
    vgg19_weights: str | Path | None = None,
    device: torch.device | str = "cpu",
    bands: Sequence[int] = (0, 1, 2),
) -> nn.Module | None:
    """The content loss of the adversarial stage: loss(prediction, target), images (B, C, H, W) in [0, 1].

    SRGAN's, on VGG19's relu5_4, if there are weights of VGG19; else the distance of unit-length MobileNetV2 features;
    without any weights None, with a warning, since features of a random network are no perceptual measure.

    Args:
        feature_weights: of MobileNetV2, see `MobileNetV2Features`.
        vgg19_weights: of VGG19, see `VGG19Features`.
        bands: channels taken for red, green and blue.

    Raises:
        FileNotFoundError: no such file of weights.
        ValueError: a file of other weights.
    """
    features = _features(feature_weights, vgg19_weights, device, bands)
    if features is None:
        _logger.warning(
            "no content loss and no perceptual score: give --feature_weights (a file of torchvision's MobileNetV2, or "
            "imagenet to fetch it) or --vgg19_weights"
        )
        return None
    return ContentLoss(features) if isinstance(features, VGG19Features) else PerceptualDistance(features)


def perceptual_energy(
    *,
    feature_weights: str | Path | None,
    vgg19_weights: str | Path | None = None,
    device: torch.device | str = "cpu",
    bands: Sequence[int] = (0, 1, 2),
) -> nn.Module | None:
    """The energy score of samples by their features, `PerceptualEnergy`, of the network that `content_loss` takes.

    Arguments and errors as of `content_loss`; None without weights.
    """
    features = _features(feature_weights, vgg19_weights, device, bands)
    return None if features is None else PerceptualEnergy(features)


def perceptual_score(
    *,
    feature_weights: str | Path | None,
    device: torch.device | str = "cpu",
    bands: Sequence[int] = (0, 1, 2),
) -> nn.Module | None:
    """The perceptual distance on MobileNetV2 features, score(prediction, target) -> (B,); None without weights.

    Arguments and errors as of `content_loss`.
    """
    features = _features(feature_weights, None, device, bands)
    return None if features is None else PerceptualDistance(features, reduction="none")


def _features(
    feature_weights: str | Path | None,
    vgg19_weights: str | Path | None,
    device: torch.device | str,
    bands: Sequence[int],
) -> MobileNetV2Features | VGG19Features | None:
    """Those of VGG19 where there are weights of it, else of MobileNetV2, else None."""
    if vgg19_weights is not None:
        features: nn.Module = VGG19Features(vgg19_weights, bands=bands)
    elif feature_weights is not None:
        features = MobileNetV2Features(feature_weights, bands=bands)
    else:
        return None
    return features.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
