from monai_ext.transforms.batch import BatchAugment
from monai_ext.transforms.draws import AugmentDraw
from monai_ext.transforms.restore import RestoreSized

__all__ = ["AugmentDraw", "BatchAugment", "RestoreSized"]
