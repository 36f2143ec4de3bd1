"""Networks: logits or images out, no download in a constructor."""

from monai_ext.networks.backbones import *
from monai_ext.networks.ensembles import *
from monai_ext.networks.features import *
from monai_ext.networks.gated_sr_net import *
from monai_ext.networks.hierarchical_unet import *
from monai_ext.networks.holistic_net import *
from monai_ext.networks.latent_srresnet import *
from monai_ext.networks.latent_unet import *
from monai_ext.networks.mobilenet_unet import *
from monai_ext.networks.multi_rater import *
from monai_ext.networks.probabilistic_unet import *
from monai_ext.networks.projection import *
from monai_ext.networks.rater_sampler import *
from monai_ext.networks.segmentation import *
from monai_ext.networks.slicewise_unet import *
from monai_ext.networks.sr_discriminator import *
from monai_ext.networks.srresnet import *
from monai_ext.networks.stochastic_segmentation import *
from monai_ext.networks.uncertain_sr import *
from monai_ext.networks.variance_parts import *
from monai_ext.networks.variational import *
