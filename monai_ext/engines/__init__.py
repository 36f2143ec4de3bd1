"""Trainers, evaluators and what they call."""

from monai_ext.engines.adversarial import *
from monai_ext.engines.averaging import *
from monai_ext.engines.batch_engines import *
from monai_ext.engines.bayesian import *
from monai_ext.engines.inference import *
from monai_ext.engines.orthogonal_momentum import *
from monai_ext.engines.perceptual import *
from monai_ext.engines.precision import *
from monai_ext.engines.rater_data import *
from monai_ext.engines.rater_methods import *
from monai_ext.engines.raters import *
from monai_ext.engines.spread import *
from monai_ext.engines.uncertainty import *
