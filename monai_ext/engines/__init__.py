from monai_ext.engines.adversarial import Adversary, PairedAdversarialTrainer
from monai_ext.engines.averaging import ModelEMA
from monai_ext.engines.batch_engines import BatchEvaluator, BatchTrainer
from monai_ext.engines.bayesian import (
    BayesianAdversarialTrainer,
    PrepareSuperResolution,
    SampledEvaluator,
    weight_prior,
)
from monai_ext.engines.orthogonal_momentum import OrthogonalMomentum
from monai_ext.engines.perceptual import Perception
from monai_ext.engines.precision import autocast_dtype
from monai_ext.engines.rater_methods import (
    PER_RATER_METHODS,
    RATER_METHODS,
    evaluation_cases,
    known_raters,
    rater_cases,
    rater_loss,
    rater_network,
)
from monai_ext.engines.raters import PrepareRaters, RaterEvaluator, RaterInferer
from monai_ext.engines.uncertainty import UncertaintyEvaluator, UncertaintyInferer

__all__ = [
    "Adversary",
    "BatchEvaluator",
    "BatchTrainer",
    "BayesianAdversarialTrainer",
    "ModelEMA",
    "OrthogonalMomentum",
    "PER_RATER_METHODS",
    "PairedAdversarialTrainer",
    "Perception",
    "PrepareRaters",
    "PrepareSuperResolution",
    "RATER_METHODS",
    "RaterEvaluator",
    "RaterInferer",
    "SampledEvaluator",
    "UncertaintyEvaluator",
    "UncertaintyInferer",
    "autocast_dtype",
    "evaluation_cases",
    "known_raters",
    "rater_cases",
    "rater_loss",
    "rater_network",
    "weight_prior",
]
