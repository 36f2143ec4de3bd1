"""Images as files: photographs and masks, rasters of any size by rows, NIfTI."""

from monai_ext.raster.images import ImageFileError, image_size, read_image
from monai_ext.raster.info import BandTags, GeoTags, Raster, RasterInfo
from monai_ext.raster.masks import read_mask
from monai_ext.raster.missing_pixels import nearest_known
from monai_ext.raster.nifti import open_nifti, read_nifti, save_nifti
from monai_ext.raster.opening import check_output, has_georeference, open_raster, output_suffix, write_raster
from monai_ext.raster.partial_rows import PartialRows

__all__ = [
    "BandTags",
    "GeoTags",
    "ImageFileError",
    "PartialRows",
    "Raster",
    "RasterInfo",
    "check_output",
    "has_georeference",
    "image_size",
    "nearest_known",
    "open_nifti",
    "open_raster",
    "output_suffix",
    "read_image",
    "read_mask",
    "read_nifti",
    "save_nifti",
    "write_raster",
]
