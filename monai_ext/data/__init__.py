from monai_ext.data.aerial_phantoms import aerial_layers, draw_aerial, write_aerial_phantoms
from monai_ext.data.decoding import DecodeError
from monai_ext.data.folds import assign_folds, duplicate_groups, fold_items
from monai_ext.data.images import DecodeImaged, ImageFileError, image_size, read_image, read_mask
from monai_ext.data.isic import DatasetLayoutError, image_items, lesion_items, warn_if_overlapping
from monai_ext.data.many_hr import DecodeManyHighResd, ManyHighResDataset, many_hr_items, many_hr_pairs
from monai_ext.data.many_hr_build import build_many_hr
from monai_ext.data.many_hr_captures import add_captures
from monai_ext.data.many_hr_check import ManyHrReport, check_many_hr
from monai_ext.data.many_hr_format import ManyHrError
from monai_ext.data.many_hr_plan import ManyHrSettings
from monai_ext.data.memory import DeviceMemoryError
from monai_ext.data.mode_phantoms import draw_fields, field_modes
from monai_ext.data.nifti import RaterWriter, open_nifti, read_nifti, save_nifti
from monai_ext.data.phantoms import draw_lesion, write_lesion_phantoms
from monai_ext.data.polite_client import PoliteClient, TileFetchError, TileMissingError, TileRefusedError
from monai_ext.data.qubiq import assign_rater_folds, identified_raters, qubiq_items, rater_fold_items
from monai_ext.data.raster import open_raster
from monai_ext.data.raster_info import RasterInfo
from monai_ext.data.rater_cases import RaterCase, read_rater_case
from monai_ext.data.rater_decoding import DecodeRaters, read_rater_mask
from monai_ext.data.rater_images import DecodeRaterImages, rater_image_items
from monai_ext.data.rater_phantoms import RATER_STYLES, RaterStyle, draw_rater_case, write_rater_phantoms
from monai_ext.data.rater_predictions import PredictionKinds, RaterPredictions, rater_predictions, rater_truth
from monai_ext.data.resident import DeviceDataset, DeviceLoader
from monai_ext.data.tile_fetch import FetchSummary, fetch_tiles
from monai_ext.data.tile_grid import NATIONAL_MAP, TileArea, TileSource
from monai_ext.data.tile_images import DecodeTiled, read_tile
from monai_ext.data.tiles import split_by_place, tile_items

__all__ = [
    "DatasetLayoutError",
    "DecodeError",
    "DecodeImaged",
    "DecodeManyHighResd",
    "DecodeRaterImages",
    "DecodeRaters",
    "DecodeTiled",
    "DeviceDataset",
    "DeviceLoader",
    "DeviceMemoryError",
    "FetchSummary",
    "ImageFileError",
    "ManyHighResDataset",
    "ManyHrError",
    "ManyHrReport",
    "ManyHrSettings",
    "NATIONAL_MAP",
    "PoliteClient",
    "PredictionKinds",
    "RATER_STYLES",
    "RasterInfo",
    "RaterCase",
    "RaterPredictions",
    "RaterStyle",
    "RaterWriter",
    "TileArea",
    "TileFetchError",
    "TileMissingError",
    "TileRefusedError",
    "TileSource",
    "add_captures",
    "aerial_layers",
    "assign_folds",
    "assign_rater_folds",
    "build_many_hr",
    "check_many_hr",
    "draw_aerial",
    "draw_fields",
    "draw_lesion",
    "draw_rater_case",
    "duplicate_groups",
    "fetch_tiles",
    "field_modes",
    "fold_items",
    "identified_raters",
    "image_items",
    "image_size",
    "lesion_items",
    "many_hr_items",
    "many_hr_pairs",
    "open_nifti",
    "open_raster",
    "qubiq_items",
    "rater_fold_items",
    "rater_image_items",
    "rater_predictions",
    "rater_truth",
    "read_image",
    "read_mask",
    "read_nifti",
    "read_rater_case",
    "read_rater_mask",
    "read_tile",
    "save_nifti",
    "split_by_place",
    "tile_items",
    "warn_if_overlapping",
    "write_aerial_phantoms",
    "write_lesion_phantoms",
    "write_rater_phantoms",
]
