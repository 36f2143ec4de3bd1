from monai_ext.engines.adversarial import PairedAdversarialTrainer
from monai_ext.engines.averaging import ModelEMA
from monai_ext.engines.lean import LeanEvaluator, LeanTrainer
from monai_ext.engines.precision import autocast_dtype

__all__ = [
    "LeanEvaluator",
    "LeanTrainer",
    "ModelEMA",
    "PairedAdversarialTrainer",
    "autocast_dtype",
]
