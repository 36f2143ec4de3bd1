from monai_ext.inferers.flip import FlipInferer
from monai_ext.inferers.tiled import TiledInferer
from monai_ext.inferers.upscaler import Upscaler

__all__ = [
    "FlipInferer",
    "TiledInferer",
    "Upscaler",
]
