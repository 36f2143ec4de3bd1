from monai_ext.data.decoding import DecodeError
from monai_ext.data.folds import assign_folds, duplicate_groups, fold_items
from monai_ext.data.images import DecodeImaged, ImageFileError, image_size, read_image, read_mask
from monai_ext.data.isic import DatasetLayoutError, image_items, lesion_items, warn_if_overlapping
from monai_ext.data.memory import DeviceMemoryError
from monai_ext.data.nifti import RaterWriter, open_nifti, read_nifti, save_nifti
from monai_ext.data.phantoms import draw_lesion, write_lesion_phantoms
from monai_ext.data.qubiq import assign_rater_folds, identified_raters, qubiq_items, rater_fold_items
from monai_ext.data.rater_decoding import DecodeRaters, read_rater_mask
from monai_ext.data.rater_phantoms import RATER_STYLES, RaterStyle, draw_rater_case, write_rater_phantoms
from monai_ext.data.resident import DeviceDataset, DeviceLoader

__all__ = [
    "DatasetLayoutError",
    "DecodeError",
    "DecodeImaged",
    "DecodeRaters",
    "DeviceDataset",
    "DeviceLoader",
    "DeviceMemoryError",
    "ImageFileError",
    "RATER_STYLES",
    "RaterStyle",
    "RaterWriter",
    "assign_folds",
    "assign_rater_folds",
    "draw_lesion",
    "draw_rater_case",
    "duplicate_groups",
    "fold_items",
    "identified_raters",
    "image_items",
    "image_size",
    "lesion_items",
    "open_nifti",
    "qubiq_items",
    "rater_fold_items",
    "read_image",
    "read_mask",
    "read_nifti",
    "read_rater_mask",
    "save_nifti",
    "warn_if_overlapping",
    "write_lesion_phantoms",
    "write_rater_phantoms",
]
