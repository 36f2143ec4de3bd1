"""A small network with a latent, its discriminator, and pairs to train them on."""

from __future__ import annotations

import torch
from torch import nn

from monai_ext.networks.latent_srresnet import BayesianSRResNet
from monai_ext.networks.sr_discriminator import SRDiscriminator
from monai_ext.networks.srresnet import SRResNet
from monai_ext.transforms.degradation import Degradation

SCALE = 4


class Pairs:
    """Two batches of two pairs."""

    def __init__(self, size: int = 16):
        generator = torch.Generator().manual_seed(5)
        high = [torch.rand(2, 3, size, size, generator=generator) for _ in range(2)]
        self.batches = [{"image": Degradation(SCALE)(images), "label": images} for images in high]
        self.dataset = [image for images in high for image in images]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self):
        return iter(self.batches)


def networks(conv=nn.Conv2d) -> tuple[BayesianSRResNet, SRDiscriminator]:
    torch.manual_seed(0)
    generator = SRResNet(features=8, blocks=1, norm=None, residual=True, upsampling="direct", conv=conv)
    built = BayesianSRResNet(generator, Degradation(SCALE), latent_channels=2, texture_blocks=1, conv=conv)
    return built, SRDiscriminator(features=4, norm=None, head="patch")
