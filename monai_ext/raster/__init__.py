"""Images as files: photographs and masks, rasters of any size by rows, NIfTI."""
