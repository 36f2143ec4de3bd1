"""Super-resolution of one raster of any size: plan, windows, layers, output files."""

from monai_ext.upscaling.file import Choices, upscale_file
from monai_ext.upscaling.layers import Layers
from monai_ext.upscaling.parallel import UpscaleError, upscale_files
from monai_ext.upscaling.plan import Plan
from monai_ext.upscaling.upscaler import Upscaler

__all__ = ["Choices", "Layers", "Plan", "UpscaleError", "Upscaler", "upscale_file", "upscale_files"]
