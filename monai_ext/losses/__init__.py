"""Losses over logits and images."""

from monai_ext.losses.adversarial import *
from monai_ext.losses.changing import *
from monai_ext.losses.consistency import *
from monai_ext.losses.elbo import *
from monai_ext.losses.energy import *
from monai_ext.losses.first_samples import *
from monai_ext.losses.lattice import *
from monai_ext.losses.ordered import *
from monai_ext.losses.perceptual import *
from monai_ext.losses.pixel import *
from monai_ext.losses.psnr import *
from monai_ext.losses.rater_samples import *
from monai_ext.losses.raters import *
from monai_ext.losses.shifted_crops import *
from monai_ext.losses.structures import *
from monai_ext.losses.super_resolution_elbo import *
