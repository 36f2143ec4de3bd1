"""The discriminator of SRGAN (Ledig et al. 2017, arXiv:1609.04802, Fig. 4) for images of any size; logits out."""

from __future__ import annotations

import math
from typing import Any

import torch
from monai.networks.layers.utils import get_norm_layer
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm as with_spectral_norm

from monai_ext.formulas.images import LinearReduction
from monai_ext.runtime.settings import as_bool

__all__ = ["DetailDiscriminator", "SRDiscriminator", "detail_discriminator"]

# Multiples of `features` and stride of each 3x3 convolution: k3n64s1, k3n64s2, k3n128s1 ... k3n512s2.
LAYERS = ((1, 1), (1, 2), (2, 1), (2, 2), (4, 1), (4, 2), (8, 1), (8, 2))


class SRDiscriminator(nn.Module):
    """Image (B, C, H, W) in [0, 1] -> logits, positive for "real": (B, 1), or (B, 1, H/16, W/16) for the patch head.

    The paper's network has a sigmoid behind it: that belongs to the loss. Any H and W >= 1; halves round up.

    Args:
        in_channels: bands C.
        features: maps of the first convolution, of which all others are multiples.
        norm: MONAI's name of the normalisation after every convolution but the first, "batch" in the paper; None for
            none, the usual choice with spectral normalisation or a gradient penalty (a batch norm ties the gradients of
            a batch's images together).
        spectral_norm: divide every weight by its largest singular value (Miyato et al. 2018). It is a parametrization,
            so such a network can be traced but not scripted.
        head: "dense", the paper's 1024 units and one logit for the image; "patch", one convolution and a logit for
            each patch (PatchGAN, Isola et al. 2017), which judges texture wherever it lies.
        pool: side of the map that the dense head sees, by adaptive average pooling. 6 is the paper's 96-pixel crop
            unchanged; 1 is a global average with 18.4 million parameters fewer. Unused by the patch head.

    Raises:
        ValueError: a count below 1, another head, or a norm of which MONAI makes no layer; when called, an image of 16
            pixels or less with instance norm.
    """

    def __init__(
        self,
        in_channels: int = 3,
        *,
        features: int = 64,
        norm: str | tuple | None = "batch",
        spectral_norm: bool | str = False,
        head: str = "dense",
        pool: int = 6,
    ):
        super().__init__()
        if min(in_channels, features, pool) < 1:
            raise ValueError(f"in_channels={in_channels}, features={features}, pool={pool}: all are at least 1.")
        if head not in ("dense", "patch"):
            raise ValueError(f"head={head!r} must be 'dense' or 'patch'.")
        layers: list[nn.Module] = []
        channels = in_channels
        for i, (multiple, stride) in enumerate(LAYERS):
            layer_norm = norm if i > 0 else None
            layers.append(nn.Conv2d(channels, multiple * features, 3, stride, 1, bias=layer_norm is None))
            channels = multiple * features
            if layer_norm is not None:
                layers.append(_norm_layer(layer_norm, channels))
            layers.append(nn.LeakyReLU(0.2))
        self.features = nn.Sequential(*layers)
        instance = norm is not None and (norm if isinstance(norm, str) else norm[0]).lower().startswith("instance")
        self.smallest = 1 + math.prod(stride for _, stride in LAYERS) if instance else 1  # longer side of an image
        if head == "patch":
            self.head = nn.Sequential(nn.Conv2d(channels, 1, 3, padding=1))
        else:
            self.head = nn.Sequential(
                nn.AdaptiveAvgPool2d(pool),
                nn.Flatten(),
                nn.Linear(channels * pool**2, 16 * features),
                nn.LeakyReLU(0.2),
                nn.Linear(16 * features, 1),
            )
        if as_bool(spectral_norm, "spectral_norm"):
            for layer in (*self.features, *self.head):
                if isinstance(layer, (nn.Conv2d, nn.Linear)):
                    with_spectral_norm(layer)

    def forward(self, image: Tensor) -> Tensor:
        if self.smallest > 1 and max(image.shape[-2], image.shape[-1]) < self.smallest:
            raise ValueError(
                f"images of {image.shape[-2]} x {image.shape[-1]} pixels end as a single place, which instance norm "
                f"makes 0: use crops of at least {self.smallest} pixels, or another norm."
            )
        return self.head(self.features(image))


def _norm_layer(norm: str | tuple, channels: int) -> nn.Module:
    try:
        return get_norm_layer(norm, spatial_dims=2, channels=channels)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"norm={norm!r} makes no normalisation of {channels} channels: choose 'batch', 'instance', "
            "('group', {'num_groups': 8}) or None."
        ) from error


class DetailDiscriminator(nn.Module):
    """A discriminator of the part of an image that its low resolution determines and, magnified, the remaining detail.

    The image (B, C, H, W) becomes (B, 2C, H, W): x - d, and gain * d, where d = x - A+ A x is the part of x that the
    reduction A does not see. Images that reduce to the same input, as all samples and the original do, differ in d
    alone, which is about a tenth of their range: given the image itself, a discriminator needs its first hundreds of
    steps to find this part. The first half makes the discriminator a conditional one.

    Args:
        discriminator: of 2C channels.
        operator: the reduction, such as `monai_ext.transforms.Degradation`; H and W are multiples of its scale.
        gain: of the detail.
    """

    def __init__(self, discriminator: nn.Module, operator: LinearReduction, gain: float = 10.0):
        super().__init__()
        self.discriminator, self.operator, self.gain = discriminator, operator, gain

    def forward(self, image: Tensor) -> Tensor:
        detail = self.operator.null_space(image)
        return self.discriminator(torch.cat([image - detail, self.gain * detail], dim=1))


def detail_discriminator(
    channels: int, *, operator: LinearReduction, gain: float | None = 10.0, **kwargs: Any
) -> DetailDiscriminator | SRDiscriminator:
    """A `DetailDiscriminator` of images with so many channels; with `gain` None an `SRDiscriminator` of whole images.

    Args:
        operator, gain: see `DetailDiscriminator`.
        kwargs: further arguments of `SRDiscriminator`.
    """
    if gain is None:
        return SRDiscriminator(channels, **kwargs)
    return DetailDiscriminator(SRDiscriminator(2 * channels, **kwargs), operator, gain)
