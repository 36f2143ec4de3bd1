"""Small super-resolution networks with and without a latent, and an image for them."""

from __future__ import annotations

import torch
from torch import nn

from monai_ext.networks.latent_srresnet import BayesianSRResNet
from monai_ext.networks.srresnet import SRResNet
from monai_ext.networks.uncertain_sr import PointSuperResolution
from monai_ext.transforms.degradation import Degradation

SCALE, LATENT = 4, 3


OPERATOR = Degradation(SCALE)


PARTS = ("aleatoric", "ambiguity", "epistemic")


def network(conv=nn.Conv2d, *, seed: int = 0, lively: bool = True, **options) -> BayesianSRResNet:
    """A small one; lively: with the layers that begin at zero set to chance, as if trained."""
    torch.manual_seed(seed)
    generator = SRResNet(features=16, blocks=1, scale=SCALE, norm=None, residual=True, upsampling="direct", conv=conv)
    built = BayesianSRResNet(generator, OPERATOR, latent_channels=LATENT, texture_blocks=1, conv=conv, **options)
    if lively:
        with torch.no_grad():
            for layer in (built.prior_net[-1], built.texture[-1], built.scale_net[-2], generator.tail[0]):
                layer.weight.normal_(0, 0.05)
    return built.eval()


def low_resolution(batch: int = 2, height: int = 6, width: int = 7) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return OPERATOR.reduce(0.2 + 0.6 * torch.rand(batch, 3, SCALE * height, SCALE * width, generator=generator))


def point(seed: int = 0, conv=nn.Conv2d, operator=None) -> PointSuperResolution:
    return PointSuperResolution(network(conv, seed=seed).generator, operator).eval()


def lr_psnr(images: torch.Tensor, low_res: torch.Tensor) -> float:
    rounded = (images.clamp(0, 1) * 255).round() / 255
    return -10 * (OPERATOR.reduce(rounded) - low_res).square().mean((1, 2, 3)).max().log10().item()
