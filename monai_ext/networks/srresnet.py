"""SRResNet, the generator of SRGAN (Ledig et al. 2017, arXiv:1609.04802, Fig. 4), and what was found better since."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from monai.networks.layers.utils import get_norm_layer
from monai.networks.utils import icnr_init
from torch import Tensor, nn

from monai_ext.runtime.settings import as_bool

__all__ = ["ResidualBlock", "SRResNet", "SubPixelNetwork", "scale_convolution", "start_without_checkerboard"]

Conv = Callable[..., nn.Module]  # called as nn.Conv2d is: (in, out, kernel, padding=, bias=)


class ResidualBlock(nn.Module):
    """conv - norm - PReLU - conv - norm, and the sum with the input."""

    def __init__(self, features: int, *, norm: str | tuple | None, conv: Conv):
        super().__init__()
        self.conv1 = conv(features, features, 3, padding=1, bias=norm is None)
        self.norm1 = _norm(norm, features)
        self.act = nn.PReLU()
        self.conv2 = conv(features, features, 3, padding=1, bias=norm is None)
        self.norm2 = _norm(norm, features)
        if norm is None:
            scale_convolution(self.conv2, 0.1)

    def branch_ends(self) -> list[nn.Module]:
        """The last convolution of each residual branch; with zeros in them the block is the identity."""
        return [self.conv2]

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm2(self.conv2(self.act(self.norm1(self.conv1(x)))))


class _SubPixelStage(nn.Sequential):
    """conv to factor^2 times the maps, pixel shuffle, PReLU."""

    def __init__(self, features: int, factor: int, *, conv: Conv):
        super().__init__(
            conv(features, features * factor**2, 3, padding=1, bias=True), nn.PixelShuffle(factor), nn.PReLU()
        )
        start_without_checkerboard(self[0], factor)


class SubPixelNetwork(nn.Module):
    """What networks with the parts `head`, `blocks`, `merge`, `upsampler` and `tail` share: checks and `forward`.

    Raises:
        ValueError: a count below 1, or `residual` with C' other than C.
    """

    if TYPE_CHECKING:  # TorchScript reads annotations of a class as attributes
        head: nn.Module
        blocks: nn.Sequential
        merge: nn.Module
        upsampler: nn.Module
        tail: nn.Sequential

    def __init__(
        self, in_channels: int, out_channels: int, *, features: int, blocks: int, scale: int, residual: bool | str
    ):
        super().__init__()
        if min(in_channels, out_channels, features, blocks) < 1:
            raise ValueError(
                f"in_channels={in_channels}, out_channels={out_channels}, features={features}, blocks={blocks}: all "
                "are at least 1."
            )
        residual = as_bool(residual, "residual")
        if residual and in_channels != out_channels:
            raise ValueError(
                f"residual=True adds the input of {in_channels} channels to an output of {out_channels}: choose as "
                "many, or residual=False."
            )
        self.channels, self.features, self.scale, self.residual = (in_channels, out_channels), features, scale, residual

    def forward(self, low_res: Tensor) -> Tensor:
        return self.upscale(self.encode(low_res), low_res)

    def encode(self, low_res: Tensor) -> Tensor:
        """What the body makes of the input: features (B, F, h, w)."""
        shallow = self.head(low_res)
        return shallow + self.merge(self.blocks(shallow))

    def upscale(self, deep: Tensor, low_res: Tensor) -> Tensor:
        """The high resolution from features (B, F, h, w), and from the input where the network is residual."""
        high_res = self.tail(self.upsampler(deep))
        if self.residual:
            factor = float(self.scale)
            upscaled = F.interpolate(low_res, scale_factor=factor, mode="bicubic", align_corners=False)
            high_res = high_res + upscaled
        return high_res


class SRResNet(SubPixelNetwork):
    """Low resolution (B, C, h, w) in [0, 1] -> high resolution (B, C', s h, s w) on the same scale, any h and w >= 1.

    The output is linear and not clipped: clip it to [0, 1] when it is stored or scored, never in a loss. The defaults
    are the paper's network (1,547,350 parameters) but for the initialisation of the sub-pixel convolutions, which
    begins without checkerboards (ICNR, Aitken et al. 2017).

    Args:
        in_channels: bands C of the input.
        out_channels: bands C' of the output.
        features: maps in the body.
        blocks: residual blocks.
        scale: s, a product of twos and threes: 2, 3, 4, 6, 8 ...
        norm: MONAI's name of the normalisation, "batch" in the paper; None for none (Lim et al. 2017, EDSR: sharper,
            less memory, no dependence on the batch); the residual branches then begin ten times smaller, so that a deep
            stack starts near the identity (Wang et al. 2018, ESRGAN).
        residual: add the bicubically upscaled input, so that the network learns the detail only. It starts as plain
            bicubic interpolation: its last convolution begins at zero. Needs C' = C.
        upsampling: "stages", as in the paper, a sub-pixel convolution for each factor of the scale and a 9x9
            convolution at full resolution; "direct" goes from the body to C' s^2 maps by one 3x3 convolution and
            shuffles once, so that nothing is computed at high resolution (Shi et al. 2016): 0.57 of the operations.
        conv: called like `nn.Conv2d` for every convolution; pass another kind to change them all, for instance a
            variational one.

    Its parts are `head`, `blocks`, `merge` (all at low resolution), `upsampler` and `tail`. `encode` and `upscale` are
    the two halves of `forward`, for networks that put something between them.

    Raises:
        ValueError: a count below 1, another scale or upsampling, `residual` with C' other than C.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        *,
        features: int = 64,
        blocks: int = 16,
        scale: int = 4,
        norm: str | tuple | None = "batch",
        residual: bool | str = False,
        upsampling: str = "stages",
        conv: Conv = nn.Conv2d,
    ):
        super().__init__(in_channels, out_channels, features=features, blocks=blocks, scale=scale, residual=residual)
        factors = _stage_factors(scale)
        self.head = nn.Sequential(conv(in_channels, features, 9, padding=4, bias=True), nn.PReLU())
        self.blocks = nn.Sequential(*(ResidualBlock(features, norm=norm, conv=conv) for _ in range(blocks)))
        self.merge = nn.Sequential(conv(features, features, 3, padding=1, bias=norm is None), _norm(norm, features))
        if upsampling == "stages":
            self.upsampler = nn.Sequential(*(_SubPixelStage(features, factor, conv=conv) for factor in factors))
            self.tail = nn.Sequential(conv(features, out_channels, 9, padding=4, bias=True))
        elif upsampling == "direct":
            self.upsampler = nn.Sequential()
            self.tail = nn.Sequential(
                conv(features, out_channels * scale**2, 3, padding=1, bias=True), nn.PixelShuffle(scale)
            )
            start_without_checkerboard(self.tail[0], scale)
        else:
            raise ValueError(f"upsampling={upsampling!r} must be 'stages' or 'direct'.")
        if self.residual:
            scale_convolution(self.tail[0], 0.0)


def _stage_factors(scale: int) -> list[int]:
    """Twos first, then threes.

    >>> _stage_factors(4), _stage_factors(6)
    ([2, 2], [2, 3])
    """
    rest, factors = scale, []
    for factor in (2, 3):
        while rest > 1 and rest % factor == 0:
            rest //= factor
            factors.append(factor)
    if rest != 1 or not factors:
        raise ValueError(f"scale={scale} must be a product of twos and threes: 2, 3, 4, 6, 8 ...")
    return factors


def _norm(norm: str | tuple | None, features: int) -> nn.Module:
    return nn.Identity() if norm is None else get_norm_layer(norm, spatial_dims=2, channels=features)


def start_without_checkerboard(layer: nn.Module, factor: int) -> None:
    """Let the convolution begin so that the factor^2 pixels shuffled from one place are equal. Other kinds are kept."""
    if isinstance(layer, nn.Conv2d):
        icnr_init(layer, factor)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


@torch.no_grad()
def scale_convolution(layer: nn.Module, gain: float) -> None:
    """Multiply the weight and the bias of a convolution by `gain`. Other kinds are kept."""
    for parameter in layer.parameters() if isinstance(layer, nn.Conv2d) else ():
        parameter.mul_(gain)
