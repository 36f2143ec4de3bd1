"""Research-grade segmentation and super-resolution on MONAI, PyTorch and Ignite."""

__version__ = "0.1.0"
