"""The holistic network: one encoder and one decoder for each rater, joined by a common channel (BrainLes 2021).

Published for QUBIQ: every encoder reads the same image, a U-Net processes the sum of their outputs, and decoder r, with
the skips of encoder r, predicts the mask of rater r.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from monai.networks.blocks import Convolution
from monai.networks.layers.factories import Conv, Pool
from torch import Tensor, nn

from monai_ext.networks.level_plan import LevelPlan, plan_levels
from monai_ext.networks.multi_rater import HeadSampling
from monai_ext.networks.sampling import crop_like, pad_to_multiples

__all__ = ["HolisticNet"]

STRUCTURE_LOGIT = -3.0  # of several structures, where training begins, see `StructureMaps`

Kernel = Sequence[int]
Unit = Callable[[int, int, Kernel], nn.Module]  # channels in and out -> a convolution with what follows it


class _SumBlock(nn.Module):
    """Three convolutions, the last one of the sum of the first two."""

    def __init__(self, in_channels: int, out_channels: int, kernel: Kernel, *, unit: Unit):
        super().__init__()
        self.first = unit(in_channels, out_channels, kernel)
        self.second = unit(out_channels, out_channels, kernel)
        self.last = unit(out_channels, out_channels, kernel)

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        return self.last(first + self.second(first))


class _BranchEncoder(nn.Module):
    """Image -> what goes to the common channel (2F at 1/4), and the skips s1 (F at full size) and s2 (2F at 1/2)."""

    def __init__(self, in_channels: int, features: int, plan: LevelPlan, *, unit: Unit, pools_second: bool):
        super().__init__()
        self.stage1 = _SumBlock(in_channels, features, plan.kernels[0], unit=unit)
        self.stage2 = _SumBlock(features, 2 * features, plan.kernels[1], unit=unit)
        self.pool1, self.pool2 = (_pool("avg", stride) for stride in plan.strides[:2])
        self.pools_second = pools_second

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        s1 = self.stage1(image)
        first = self.stage2.first(self.pool1(s1))
        second = self.stage2.second(first)
        s2 = self.stage2.last(first + second)
        return self.pool2(second if self.pools_second else s2), s1, s2


class _CommonChannel(nn.Module):
    """U-Net of two more levels on the sum of the encoders: 2F at 1/4 -> 4F at 1/4, with 8F at 1/8 and 1/16."""

    def __init__(self, features: int, plan: LevelPlan, *, entry: Unit, unit: Unit, dropout: float):
        super().__init__()
        f4, f8 = 4 * features, 8 * features
        (of_d, of_e, of_fg), (below_d, below_e) = plan.kernels[2:], plan.strides[2:]
        self.d = nn.Sequential(entry(2 * features, f4, of_d), entry(f4, f4, of_d))
        self.e = nn.Sequential(unit(f4, f8, of_e), unit(f8, f8, of_e))
        self.fg = _SumBlock(f8, f8, of_fg, unit=unit)
        self.up_e = _up(f8, f8, below_e)
        self.merge_e = nn.Sequential(unit(2 * f8, f8, of_e), unit(f8, f8, of_e))
        self.up_d = _up(f8, f4, below_d)
        self.merge_d = nn.Sequential(unit(2 * f4, f4, of_d), unit(f4, f4, of_d))
        self.pool_d, self.pool_e = _pool("max", below_d), _pool("max", below_e)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        d = self.d(x)
        e = self.e(self.pool_d(d))
        x = self.dropout(self.fg(self.pool_e(e)))
        x = self.dropout(self.merge_e(torch.cat([self.up_e(x), e], dim=1)))
        return self.dropout(self.merge_d(torch.cat([self.up_d(x), d], dim=1)))


class _BranchDecoder(nn.Module):
    """The common channel and the skips of one encoder -> F maps at full size."""

    def __init__(self, features: int, plan: LevelPlan, *, unit: Unit):
        super().__init__()
        self.up2 = _up(4 * features, 2 * features, plan.strides[1])
        self.stage2 = _SumBlock(4 * features, 2 * features, plan.kernels[1], unit=unit)
        self.up1 = _up(2 * features, features, plan.strides[0])
        self.stage1 = _SumBlock(2 * features, features, plan.kernels[0], unit=unit)

    def forward(self, common: Tensor, s1: Tensor, s2: Tensor) -> Tensor:
        x = self.stage2(torch.cat([self.up2(common), s2], dim=1))
        return self.stage1(torch.cat([self.up1(x), s1], dim=1))


class HolisticNet(HeadSampling):
    """Image (B, C, *spatial) -> logits (B, R, *spatial), map r for the mask of rater r; any sides >= 1.

    Sides that are not multiples of 16 are padded with the border's values and cropped back. The branches are separate
    modules in a loop: grouped convolutions compute the same more slowly.

    Args:
        raters: number R of raters, one head each.
        in_channels: image channels C.
        features: width F of the first stage; all others are multiples of it.
        dropout: probability of dropout, after each stage of the common channel and before the last layer of each head.
        norm: MONAI's name of the normalisation after each convolution, for instance "batch"; None for F groups of
            channels, which is InstanceNorm at full size, needs no large batch (the published one has two images) and
            works at the single pixel to which a tiny image shrinks.
        branches: encoder-decoder pairs; None for one per rater, 1 for the variant in which all heads share one
            encoder and one decoder.
        faithful: the network exactly as published, 26,077,647 parameters for R = 3, C = 1, F = 64, with its Keras
            initialisation. It differs from the default in ways that cost accuracy: no normalisation, and no activation
            in encoders, decoders and the first two common convolutions, so that the encoders are linear in the same
            image and their sum is worth one; the common channel fed from the second convolution of stage two instead
            of its output; heads that end in two ReLU channels, so that the background stays at p = 0.5 once both are
            dead there.

        spatial_dims: 2 for images, 3 for volumes.
        spacing: size of a voxel along each axis, for volumes of thick slices, see `plan_levels`.
        structures: number K, for logits (B, R, K, *spatial); the last layer of each head has a map for each. Training
            then begins near empty masks, but for the faithful network.

    `sample` draws heads, each as often as any other: see `HeadSampling`.

    Raises:
        ValueError: a count below 1, `branches` other than 1 and R, a `norm` for the faithful network, or as
            `plan_levels`.
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
        spatial_dims: int = 2,
        spacing: Sequence[float] | None = None,
        structures: int | None = None,
    ):
        super().__init__()
        plan = plan_levels(spatial_dims, spacing=spacing)
        self.structures = structures
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
        self.multiples = plan.multiples
        self.encoders = nn.ModuleList(
            _BranchEncoder(in_channels, features, plan, unit=plain, pools_second=faithful) for _ in range(branches)
        )
        self.common = _CommonChannel(features, plan, entry=entry, unit=unit, dropout=dropout)
        self.decoders = nn.ModuleList(_BranchDecoder(features, plan, unit=plain) for _ in range(branches))
        kernel = plan.kernels[0]
        self.heads = nn.ModuleList(
            nn.Sequential(
                unit(features, features, kernel),
                nn.Dropout(dropout),
                *_last_layers(features, structures or 1, kernel, faithful=faithful),
            )
            for _ in range(raters)
        )
        if faithful:
            self.apply(_initialise_as_keras)
        elif structures:
            for head in self.heads:
                *_, last = head.children()
                nn.init.constant_(last.get_parameter("bias"), STRUCTURE_LOGIT)

    def forward(self, image: Tensor) -> Tensor:
        padded = pad_to_multiples(image, self.multiples)
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
        return crop_like(torch.cat(maps, dim=1) if self.structures is None else torch.stack(maps, dim=1), image)


