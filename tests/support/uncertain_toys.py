"""Toy networks and trainings for checks of uncertainty."""

from __future__ import annotations

import torch
from torch import nn

from monai_ext.commands.uncertainty.phantom_training import PhantomTraining
from monai_ext.networks.uncertain_sr import UncertainSuperResolution
from monai_ext.phantoms.modes import draw_fields

TINY = PhantomTraining(steps=4, batch_size=2, crop_size=16, features=16, blocks=1, learning_rate=1e-3)


def scenes(count: int = 4) -> torch.Tensor:
    return torch.stack([draw_fields((32, 32), layout_seed=i, texture_seed=i) for i in range(count)])


class Toy(UncertainSuperResolution):
    """Answers with `level` + `spread` * noise, and says a variance of 0.04."""

    scale, latent_channels = 2, 1

    def __init__(self, level: float, spread: float):
        super().__init__()
        self.level, self.spread = level, spread

    def moments(self, low_res, noise):
        for draw in noise.unbind(1):
            mean = self.level + self.spread * nn.functional.interpolate(draw, scale_factor=2)
            yield mean, torch.full_like(mean, 0.04)
