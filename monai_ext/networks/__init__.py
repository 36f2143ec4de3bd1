from monai_ext.networks.batch_norm import folded_batch_norms, unfold_batch_norm
from monai_ext.networks.mobilenet_unet import MobileNetV2UNet
from monai_ext.networks.mobilenet_v2 import MobileNetV2Encoder

__all__ = ["MobileNetV2Encoder", "MobileNetV2UNet", "folded_batch_norms", "unfold_batch_norm"]
