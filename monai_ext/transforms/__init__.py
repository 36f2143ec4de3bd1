from monai_ext.transforms.batch import BatchAugment
from monai_ext.transforms.components import KeepCentralComponentd
from monai_ext.transforms.degradation import Degradation
from monai_ext.transforms.interpolation import interpolate
from monai_ext.transforms.many_high_res import ManyHighResCrops
from monai_ext.transforms.pairs import PairedCrops, ToUnitRanged
from monai_ext.transforms.parameters import AugmentParameters
from monai_ext.transforms.restore import RestoreSized

__all__ = [
    "ManyHighResCrops",
    "AugmentParameters",
    "BatchAugment",
    "Degradation",
    "KeepCentralComponentd",
    "PairedCrops",
    "RestoreSized",
    "ToUnitRanged",
    "interpolate",
]
