"""Images as files: photographs, rasters of any size, NIfTI."""
