from monai_ext.transforms.augmentations import (
    RandomAffine,
    RandomBlur,
    RandomColour,
    RandomElastic,
    RandomFlip,
    RandomGamma,
    RandomNoise,
    RandomQuarterTurn,
)
from monai_ext.transforms.batch import BatchAugment
from monai_ext.transforms.components import KeepCentralComponentd
from monai_ext.transforms.degradation import Degradation
from monai_ext.transforms.interpolation import interpolate
from monai_ext.transforms.many_high_res import ManyHighResCrops
from monai_ext.transforms.one_rater import OneRaterAugment
from monai_ext.transforms.pairs import PairedCrops, ToUnitRanged
from monai_ext.transforms.parameters import AugmentParameters
from monai_ext.transforms.restore import RestoreSized

__all__ = [
    "AugmentParameters",
    "BatchAugment",
    "Degradation",
    "KeepCentralComponentd",
    "ManyHighResCrops",
    "OneRaterAugment",
    "PairedCrops",
    "RandomAffine",
    "RandomBlur",
    "RandomColour",
    "RandomElastic",
    "RandomFlip",
    "RandomGamma",
    "RandomNoise",
    "RandomQuarterTurn",
    "RestoreSized",
    "ToUnitRanged",
    "interpolate",
]
