"""EfficientNet-Lite0 as a MONAI encoder (Tan and Le 2019, arXiv:1905.11946, without squeeze-and-excitation).

Parameter names are those of public ports whose BatchNorm is folded into the convolutions: there is no normalisation, so
that batches of any size train alike, and training from random weights is slow.
"""

from __future__ import annotations

from pathlib import Path

import torch.nn.functional as F
from monai.networks.blocks import BaseEncoder
from monai.networks.nets.flexible_unet import FLEXUNET_BACKBONE
from torch import Tensor, nn

from monai_ext.networks.backbones.weights import load_encoder_weights

__all__ = ["LITE_MEAN", "LITE_STD", "EfficientNetLite0Encoder"]

LITE_MEAN, LITE_STD = 127 / 255, 128 / 255  # of the images in [0, 1] that the published weights were trained on
# Kernel k, expansion t, output channels c, repeats n, first stride s.
SETTINGS = (
    (3, 1, 16, 1, 1),
    (3, 6, 24, 2, 2),
    (5, 6, 40, 2, 2),
    (3, 6, 80, 3, 2),
    (5, 6, 112, 3, 1),
    (5, 6, 192, 4, 2),
    (3, 6, 320, 1, 1),
)
FEATURE_BLOCKS = (0, 2, 4, 10, 15)  # the last block before each halving


class _SameConv(nn.Conv2d):
    """Convolution with the padding of TensorFlow's "same": with a stride of 2 one pixel more at the end."""

    def forward(self, input: Tensor) -> Tensor:
        padding: list[int] = []
        for axis in (3, 2):
            side, kernel, stride = input.shape[axis], self.kernel_size[axis - 2], self.stride[axis - 2]
            total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            padding += [total // 2, total - total // 2]
        return self._conv_forward(F.pad(input, padding), self.weight, self.bias)


class _Block(nn.Module):
    """1x1 expansion, depthwise convolution, linear 1x1 projection, and a skip where the shapes agree."""

    def __init__(self, in_channels: int, out_channels: int, *, kernel: int, stride: int, expansion: int):
        super().__init__()
        hidden = in_channels * expansion
        self._expand_conv = _SameConv(in_channels, hidden, 1) if expansion != 1 else None
        self._depthwise_conv = _SameConv(hidden, hidden, kernel, stride, groups=hidden)
        self._project_conv = _SameConv(hidden, out_channels, 1)
        self.has_skip = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y = x if self._expand_conv is None else F.relu6(self._expand_conv(x))
        y = self._project_conv(F.relu6(self._depthwise_conv(y)))
        return x + y if self.has_skip else y


class EfficientNetLite0Encoder(nn.Module, BaseEncoder):
    """The 16 blocks of EfficientNet-Lite0; forward returns the features at 1/2, 1/4, 1/8, 1/16 and 1/32.

    Registered in MONAI's `FLEXUNET_BACKBONE` as `"efficientnet_lite0"`. Images are (x - LITE_MEAN) / LITE_STD of x in
    [0, 1], red, green and blue.

    Args:
        in_channels: image channels C; the input is (B, C, H, W) with H and W divisible by 32.
        spatial_dims: 2, the only one there are weights for; part of MONAI's encoder interface.
        pretrained: part of MONAI's encoder interface; weights are loaded by `load_weights`.
    """

    def __init__(self, in_channels: int = 3, spatial_dims: int = 2, pretrained: bool = False):
        super().__init__()
        if spatial_dims != 2 or pretrained:
            raise ValueError(
                f"EfficientNetLite0Encoder is 2-D and loads weights by load_weights, got spatial_dims={spatial_dims}, "
                f"pretrained={pretrained}."
            )
        channels = 32
        self._conv_stem = _SameConv(in_channels, channels, 3, 2)
        blocks: list[nn.Module] = []
        for kernel, expansion, out, repeats, first_stride in SETTINGS:
            for repeat in range(repeats):
                stride = first_stride if repeat == 0 else 1
                blocks.append(_Block(channels, out, kernel=kernel, stride=stride, expansion=expansion))
                channels = out
        self._blocks = nn.ModuleList(blocks)
        self.feature_blocks = list(FEATURE_BLOCKS)  # an attribute, because TorchScript sees no globals

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.relu6(self._conv_stem(x))
        features: list[Tensor] = []
        for i, block in enumerate(self._blocks):
            x = block(x)
            if i in self.feature_blocks:
                features.append(x)
        return features

    def load_weights(self, source: str | Path) -> None:
        """Load a state dict of these names from a file, see `load_encoder_weights`; the last 1x1 layer is dropped."""
        load_encoder_weights(self, source, first="_conv_stem.weight", kind="an EfficientNet-Lite0")

    @classmethod
    def get_encoder_parameters(cls) -> list[dict]:
        return [{"spatial_dims": 2, "in_channels": 3, "pretrained": False}]

    @classmethod
    def num_channels_per_output(cls) -> list[tuple[int, ...]]:
        return [(16, 24, 40, 112, 320)]

    @classmethod
    def num_outputs(cls) -> list[int]:
        return [len(FEATURE_BLOCKS)]

    @classmethod
    def get_encoder_names(cls) -> list[str]:
        return ["efficientnet_lite0"]


FLEXUNET_BACKBONE.register_class(EfficientNetLite0Encoder)
