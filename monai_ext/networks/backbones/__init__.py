"""Encoders with ImageNet weights: MobileNetV2, reading of weights, and BatchNorm folded for deployment."""

from monai_ext.networks.backbones.batch_norm import folded_batch_norms, unfold_batch_norm
from monai_ext.networks.backbones.mobilenet_v2 import MobileNetV2Encoder
from monai_ext.networks.backbones.weights import read_weights

__all__ = ["MobileNetV2Encoder", "folded_batch_norms", "read_weights", "unfold_batch_norm"]
