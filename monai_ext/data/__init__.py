from monai_ext.data.decode_images import DecodeImaged
from monai_ext.data.device.crops import RandomCrops
from monai_ext.data.device.dataset import DeviceDataset
from monai_ext.data.device.decoding import DecodeError
from monai_ext.data.device.loader import DeviceLoader
from monai_ext.data.first_look import DataSetError, LookedDataset
from monai_ext.data.folds import assign_folds, fold_items, split_by_fold
from monai_ext.data.isic import DatasetLayoutError, image_items, lesion_items
from monai_ext.data.many_hr.build import build_many_hr
from monai_ext.data.many_hr.captures import add_captures
from monai_ext.data.many_hr.check import ManyHrReport, check_many_hr
from monai_ext.data.many_hr.dataset import DecodeManyHighResd, ManyHighResDataset, many_hr_items, many_hr_pairs
from monai_ext.data.many_hr.format import ManyHrError
from monai_ext.data.many_hr.plan import ManyHrSettings
from monai_ext.data.near_duplicates import duplicate_groups
from monai_ext.data.prediction_loader import PredictionLoader
from monai_ext.data.raters.cases import RaterCase, read_rater_case
from monai_ext.data.raters.decoding import DecodeRaters
from monai_ext.data.raters.images import DecodeRaterImages, rater_image_items
from monai_ext.data.raters.masks import read_rater_mask
from monai_ext.data.raters.predictions import PredictionKinds, RaterPredictions, rater_predictions, rater_truth
from monai_ext.data.raters.qubiq import identified_raters, qubiq_items
from monai_ext.data.raters.structures import structure_names
from monai_ext.data.raters.writer import RaterWriter
from monai_ext.data.run_cases import RunCases
from monai_ext.data.tiles.client import TileClient, TileFetchError, TileMissingError, TileRefusedError
from monai_ext.data.tiles.fetch import FetchSummary, fetch_tiles
from monai_ext.data.tiles.grid import NATIONAL_MAP, TileArea, TileSource
from monai_ext.data.tiles.images import DecodeTiled, read_tile
from monai_ext.data.tiles.listing import tile_items
from monai_ext.data.tiles.pixel_scale import PixelScale, find_scale
from monai_ext.data.tiles.sampling import tile_weights
from monai_ext.data.tiles.split import split_by_place
from monai_ext.data.tiles.survey import TileSurvey, survey_tiles, tile_set, usable_tiles
from monai_ext.phantoms.aerial import aerial_layers, draw_aerial, write_aerial_phantoms
from monai_ext.phantoms.lesions import draw_lesion, write_lesion_phantoms
from monai_ext.phantoms.modes import draw_fields, field_modes
from monai_ext.phantoms.raters import RATER_STYLES, RaterStyle, draw_rater_case, write_rater_phantoms
from monai_ext.raster.images import ImageFileError, image_size, read_image
from monai_ext.raster.info import RasterInfo
from monai_ext.raster.masks import read_mask
from monai_ext.raster.nifti import open_nifti, read_nifti, save_nifti
from monai_ext.raster.opening import open_raster
from monai_ext.runtime.memory import DeviceMemoryError

__all__ = [
    "DataSetError",
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
    "LookedDataset",
    "ManyHighResDataset",
    "ManyHrError",
    "ManyHrReport",
    "ManyHrSettings",
    "NATIONAL_MAP",
    "TileClient",
    "PixelScale",
    "PredictionKinds",
    "PredictionLoader",
    "RATER_STYLES",
    "RandomCrops",
    "RasterInfo",
    "RaterCase",
    "RaterPredictions",
    "RaterStyle",
    "RaterWriter",
    "RunCases",
    "TileArea",
    "TileFetchError",
    "TileMissingError",
    "TileRefusedError",
    "TileSource",
    "TileSurvey",
    "add_captures",
    "aerial_layers",
    "assign_folds",
    "build_many_hr",
    "check_many_hr",
    "draw_aerial",
    "draw_fields",
    "draw_lesion",
    "draw_rater_case",
    "duplicate_groups",
    "fetch_tiles",
    "field_modes",
    "find_scale",
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
    "split_by_fold",
    "split_by_place",
    "structure_names",
    "survey_tiles",
    "tile_items",
    "tile_set",
    "tile_weights",
    "usable_tiles",
    "write_aerial_phantoms",
    "write_lesion_phantoms",
    "write_rater_phantoms",
]
