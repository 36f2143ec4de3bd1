"""Perceptual losses and scores by those feature networks whose weights are given."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from monai_ext.losses.first_samples import FirstSamples
from monai_ext.losses.perceptual import ContentLoss, PerceptualDistance, PerceptualEnergy
from monai_ext.losses.shifted_crops import ShiftedCrops
from monai_ext.networks.features import MobileNetV2Features, VGG19Features

__all__ = ["Perception"]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Perception:
    """What compares images (B, C, H, W) in [0, 1] by their features; None without weights. Built at its first use.

    Args:
        feature_weights: of MobileNetV2, see `MobileNetV2Features`.
        vgg19_weights: of VGG19, see `VGG19Features`.
        bands: channels taken for red, green and blue.
        shift: of `content`, see `ShiftedCrops`; 0 compares whole images.

    Raises (at its first use):
        FileNotFoundError: no such file of weights.
        ValueError: a file of other weights.
    """

    feature_weights: str | Path | None = None
    vgg19_weights: str | Path | None = None
    device: torch.device | str = "cpu"
    bands: Sequence[int] = (0, 1, 2)
    shift: int = 0

    @cached_property
    def content(self) -> nn.Module | None:
        """The content loss of the adversarial stage, loss(prediction, target).

        SRGAN's, on VGG19's relu5_4, if there are weights of VGG19; else the distance of unit-length MobileNetV2
        features. Without any weights a warning is given, since features of a random network are no perceptual measure.
        """
        if self._features is None:
            _logger.warning(
                "no content loss and no perceptual score: give --feature_weights (a file of torchvision's MobileNetV2, "
                "or imagenet to fetch it) or --vgg19_weights"
            )
            return None
        kind = ContentLoss if isinstance(self._features, VGG19Features) else PerceptualDistance
        loss = kind(self._features)
        return ShiftedCrops(loss, self.shift) if self.shift else loss

    @cached_property
    def sample_content(self) -> nn.Module | None:
        """`content` of the first of several samples, loss(samples, target)."""
        return None if self.content is None else FirstSamples(self.content)

    @cached_property
    def energy(self) -> nn.Module | None:
        """The energy score of samples by the features of `content`, see `PerceptualEnergy`."""
        return None if self._features is None else PerceptualEnergy(self._features)

    @cached_property
    def score(self) -> nn.Module | None:
        """The perceptual distance on MobileNetV2 features, score(prediction, target) -> (B,)."""
        features = self._mobilenet
        return None if features is None else PerceptualDistance(features, reduction="none")

    @cached_property
    def _features(self) -> nn.Module | None:
        if self.vgg19_weights is None:
            return self._mobilenet
        return self._placed(VGG19Features(self.vgg19_weights, bands=self.bands))

    @cached_property
    def _mobilenet(self) -> nn.Module | None:
        if self.feature_weights is None:
            return None
        return self._placed(MobileNetV2Features(self.feature_weights, bands=self.bands))

    def _placed(self, features: nn.Module) -> nn.Module:
        return features.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
