from monai_ext.engines.adversarial import PairedAdversarialTrainer
from monai_ext.engines.averaging import ModelEMA
from monai_ext.engines.lean import LeanEvaluator, LeanTrainer
from monai_ext.engines.precision import autocast_dtype
from monai_ext.engines.rater_methods import PER_RATER_METHODS, RATER_METHODS, rater_cases, rater_loss, rater_network
from monai_ext.engines.raters import OneRaterAugment, PrepareRaters, RaterEvaluator, RaterInferer, pick_rater

__all__ = [
    "LeanEvaluator",
    "LeanTrainer",
    "ModelEMA",
    "OneRaterAugment",
    "PER_RATER_METHODS",
    "PairedAdversarialTrainer",
    "PrepareRaters",
    "RATER_METHODS",
    "RaterEvaluator",
    "RaterInferer",
    "autocast_dtype",
    "pick_rater",
    "rater_cases",
    "rater_loss",
    "rater_network",
]
