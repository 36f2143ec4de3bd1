from monai_ext.inferers.flip import FlipInferer

__all__ = ["FlipInferer"]
