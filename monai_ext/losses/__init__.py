from monai_ext.losses.adversarial import LogisticAdversarialLoss, R1Penalty, squared_gradient_norm
from monai_ext.losses.consistency import ConsistencyLoss
from monai_ext.losses.elbo import ELBOLoss, ELBOTerms, latent_kl, samples_alike
from monai_ext.losses.energy import patch_distance, patch_energy_score
from monai_ext.losses.heteroscedastic import negative_log_likelihood
from monai_ext.losses.ordered import OrderedLoss, masks_by_size
from monai_ext.losses.perceptual import (
    ContentLoss,
    PerceptualDistance,
    PerceptualEnergy,
    content_distance,
    unit_feature_distance,
)
from monai_ext.losses.psnr import PSNRLoss
from monai_ext.losses.raters import ConsensusLoss, PerRaterLoss, majority_label, soft_label
from monai_ext.losses.shifted_crops import ShiftedCrops
from monai_ext.losses.super_resolution_elbo import SuperResolutionELBO, SuperResolutionTerms

__all__ = [
    "ConsensusLoss",
    "ConsistencyLoss",
    "ContentLoss",
    "ELBOLoss",
    "ELBOTerms",
    "LogisticAdversarialLoss",
    "OrderedLoss",
    "PSNRLoss",
    "PerRaterLoss",
    "PerceptualDistance",
    "PerceptualEnergy",
    "R1Penalty",
    "ShiftedCrops",
    "SuperResolutionELBO",
    "SuperResolutionTerms",
    "content_distance",
    "latent_kl",
    "majority_label",
    "masks_by_size",
    "negative_log_likelihood",
    "patch_distance",
    "patch_energy_score",
    "samples_alike",
    "soft_label",
    "squared_gradient_norm",
    "unit_feature_distance",
]
