from monai_ext.inferers.layered_upscaler import LayeredUpscaler
from monai_ext.inferers.layers import Layers
from monai_ext.inferers.tiled import TiledInferer
from monai_ext.inferers.upscaler import Upscaler
from monai_ext.inferers.views import MultiViewInferer

__all__ = [
    "LayeredUpscaler",
    "Layers",
    "MultiViewInferer",
    "TiledInferer",
    "Upscaler",
]
