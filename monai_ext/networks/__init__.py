from monai_ext.networks.backbones import MobileNetV2Encoder, folded_batch_norms, unfold_batch_norm
from monai_ext.networks.bayesian_srresnet import BayesianSRResNet
from monai_ext.networks.features import MobileNetV2Features, VGG19Features
from monai_ext.networks.gated_sr_net import GatedSRNet
from monai_ext.networks.holistic_net import HolisticNet
from monai_ext.networks.mobilenet_unet import MobileNetV2UNet
from monai_ext.networks.multi_rater import (
    ConsensusNet,
    DeepEnsemble,
    HeadSampling,
    LevelSetNet,
    MapSampler,
    MonteCarloDropout,
    OrderedHeads,
    RaterEnsemble,
    RaterSampler,
)
from monai_ext.networks.probabilistic_unet import ProbabilisticUNet
from monai_ext.networks.projection import ConsistencyProjection
from monai_ext.networks.segmentation import segmentation_backbone
from monai_ext.networks.sr_discriminator import DetailDiscriminator, SRDiscriminator
from monai_ext.networks.srresnet import SRResNet
from monai_ext.networks.uncertain_sr import PointSuperResolution, UncertainSuperResolution, WeightEnsemble
from monai_ext.networks.variance_parts import decompose_variance
from monai_ext.networks.variational import DropoutConv2d, VariationalConv2d, bayesian_convolution, drawn_weights

__all__ = [
    "BayesianSRResNet",
    "ConsensusNet",
    "ConsistencyProjection",
    "DeepEnsemble",
    "DetailDiscriminator",
    "DropoutConv2d",
    "GatedSRNet",
    "HeadSampling",
    "HolisticNet",
    "LevelSetNet",
    "MapSampler",
    "MobileNetV2Encoder",
    "MobileNetV2Features",
    "MobileNetV2UNet",
    "MonteCarloDropout",
    "OrderedHeads",
    "PointSuperResolution",
    "ProbabilisticUNet",
    "RaterEnsemble",
    "RaterSampler",
    "SRDiscriminator",
    "SRResNet",
    "UncertainSuperResolution",
    "VGG19Features",
    "VariationalConv2d",
    "WeightEnsemble",
    "bayesian_convolution",
    "decompose_variance",
    "drawn_weights",
    "folded_batch_norms",
    "segmentation_backbone",
    "unfold_batch_norm",
]
