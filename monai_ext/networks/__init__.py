from monai_ext.networks.batch_norm import folded_batch_norms, unfold_batch_norm
from monai_ext.networks.features import MobileNetV2Features, VGG19Features
from monai_ext.networks.holistic_net import HolisticNet
from monai_ext.networks.mobilenet_unet import MobileNetV2UNet
from monai_ext.networks.mobilenet_v2 import MobileNetV2Encoder
from monai_ext.networks.multi_rater import (
    ConsensusNet,
    DeepEnsemble,
    HeadSampling,
    LevelSetNet,
    MonteCarloDropout,
    RaterEnsemble,
    RaterSampler,
)
from monai_ext.networks.probabilistic_unet import ProbabilisticUNet
from monai_ext.networks.sr_discriminator import SRDiscriminator
from monai_ext.networks.srresnet import SRResNet

__all__ = [
    "ConsensusNet",
    "DeepEnsemble",
    "HeadSampling",
    "HolisticNet",
    "LevelSetNet",
    "MobileNetV2Encoder",
    "MobileNetV2Features",
    "MobileNetV2UNet",
    "MonteCarloDropout",
    "ProbabilisticUNet",
    "RaterEnsemble",
    "RaterSampler",
    "SRDiscriminator",
    "SRResNet",
    "VGG19Features",
    "folded_batch_norms",
    "unfold_batch_norm",
]
