from monai_ext.data.folds import assign_folds, duplicate_groups, fold_items
from monai_ext.data.images import DecodeImaged, ImageFileError, image_size, read_image, read_mask
from monai_ext.data.isic import DatasetLayoutError, image_items, lesion_items, warn_if_overlapping
from monai_ext.data.phantoms import draw_lesion, write_lesion_phantoms
from monai_ext.data.resident import DeviceDataset, DeviceLoader

__all__ = [
    "DatasetLayoutError",
    "DecodeImaged",
    "DeviceDataset",
    "DeviceLoader",
    "ImageFileError",
    "assign_folds",
    "draw_lesion",
    "duplicate_groups",
    "fold_items",
    "image_items",
    "image_size",
    "lesion_items",
    "read_image",
    "read_mask",
    "warn_if_overlapping",
    "write_lesion_phantoms",
]
