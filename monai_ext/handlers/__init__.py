"""What happens around a training or an evaluation."""

from monai_ext.handlers.pictures.segmentation import *
from monai_ext.handlers.pictures.triplets import *
from monai_ext.handlers.raters.health import *
from monai_ext.handlers.raters.pictures import *
from monai_ext.handlers.raters.scores import *
from monai_ext.handlers.segmentation_scores import *
from monai_ext.handlers.super_resolution.adversarial_health import *
from monai_ext.handlers.super_resolution.adversarial_training import *
from monai_ext.handlers.super_resolution.bayesian_health import *
from monai_ext.handlers.super_resolution.bayesian_pictures import *
from monai_ext.handlers.super_resolution.bayesian_table import *
from monai_ext.handlers.super_resolution.many_hr_table import *
from monai_ext.handlers.super_resolution.methods import *
from monai_ext.handlers.super_resolution.scores import *
from monai_ext.handlers.super_resolution.uncertainty import *
from monai_ext.handlers.super_resolution.upscaled_files import *
from monai_ext.handlers.training.checkpoints import *
from monai_ext.handlers.training.curves import *
from monai_ext.handlers.training.normalisation import *
from monai_ext.handlers.training.records import *
from monai_ext.handlers.training.schedule import *
from monai_ext.handlers.training.sizes import *
from monai_ext.handlers.training.stages import *
from monai_ext.handlers.training.standard import *
from monai_ext.handlers.training.tensorboard import *
from monai_ext.handlers.training.weights import *
