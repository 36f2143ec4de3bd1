"""The holistic network: one encoder and one decoder for each rater, joined by a common channel (BrainLes 2021).

Published for QUBIQ: every encoder reads the same image, a U-Net processes the sum of their outputs, and decoder r, with
the skips of encoder r, predicts the mask of rater r.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from monai.networks.blocks import Convolution
from torch import Tensor, nn

from monai_ext.networks.multi_rater import HeadSampling
from monai_ext.networks.sampling import pad_to_multiple

__all__ = ["HolisticNet"]

Unit = Callable[[int, int], nn.Module]  # channels in, channels out -> a 3x3 convolution with what follows it


class _SumBlock(nn.Module):
    """Three convolutions, the last one of the sum of the first two."""

    def __init__(self, in_channels: int, out_channels: int, *, unit: Unit):
        super().__init__()
        self.first = unit(in_channels, out_channels)
        self.second = unit(out_channels, out_channels)
        self.last = unit(out_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        return self.last(first + self.second(first))


class _BranchEncoder(nn.Module):
    """Image -> what goes to the common channel (2F at 1/4), and the skips s1 (F at full size) and s2 (2F at 1/2)."""

    def __init__(self, in_channels: int, features: int, *, unit: Unit, pools_second: bool):
        super().__init__()
        self.stage1 = _SumBlock(in_channels, features, unit=unit)
        self.stage2 = _SumBlock(features, 2 * features, unit=unit)
        self.pools_second = pools_second

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        s1 = self.stage1(image)
        first = self.stage2.first(F.avg_pool2d(s1, 2))
        second = self.stage2.second(first)
        s2 = self.stage2.last(first + second)
        return F.avg_pool2d(second if self.pools_second else s2, 2), s1, s2


class _CommonChannel(nn.Module):
    """U-Net of two more levels on the sum of the encoders: 2F at 1/4 -> 4F at 1/4, with 8F at 1/8 and 1/16."""

    def __init__(self, features: int, *, entry: Unit, unit: Unit, dropout: float):
        super().__init__()
        f4, f8 = 4 * features, 8 * features
        self.d = nn.Sequential(entry(2 * features, f4), entry(f4, f4))
        self.e = nn.Sequential(unit(f4, f8), unit(f8, f8))
        self.fg = _SumBlock(f8, f8, unit=unit)
        self.up_e = nn.ConvTranspose2d(f8, f8, 2, stride=2)
        self.merge_e = nn.Sequential(unit(2 * f8, f8), unit(f8, f8))
        self.up_d = nn.ConvTranspose2d(f8, f4, 2, stride=2)
        self.merge_d = nn.Sequential(unit(2 * f4, f4), unit(f4, f4))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        d = self.d(x)
        e = self.e(F.max_pool2d(d, 2))
        x = self.dropout(self.fg(F.max_pool2d(e, 2)))
        x = self.dropout(self.merge_e(torch.cat([self.up_e(x), e], dim=1)))
        return self.dropout(self.merge_d(torch.cat([self.up_d(x), d], dim=1)))


class _BranchDecoder(nn.Module):
    """The common channel and the skips of one encoder -> F maps at full size."""

    def __init__(self, features: int, *, unit: Unit):
        super().__init__()
        self.up2 = nn.ConvTranspose2d(4 * features, 2 * features, 2, stride=2)
        self.stage2 = _SumBlock(4 * features, 2 * features, unit=unit)
        self.up1 = nn.ConvTranspose2d(2 * features, features, 2, stride=2)
        self.stage1 = _SumBlock(2 * features, features, unit=unit)

    def forward(self, common: Tensor, s1: Tensor, s2: Tensor) -> Tensor:
        x = self.stage2(torch.cat([self.up2(common), s2], dim=1))
        return self.stage1(torch.cat([self.up1(x), s1], dim=1))


class HolisticNet(HeadSampling):
    """Image (B, C, H, W) -> logits (B, R, H, W), map r for the mask of rater r; any H and W >= 1.

    Sizes that are not multiples of 16 are padded with the border's values and cropped back. The branches are separate
    modules in a loop: grouped convolutions compute the same more slowly.

    Args:
        raters: number R of raters, one head each.
        in_channels: image channels C.
        features: width F of the first stage; all others are multiples of it.
        dropout: probability of dropout, after each stage of the common channel and before the last layer of each head.
        norm: MONAI's name of the normalisation after each convolution, for instance "batch"; None for F groups of
            channels, which is InstanceNorm at full size, needs no large batch (the published one has two images) and
            works at the 1 x 1 pixels to which a tiny image shrinks.
        branches: encoder-decoder pairs; None for one per rater, 1 for the variant in which all heads share one
            encoder and one decoder.
        faithful: the network exactly as published, 26,077,647 parameters for R = 3, C = 1, F = 64, with its Keras
            initialisation. It differs from the default in ways that cost accuracy: no normalisation, and no activation
            in encoders, decoders and the first two common convolutions, so that the encoders are linear in the same
            image and their sum is worth one; the common channel fed from the second convolution of stage two instead
            of its output; heads that end in two ReLU channels, so that the background stays at p = 0.5 once both are
            dead there.

    `sample` draws heads, each as often as any other: see `HeadSampling`.

    Raises:
        ValueError: a count below 1, `branches` other than 1 and R, or a `norm` for the faithful network.
    """

    per_rater = True

    def __init__(
        self,
        raters: int,
        in_channels: int = 1,
        *,
        features: int = 64,
        dropout: float = 0.5,
        norm: str | tuple | None = None,
        branches: int | None = None,
        faithful: bool = False,
    ):
        super().__init__()
        branches = raters if branches is None else branches
        if min(raters, in_channels, features) < 1 or branches not in (1, raters):
            raise ValueError(
                f"raters={raters}, in_channels={in_channels}, features={features}, branches={branches}: counts are at "
                "least 1, branches is 1 or as many as raters."
            )
        if faithful and norm is not None:
            raise ValueError(f"norm={norm!r}: the faithful network has no normalisation; leave out norm or faithful.")
        if faithful:
            entry: Unit = _plain
            plain, unit = _plain, _with_relu
        else:
            unit = partial(_normalised, norm=norm or ("group", {"num_groups": features}))
            entry = plain = unit
        self.stride = 16  # four halvings
        self.encoders = nn.ModuleList(
            _BranchEncoder(in_channels, features, unit=plain, pools_second=faithful) for _ in range(branches)
        )
        self.common = _CommonChannel(features, entry=entry, unit=unit, dropout=dropout)
        self.decoders = nn.ModuleList(_BranchDecoder(features, unit=plain) for _ in range(branches))
        self.heads = nn.ModuleList(
            nn.Sequential(unit(features, features), nn.Dropout(dropout), *_last_layers(features, faithful=faithful))
            for _ in range(raters)
        )
        if faithful:
            self.apply(_initialise_as_keras)

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2], image.shape[-1]
        padded = pad_to_multiple(image, self.stride)
        pooled: list[Tensor] = []
        skips: list[tuple[Tensor, Tensor]] = []
        for encoder in self.encoders:
            p, s1, s2 = encoder(padded)
            pooled.append(p)
            skips.append((s1, s2))
        total = pooled[0]
        for p in pooled[1:]:
            total = total + p
        common = self.common(total)
        decoded: list[Tensor] = []
        for k, decoder in enumerate(self.decoders):
            decoded.append(decoder(common, skips[k][0], skips[k][1]))
        maps: list[Tensor] = []
        for r, head in enumerate(self.heads):
            maps.append(head(decoded[r % len(decoded)]))
        return torch.cat(maps, dim=1)[..., :height, :width]


def _plain(in_channels: int, out_channels: int) -> nn.Module:
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)


def _with_relu(in_channels: int, out_channels: int) -> nn.Module:
    return nn.Sequential(_plain(in_channels, out_channels), nn.ReLU())


def _normalised(in_channels: int, out_channels: int, *, norm: str | tuple) -> nn.Module:
    return Convolution(2, in_channels, out_channels, adn_ordering="NA", norm=norm, act="RELU", bias=False)


def _last_layers(features: int, *, faithful: bool) -> list[nn.Module]:
    if faithful:
        return [_with_relu(features, 2), nn.Conv2d(2, 1, 1)]
    return [nn.Conv2d(features, 1, 1)]


def _initialise_as_keras(layer: nn.Module) -> None:
    """Glorot's uniform weights, biases of zero. PyTorch's own would shrink a signal to a third in two plain layers."""
    if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.xavier_uniform_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
