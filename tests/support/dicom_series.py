"""Small DICOM series, written by pydicom."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write_slice(
    path: Path,
    pixels: np.ndarray,
    *,
    place=(0.0, 0.0, 0.0),
    cosines=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    spacing=(0.7, 0.5),
    series="1.2.3",
    **elements,
) -> Path:
    """A CT slice, or a picture if `place` is None; `elements` are further ones, None takes one away."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    image.Modality, image.SeriesInstanceUID, image.PatientID = "CT", series, "phantom"
    image.Rows, image.Columns = pixels.shape[:2]
    image.SamplesPerPixel = pixels.shape[2] if pixels.ndim == 3 else 1
    image.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    if pixels.ndim == 3:
        image.PlanarConfiguration = 0
    image.BitsAllocated = image.BitsStored = 8 * pixels.itemsize
    image.HighBit, image.PixelRepresentation = image.BitsStored - 1, int(pixels.dtype.kind == "i")
    if place is not None:
        image.ImagePositionPatient, image.ImageOrientationPatient = list(place), list(cosines)
        image.PixelSpacing, image.SliceThickness = list(spacing), 2.5
    image.PixelData = pixels.tobytes()
    for name, value in elements.items():
        if value is None:
            delattr(image, name)
        else:
            setattr(image, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save_as(path, enforce_file_format=True)
    return path


def write_series(folder: Path, volume: np.ndarray, *, step=2.5, **settings) -> Path:
    """A volume (H, W, D) as one file for each slice, upwards from z = 30, under names in another order."""
    depth = volume.shape[2]
    for index in range(depth):
        place = (-20.0, 10.0, 30.0 + step * index)
        write_slice(folder / f"IM{(7 * index) % 11:04d}.dcm", volume[:, :, index], place=place, **settings)
    return folder
