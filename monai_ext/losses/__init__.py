from monai_ext.losses.elbo import ELBOLoss, ELBOTerms, latent_kl, samples_alike
from monai_ext.losses.raters import ConsensusLoss, PerRaterLoss, majority_label, soft_label

__all__ = [
    "ConsensusLoss",
    "ELBOLoss",
    "ELBOTerms",
    "PerRaterLoss",
    "latent_kl",
    "majority_label",
    "samples_alike",
    "soft_label",
]
