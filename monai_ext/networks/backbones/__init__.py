"""Encoders with ImageNet weights, MobileNetV2 and EfficientNet-Lite0, reading of weights, and folded BatchNorm."""

from monai_ext.networks.backbones.batch_norm import folded_batch_norms, merge_batch_norms, unfold_batch_norm
from monai_ext.networks.backbones.efficientnet_lite import EfficientNetLite0Encoder
from monai_ext.networks.backbones.mobilenet_v2 import MobileNetV2Encoder
from monai_ext.networks.backbones.weights import read_weights

__all__ = [
    "EfficientNetLite0Encoder",
    "MobileNetV2Encoder",
    "folded_batch_norms",
    "merge_batch_norms",
    "read_weights",
    "unfold_batch_norm",
]
