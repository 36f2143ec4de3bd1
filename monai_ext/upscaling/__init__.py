"""Super-resolution of one raster of any size: plan, windows, layers, output file."""

from monai_ext.upscaling.layered_upscaler import LayeredUpscaler
from monai_ext.upscaling.layers import Layers
from monai_ext.upscaling.upscaler import Upscaler

__all__ = ["LayeredUpscaler", "Layers", "Upscaler"]
