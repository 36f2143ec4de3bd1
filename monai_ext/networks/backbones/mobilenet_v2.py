"""MobileNetV2 as a MONAI encoder (Sandler et al. 2018, arXiv:1801.04381), with torchvision's parameter names.

Official ImageNet checkpoints load unchanged: `MobileNetV2Encoder.load_weights` takes torchvision's state dict, drops
the classifier and fits the first convolution to the number of input channels.
"""

from __future__ import annotations

from pathlib import Path

from monai.networks.blocks import BaseEncoder
from monai.networks.nets.flexible_unet import FLEXUNET_BACKBONE
from torch import Tensor, nn

from monai_ext.networks.backbones.weights import load_encoder_weights

__all__ = ["MobileNetV2Encoder"]

# Table 2 of the paper: expansion t, output channels c, repeats n, first stride s.
SETTINGS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
# The last block before each halving of the resolution: these features are the U-Net's skips, at 1/2 ... 1/32.
FEATURE_BLOCKS = (1, 3, 6, 13, 17)
WIDTHS = (0.25, 0.35, 0.5, 0.75, 1.0, 1.4)


def _scaled(channels: int, width: float) -> int:
    """`channels * width` rounded to a multiple of 8 and never more than 10 % below it, as in the official code."""
    target = channels * width
    rounded = max(8, int(target + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * target else rounded


class _ConvNormAct(nn.Sequential):
    def __init__(self, in_channels: int, out_channels: int, *, kernel: int = 3, stride: int = 1, groups: int = 1):
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU6(),  # not in place: in training that would clone its input first
        )


class _InvertedResidual(nn.Module):
    """1x1 expansion, depthwise 3x3, linear 1x1 projection, and a skip where the shapes agree (Fig. 3b)."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, expansion: int):
        super().__init__()
        hidden = in_channels * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers.append(_ConvNormAct(in_channels, hidden, kernel=1))
        layers += [
            _ConvNormAct(hidden, hidden, stride=stride, groups=hidden),
            nn.Conv2d(hidden, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        ]
        self.conv = nn.Sequential(*layers)
        self.has_skip = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.has_skip else self.conv(x)


class MobileNetV2Encoder(nn.Module, BaseEncoder):
    """The 17 inverted-residual blocks of MobileNetV2; forward returns the features at 1/2, 1/4, 1/8, 1/16 and 1/32.

    Registered in MONAI's `FLEXUNET_BACKBONE` as `"mobilenet_v2_<width>"`, e.g. `FlexibleUNet(3, 1, "mobilenet_v2_1")`.

    Args:
        in_channels: image channels C; the input is (B, C, H, W) with H and W divisible by 32.
        width: multiplier of every channel count, one of `WIDTHS` (the published checkpoints).
        spatial_dims: 2, the only one there are weights for; part of MONAI's encoder interface.
        pretrained: load torchvision's ImageNet weights; part of MONAI's encoder interface, see `load_weights`.
    """

    def __init__(self, in_channels: int = 3, width: float = 1.0, spatial_dims: int = 2, pretrained: bool = False):
        super().__init__()
        if spatial_dims != 2:
            raise ValueError(f"MobileNetV2Encoder is 2-D, got spatial_dims={spatial_dims}.")
        channels = _scaled(32, width)
        blocks: list[nn.Module] = [_ConvNormAct(in_channels, channels, stride=2)]
        for expansion, out_channels, repeats, first_stride in SETTINGS:
            for repeat in range(repeats):
                out = _scaled(out_channels, width)
                blocks.append(
                    _InvertedResidual(channels, out, stride=first_stride if repeat == 0 else 1, expansion=expansion)
                )
                channels = out
        self.features = nn.Sequential(*blocks)
        self.feature_blocks = list(FEATURE_BLOCKS)  # an attribute, because TorchScript sees no globals
        if pretrained:
            self.load_weights("imagenet")

    def forward(self, x: Tensor) -> list[Tensor]:
        features: list[Tensor] = []
        for i, block in enumerate(self.features):
            x = block(x)
            if i in self.feature_blocks:
                features.append(x)
        return features

    def load_weights(self, source: str | Path) -> None:
        """Load ImageNet weights under torchvision's names, see `load_encoder_weights`.

        The classifier and the last 1x1 convolution (`features.18`), which a U-Net does not use, are dropped. Half
        precision is widened.
        """
        kind = "a MobileNetV2 (with torchvision's key names)"
        load_encoder_weights(self, source, first="features.0.0.weight", kind=kind)

    @classmethod
    def get_encoder_parameters(cls) -> list[dict]:
        return [{"spatial_dims": 2, "in_channels": 3, "pretrained": False, "width": w} for w in WIDTHS]

    @classmethod
    def num_channels_per_output(cls) -> list[tuple[int, ...]]:
        return [tuple(_scaled(c, w) for c in (16, 24, 32, 96, 320)) for w in WIDTHS]

    @classmethod
    def num_outputs(cls) -> list[int]:
        return [len(FEATURE_BLOCKS)] * len(WIDTHS)

    @classmethod
    def get_encoder_names(cls) -> list[str]:
        return [f"mobilenet_v2_{w:g}" for w in WIDTHS]


FLEXUNET_BACKBONE.register_class(MobileNetV2Encoder)
