from monai_ext.losses.adversarial import LogisticAdversarialLoss, R1Penalty, squared_gradient_norm
from monai_ext.losses.consistency import ConsistencyLoss
from monai_ext.losses.elbo import ELBOLoss, ELBOTerms, latent_kl, samples_alike
from monai_ext.losses.perceptual import ContentLoss, PerceptualDistance, content_distance, unit_feature_distance
from monai_ext.losses.raters import ConsensusLoss, PerRaterLoss, majority_label, soft_label

__all__ = [
    "ConsensusLoss",
    "ConsistencyLoss",
    "ContentLoss",
    "ELBOLoss",
    "ELBOTerms",
    "LogisticAdversarialLoss",
    "PerRaterLoss",
    "PerceptualDistance",
    "R1Penalty",
    "content_distance",
    "latent_kl",
    "majority_label",
    "samples_alike",
    "soft_label",
    "squared_gradient_norm",
    "unit_feature_distance",
]
