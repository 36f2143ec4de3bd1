"""U-Net with a MobileNetV2 encoder: MONAI's `FlexibleUNet` decoder on `MobileNetV2Encoder`, for images of any size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from monai.networks.nets import FlexibleUNet
from torch import Tensor, nn

from monai_ext.networks.backbones.mobilenet_v2 import WIDTHS, MobileNetV2Encoder
from monai_ext.networks.sampling import pad_to_multiples

__all__ = ["MobileNetV2UNet"]


class MobileNetV2UNet(FlexibleUNet):
    """Segmentation network: image (B, C, H, W) -> logits (B, out_channels, H, W), any H and W >= 1.

    Sizes that are not multiples of 32 are padded with the border's values at the right and bottom and cropped back, so
    that output and input agree exactly. No activation at the end: apply a sigmoid (one class) or softmax outside.
    Images are expected as the encoder weights were trained: for ImageNet weights RGB in [0, 1], minus mean
    (0.485, 0.456, 0.406), divided by (0.229, 0.224, 0.225).

    Args:
        in_channels: image channels C.
        out_channels: number of logit maps.
        width: MobileNetV2's width multiplier: 0.25, 0.35, 0.5, 0.75, 1.0 or 1.4.
        encoder_weights: None (random), the path of a MobileNetV2 state dict with torchvision's key names, or
            `"imagenet"` to fetch torchvision's.
        decoder_channels: features of the five decoder stages, from 1/16 to full resolution.
        dropout: dropout probability in the decoder.
        frozen_norm: keep the encoder's BatchNorm layers as loaded, in evaluation mode and without gradients, in
            training too. For small batches, and for weights with folded BatchNorm (`folded_batch_norms`), whose scales
            batch statistics would destroy.

    Raises:
        ValueError: `width` is not one of the published ones, or the weights do not fit.
        FileNotFoundError: the weights cannot be found or fetched.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        *,
        width: float = 1.0,
        encoder_weights: str | Path | None = None,
        decoder_channels: Sequence[int] = (256, 128, 64, 32, 16),
        dropout: float = 0.0,
        frozen_norm: bool = False,
    ):
        if width not in WIDTHS:
            raise ValueError(f"width={width} is not a published MobileNetV2: choose one of {WIDTHS}.")
        super().__init__(
            in_channels,
            out_channels,
            backbone=f"mobilenet_v2_{width:g}",
            decoder_channels=tuple(decoder_channels),
            dropout=dropout,
            is_pad=False,  # padded as a whole in `forward`
        )
        self.encoder: MobileNetV2Encoder
        self.multiples = [32, 32]  # five halvings
        if encoder_weights is not None:
            self.encoder.load_weights(encoder_weights)
        self.frozen_norm = frozen_norm
        if frozen_norm:
            for layer in self._norms():
                layer.requires_grad_(False)

    def _norms(self) -> list[nn.Module]:
        return [layer for layer in self.encoder.modules() if isinstance(layer, nn.BatchNorm2d)]

    def train(self, mode: bool = True) -> MobileNetV2UNet:
        super().train(mode)
        if mode and self.frozen_norm:
            for layer in self._norms():
                layer.eval()
        return self

    def forward(self, inputs: Tensor) -> Tensor:
        height, width = inputs.shape[-2], inputs.shape[-1]
        features = self.encoder(pad_to_multiples(inputs, self.multiples))
        logits = self.segmentation_head(self.decoder(features, self.skip_connect))
        return logits[..., :height, :width]
