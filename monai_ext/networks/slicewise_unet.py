"""2-D U-Nets applied to volumes slice by slice, with features exchanged between neighbouring slices."""

from __future__ import annotations

import torch
from monai.networks.nets import FlexibleUNet
from torch import Tensor, nn

__all__ = ["SlicewiseUNet"]


class SlicewiseUNet(nn.Module):
    """A U-Net of pictures on the slices of volumes: (B, C, H, W, D) -> logits (B, out_channels, H, W, D).

    At each level of the encoder, and before the last layer, a convolution over three slices adds features of the
    neighbouring slices. These convolutions start at zero, so that training starts from the network of single slices and
    what its encoder has learnt from photographs. The number of slices is never halved: they may be few, and thick.

    Args:
        network: of pictures (B, C, H, W); H and W must be what it takes.
        in_channels: image channels C.
    """

    def __init__(self, network: FlexibleUNet, in_channels: int):
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        with torch.no_grad():
            levels = network.eval().encoder(torch.zeros(1, in_channels, 32, 32))
        network.train()
        widths = [level.shape[1] for level in levels] + [network.segmentation_head[0].in_channels]
        self.exchanges = nn.ModuleList(_Exchange(width) for width in widths)

    def forward(self, image: Tensor) -> Tensor:
        cases = len(image)
        slices = image.movedim(4, 1).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        levels = self.network.encoder(slices)
        *of_encoder, last = self.exchanges
        levels = [exchange(level, cases) for exchange, level in zip(of_encoder, levels, strict=True)]
        features = last(self.network.decoder(levels, self.network.skip_connect), cases)
        return self.network.segmentation_head(features).unflatten(0, (cases, -1)).movedim(1, 4)


class _Exchange(nn.Module):
    """Features of slices, (B D, F, H, W), and a linear function of those of three slices, zero at first."""

    def __init__(self, width: int):
        super().__init__()
        self.beside = nn.Conv2d(width, width, (3, 1), padding=(1, 0))
        for parameter in self.beside.parameters():
            nn.init.zeros_(parameter)

    def forward(self, slices: Tensor, cases: int) -> Tensor:
        columns = slices.unflatten(0, (cases, -1)).flatten(3).transpose(1, 2)  # (B, F, D, H W)
        return slices + self.beside(columns).transpose(1, 2).reshape(slices.shape)