def _plain(in_channels: int, out_channels: int, kernel: Kernel) -> nn.Module:
    padding = tuple(side // 2 for side in kernel)
    return Conv["conv", len(kernel)](in_channels, out_channels, tuple(kernel), padding=padding)


def _with_relu(in_channels: int, out_channels: int, kernel: Kernel) -> nn.Module:
    return nn.Sequential(_plain(in_channels, out_channels, kernel), nn.ReLU())


def _normalised(in_channels: int, out_channels: int, kernel: Kernel, *, norm: str | tuple) -> nn.Module:
    return Convolution(
        len(kernel),
        in_channels,
        out_channels,
        kernel_size=kernel,
        adn_ordering="NA",
        norm=norm,
        act="RELU",
        bias=False,
    )


def _pool(kind: str, stride: Kernel) -> nn.Module:
    return Pool[kind, len(stride)](kernel_size=tuple(stride))


def _up(in_channels: int, out_channels: int, stride: Kernel) -> nn.Module:
    return Conv["convtrans", len(stride)](in_channels, out_channels, tuple(stride), stride=tuple(stride))


def _last_layers(features: int, maps: int, kernel: Kernel, *, faithful: bool) -> list[nn.Module]:
    one_pixel = [1] * len(kernel)
    if faithful:
        return [_with_relu(features, 2, kernel), _plain(2, maps, one_pixel)]
    return [_plain(features, maps, one_pixel)]


def _initialise_as_keras(layer: nn.Module) -> None:
    """Glorot's uniform weights, biases of zero. PyTorch's own would shrink a signal to a third in two plain layers."""
    if isinstance(layer, (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
        nn.init.xavier_uniform_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
