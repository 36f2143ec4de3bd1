"""Metrics of segmentations, several raters, super-resolution and predicted uncertainty."""

from monai_ext.formulas.likelihoods import *
from monai_ext.formulas.structures import *
from monai_ext.metrics.boundaries import *
from monai_ext.metrics.calibration import *
from monai_ext.metrics.centrelines import *
from monai_ext.metrics.conformal import *
from monai_ext.metrics.distances import *
from monai_ext.metrics.heads import *
from monai_ext.metrics.raters import *
from monai_ext.metrics.sample_sets import *
from monai_ext.metrics.segmentation import *
from monai_ext.metrics.super_resolution import *
from monai_ext.metrics.temperature import *
from monai_ext.metrics.uncertainty import *
from monai_ext.metrics.uncertainty_tables import *
