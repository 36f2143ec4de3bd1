"""Data sets in the layouts that others use, read for `convert`."""

from monai_ext.data.layouts.annotations import *
from monai_ext.data.layouts.finding import *
from monai_ext.data.layouts.folders import *
from monai_ext.data.layouts.found import *
