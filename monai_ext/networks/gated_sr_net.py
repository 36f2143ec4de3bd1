"""Super-resolution generator of gated depthwise blocks (Chen et al. 2022, NAFNet, arXiv:2204.04676)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from monai_ext.networks.srresnet import SubPixelNetwork, scale_convolution, start_without_checkerboard

__all__ = ["GatedBlock", "GatedSRNet"]

BRANCH_GAIN = 0.3  # of a branch's last convolution at initialisation, so that a deep stack starts near the identity


class _ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each pixel, (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)  # one type under autocast
        return F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, weight, bias, self.eps).permute(0, 3, 1, 2)


class _Gate(nn.Module):
    """(B, 2C, H, W) -> (B, C, H, W): the product of both halves."""

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=1)
        return first * second


class GatedBlock(nn.Module):
    """Two residual branches: norm - 1x1 - depthwise 3x3 - gate - 1x1, and norm - 1x1 - gate - 1x1."""

    def __init__(self, features: int):
        super().__init__()
        wide = 2 * features
        self.spatial = nn.Sequential(
            _ChannelNorm(features),
            nn.Conv2d(features, wide, 1),
            nn.Conv2d(wide, wide, 3, padding=1, groups=wide),
            _Gate(),
            nn.Conv2d(features, features, 1),
        )
        self.mixing = nn.Sequential(
            _ChannelNorm(features), nn.Conv2d(features, wide, 1), _Gate(), nn.Conv2d(features, features, 1)
        )
        for end in self.branch_ends():
            scale_convolution(end, BRANCH_GAIN)

    def branch_ends(self) -> list[nn.Module]:
        """The last convolution of each residual branch; with zeros in them the block is the identity."""
        return [self.spatial[-1], self.mixing[-1]]

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.spatial(x)
        return x + self.mixing(x)


class GatedSRNet(SubPixelNetwork):
    """Low resolution (B, C, h, w) in [0, 1] -> high resolution (B, C', s h, s w) on the same scale, any h and w >= 1.

    It has the head, merge and sub-pixel tail of `SRResNet(norm=None, upsampling="direct")` around gated blocks: most
    operations are 1x1 convolutions, spatial context comes from depthwise 3x3 convolutions, and products of features are
    the only nonlinearity. The defaults have 287,136 parameters, 0.52 of those of `SRResNet` with 48 features and 12
    blocks. The output is linear and not clipped: clip it to [0, 1] when it is stored or scored, never in a loss.

    Args:
        in_channels: bands C of the input.
        out_channels: bands C' of the output.
        features: maps in the body.
        blocks: gated blocks; each widens the receptive field by one pixel in each direction.
        scale: s, any whole number >= 2: one sub-pixel convolution from the body.
        residual: add the bicubically upscaled input; the network starts as plain bicubic interpolation. Needs C' = C.

    Its parts are `head`, `blocks`, `merge` (all at low resolution) and `tail`. `encode` and `upscale` are the two
    halves of `forward`, for networks that put something between them.

    Raises:
        ValueError: a count below 1, a scale below 2, `residual` with C' other than C.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        *,
        features: int = 48,
        blocks: int = 16,
        scale: int = 4,
        residual: bool | str = True,
    ):
        super().__init__(in_channels, out_channels, features=features, blocks=blocks, scale=scale, residual=residual)
        if scale < 2:
            raise ValueError(f"scale={scale} must be at least 2.")
        self.head = nn.Conv2d(in_channels, features, 3, padding=1)
        self.blocks = nn.Sequential(*(GatedBlock(features) for _ in range(blocks)))
        self.merge = nn.Conv2d(features, features, 3, padding=1)
        self.upsampler = nn.Sequential()
        self.tail = nn.Sequential(nn.Conv2d(features, out_channels * scale**2, 3, padding=1), nn.PixelShuffle(scale))
        start_without_checkerboard(self.tail[0], scale)
        if self.residual:
            scale_convolution(self.tail[0], 0.0)
