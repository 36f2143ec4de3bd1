from monai_ext.inferers.test_time_augmentation import TTAInferer
from monai_ext.inferers.tiled import TiledInferer

__all__ = ["TTAInferer", "TiledInferer"]
