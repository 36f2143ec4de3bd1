"""Transforms, most of them of whole batches on their device."""

from monai_ext.transforms.adaptive_threshold import *
from monai_ext.transforms.augmentations import *
from monai_ext.transforms.batch import *
from monai_ext.transforms.clicks import *
from monai_ext.transforms.components import *
from monai_ext.transforms.degradation import *
from monai_ext.transforms.interpolation import *
from monai_ext.transforms.label_maps import *
from monai_ext.transforms.many_high_res import *
from monai_ext.transforms.pairs import *
from monai_ext.transforms.parameters import *
from monai_ext.transforms.raters import *
from monai_ext.transforms.restore import *
from monai_ext.transforms.temperature import *
