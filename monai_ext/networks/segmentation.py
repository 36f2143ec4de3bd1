"""Encoder-decoders by name, image (B, C, *spatial) -> logits (B, heads, *spatial), for methods for several raters."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from monai.networks.nets import BasicUNet, DynUNet, FlexibleUNet
from torch import Tensor, nn

from monai_ext.networks.backbones.efficientnet_lite import LITE_MEAN, LITE_STD
from monai_ext.networks.backbones.weights import IMAGENET_MEAN, IMAGENET_STD
from monai_ext.networks.level_plan import plan_levels, shape_basic_unet
from monai_ext.networks.mobilenet_unet import MobileNetV2UNet
from monai_ext.networks.sampling import crop_like, pad_to_multiples
from monai_ext.networks.slicewise_unet import SlicewiseUNet

__all__ = ["BACKBONES", "Standardised", "segmentation_backbone"]

BACKBONES = ("basic_unet", "dynunet", "mobilenet_v2", "efficientnet_lite0", "efficientnet_b0")
FOR_IMAGES = BACKBONES[2:]
WITH_WEIGHTS = ("mobilenet_v2", "efficientnet_lite0")
DECODER = (128, 64, 32, 16, 16)  # widths of the decoders on ImageNet encoders, from 1/16 to full resolution
FOREGROUND_LOGIT = -3.0  # where training begins: most pixels are background
GREY_MEAN, GREY_STD = 0.449, 0.226  # of ImageNet, means over the three channels


class Standardised(nn.Module):
    """`network` on (image - mean) / std, at any size: padded to multiples of one number an axis and cropped back."""

    def __init__(
        self, network: nn.Module, mean: float | Sequence[float], std: float | Sequence[float], multiples: Sequence[int]
    ):
        super().__init__()
        self.network = network
        self.multiples = list(multiples)
        shape = (1, -1, *[1] * len(self.multiples))
        self.mean = nn.Buffer(torch.tensor(mean, dtype=torch.float32).view(shape), persistent=False)
        self.std = nn.Buffer(torch.tensor(std, dtype=torch.float32).view(shape), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        return crop_like(self.network(pad_to_multiples((image - self.mean) / self.std, self.multiples)), image)


def segmentation_backbone(
    name: str,
    *,
    in_channels: int = 1,
    out_channels: int = 1,
    features: int = 16,
    dropout: float = 0.0,
    encoder_weights: str | os.PathLike | None = None,
    initial_logit: float = FOREGROUND_LOGIT,
    spatial_dims: int = 2,
    spacing: Sequence[float] | None = None,
) -> nn.Module:
    """An encoder-decoder for images in [0, 1], logits (B, out_channels, *spatial).

    * basic_unet: MONAI's `BasicUNet` of the widths F, 2F, 4F, 8F, 16F with F groups in each normalisation.
    * dynunet: MONAI's `DynUNet` of the same widths, with residual blocks and instance normalisation.
    * mobilenet_v2: `MobileNetV2UNet` with a narrow decoder; with `encoder_weights` its BatchNorm stays as loaded.
    * efficientnet_lite0: MONAI's `FlexibleUNet` on `EfficientNetLite0Encoder`, meant for `encoder_weights`.
    * efficientnet_b0: MONAI's `FlexibleUNet` on EfficientNet-B0, from random weights.

    In volumes the last three are `SlicewiseUNet`s.

    Args:
        name: one of `BACKBONES`.
        features: width F of the first stage of the first two.
        dropout: after the convolutions, of the last three in the decoder.
        encoder_weights: of mobilenet_v2, see `MobileNetV2UNet`, or a file of efficientnet_lite0.
        initial_logit: bias of the last layer where training begins; 0 for features.
        spatial_dims: 2 for images; 3 for volumes.
        spacing: size of a pixel or voxel along each axis, see `plan_levels`; the last three ignore it in volumes and
            refuse it in images.

    Raises:
        ValueError: no such backbone, weights or spacing for one that takes none, or as `plan_levels`.
    """
    if name not in BACKBONES:
        raise ValueError(f"backbone={name!r} is unknown: choose one of {', '.join(BACKBONES)}.")
    if encoder_weights is not None and name not in WITH_WEIGHTS:
        known = " or ".join(map(repr, WITH_WEIGHTS))
        raise ValueError(f"encoder_weights are for backbone={known}, not for {name!r}: leave them out.")
    if name in FOR_IMAGES and spatial_dims == 2 and spacing is not None:
        raise ValueError(
            f"backbone={name!r} has an encoder of photographs, so that it takes no spacing of pictures: choose "
            "basic_unet or dynunet."
        )
    plan = plan_levels(spatial_dims, spacing=spacing)
    widths = [features * factor for factor in (1, 2, 4, 8, 16)]
    if name == "basic_unet":
        norm = ("group", {"num_groups": features})
        basic_unet = BasicUNet(
            spatial_dims,
            in_channels,
            out_channels,
            features=(*widths, features),
            act="RELU",
            norm=norm,
            dropout=dropout,
        )
        shape_basic_unet(basic_unet, plan)
        _begin_at(basic_unet.final_conv, initial_logit)
        return Standardised(basic_unet, 0.0, 1.0, plan.multiples)
    if name == "dynunet":
        network = DynUNet(
            spatial_dims,
            in_channels,
            out_channels,
            kernel_size=plan.kernels,
            strides=[(1,) * spatial_dims, *plan.strides],
            upsample_kernel_size=plan.strides,
            filters=widths,
            dropout=dropout or None,
            res_block=True,
        )
        _begin_at(network.output_block, initial_logit)
        return Standardised(network, 0.5, 0.25, plan.multiples)
    mean: float | Sequence[float]
    std: float | Sequence[float]
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if in_channels == 3 else (GREY_MEAN, GREY_STD)
    if name == "efficientnet_lite0":
        mean, std = LITE_MEAN, LITE_STD
    encoder_decoder = _on_imagenet_encoder(name, in_channels, out_channels, dropout, encoder_weights)
    _begin_at(encoder_decoder.segmentation_head, initial_logit)
    if spatial_dims == 3:
        return Standardised(SlicewiseUNet(encoder_decoder, in_channels), mean, std, (32, 32, 1))
    return Standardised(encoder_decoder, mean, std, (32, 32))


def _begin_at(head: nn.Module, logit: float) -> None:
    """Set the bias of the last layer."""
    for layer in head.modules():
        if isinstance(layer, (nn.Conv2d, nn.Conv3d)) and layer.bias is not None:
            nn.init.constant_(layer.bias, logit)


def _on_imagenet_encoder(
    name: str, in_channels: int, out_channels: int, dropout: float, encoder_weights: str | os.PathLike | None
) -> FlexibleUNet:
    if name == "efficientnet_b0":
        return FlexibleUNet(in_channels, out_channels, "efficientnet-b0", decoder_channels=DECODER, dropout=dropout)
    if name == "efficientnet_lite0":
        network = FlexibleUNet(in_channels, out_channels, name, decoder_channels=DECODER, dropout=dropout, is_pad=False)
        if encoder_weights is not None:
            network.encoder.load_weights(os.fspath(encoder_weights))
        return network
    return MobileNetV2UNet(
        in_channels,
        out_channels,
        encoder_weights=None if encoder_weights is None else os.fspath(encoder_weights),
        decoder_channels=DECODER,
        dropout=dropout,
        frozen_norm=encoder_weights is not None,
    )
