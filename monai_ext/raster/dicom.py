"""DICOM images and series as volumes in the units of their modality, with the affine from voxels to millimetres.

They are given as NIfTI images in memory: index (i, j, k) is row, column and slice, slices lie in the direction of the
normal of their rows and columns. The voxels of a file are decoded when they are taken.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np

from monai_ext.raster.errors import ImageFileError
from monai_ext.runtime.errors import one_line, some_of
from monai_ext.storage.folders import files_in

__all__ = ["dicom_files", "is_dicom", "open_dicom"]

SUFFIXES = (".dcm", ".dicom", ".ima")
NEVER = frozenset(".bmp .csv .gif .gz .jpeg .jpg .json .mha .nii .nrrd .png .tif .tiff .txt .webp".split())
MAGIC, PREAMBLE = b"DICM", 128  # bytes before it
SAME = 1e-3  # direction cosines, and millimetres of a slice's place
MISSING = 1.5  # of the usual distance of slices: one is missing
UNEVEN = 0.1  # of it: they are no regular volume
MOST_REMEMBERED = 64  # series

_known: dict[tuple, _Series] = {}


class _Series(NamedTuple):
    """What the headers of an image or of the slices of a series show."""

    files: tuple[Path, ...]  # in the order of the slices
    shape: tuple[int, ...]  # (H, W), (H, W, 3) or (H, W, D)
    dtype: np.dtype
    affine: np.ndarray | None  # None: unknown place
    steps: tuple[float, float]  # millimetres between rows and columns


def is_dicom(path: str | os.PathLike) -> bool:
    """Whether a file is a DICOM file by its suffix, or without one by its first bytes; of a folder: whether it has one.

    >>> is_dicom("scan/IM0001.dcm"), is_dicom("scan.nii.gz")
    (True, False)
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in NEVER:  # without a look at the disk: folders have thousands of them
        return False
    if path.is_dir():
        return any(map(is_dicom, files_in(path)))
    if suffix in SUFFIXES:
        return True
    if suffix and not suffix[1:].isdigit():  # names are often numbers with dots
        return False
    try:
        with path.open("rb") as file:
            return file.read(PREAMBLE + len(MAGIC))[PREAMBLE:] == MAGIC
    except OSError:
        return False


def dicom_files(folder: str | os.PathLike) -> list[list[Path]]:
    """The DICOM files directly in a folder as one list for each volume or picture: those of one series with places.

    Raises:
        ImageFileError: pydicom is missing, or a file is damaged.
    """
    series: dict[str | int, list[Path]] = {}
    for number, path in enumerate(file for file in files_in(folder) if is_dicom(file)):
        header = _header(path)
        placed = "ImagePositionPatient" in header
        series.setdefault(str(header.get("SeriesInstanceUID")) if placed else number, []).append(path)
    return list(series.values())


def open_dicom(path: str | os.PathLike) -> nib.Nifti1Image:
    """The image in a DICOM file, or the volume of a folder with the files of one series, its voxels not yet decoded.

    Rescale slope and intercept are applied (Hounsfield units of CT); pictures whose 0 is white are inverted. Files of
    other kinds in the folder are passed over.

    Raises:
        ImageFileError: pydicom or a decoder is missing, a file is damaged or has no image, or the folder holds several
            series, slices of several sizes or directions, two at one place, too few or unevenly spaced ones.
    """
    path = Path(path)
    files = [file for file in files_in(path) if is_dicom(file)] if path.is_dir() else [path]
    if not path.exists():
        raise ImageFileError(f"image file {path} does not exist.")
    state = (str(path), *((file.name, (status := file.stat()).st_size, status.st_mtime_ns) for file in files))
    if state not in _known:
        if len(_known) >= MOST_REMEMBERED:
            _known.clear()
        _known[state] = _series(path, files)
    series = _known[state]
    voxels: Any = _Voxels(series)  # nibabel's own name for it is an array proxy
    image = nib.Nifti1Image(voxels, series.affine, dtype=series.dtype)
    if series.affine is None:
        image.header.set_zooms((*series.steps, 1.0)[: len(series.shape)])
    image.header.set_xyzt_units("mm")
    return image


class _Voxels:
    """The voxels of a series as nibabel wants them: an array that decodes its files when it is read."""

    is_proxy = True

    def __init__(self, series: _Series):
        self.series, self.shape, self.dtype, self.ndim = series, series.shape, series.dtype, len(series.shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        slices = [_pixels(path, self.dtype) for path in self.series.files]
        voxels = slices[0] if len(self.series.files) == 1 else np.stack(slices, axis=2)
        return voxels.reshape(self.shape).astype(dtype or self.dtype, copy=False)

    def __getitem__(self, key: Any) -> np.ndarray:
        whole = isinstance(key, tuple) and len(key) == 3 and key[:2] == (slice(None), slice(None))
        if whole and isinstance(key[2], int) and len(self.series.files) > 1:
            return _pixels(self.series.files[key[2]], self.dtype)
        return np.asarray(self)[key]


def _pydicom(path: Path) -> Any:
    try:
        import pydicom
    except ImportError as error:
        raise ImageFileError(f'{path} is DICOM and needs pydicom: pip install "pydicom>=3".') from error
    return pydicom


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Errors of pydicom as one of ours that names the file."""
    try:
        yield
    except ImageFileError:
        raise
    except Exception as error:  # of any kind: pydicom has several of its own for damaged files
        raise ImageFileError(f"cannot read {path} as DICOM: {one_line(error)}.") from None


def _header(path: Path, *, pixels: bool = False) -> Any:
    pydicom = _pydicom(path)
    with _reading(path):
        return pydicom.dcmread(path, stop_before_pixels=not pixels)


def _series(path: Path, files: Sequence[Path]) -> _Series:
    if not files:
        raise ImageFileError(f"{path} holds no DICOM file.")
    headers = [_header(file) for file in files]
    with _reading(path):
        return _ordered(path, files, headers)


def _ordered(path: Path, files: Sequence[Path], headers: Sequence[Any]) -> _Series:
    for file, header in zip(files, headers, strict=True):
        _check_image(file, header)
    _check_alike(path, files, headers)
    first = headers[0]
    size, samples = (int(first.Rows), int(first.Columns)), int(first.get("SamplesPerPixel", 1))
    spacing = first.get("PixelSpacing") or first.get("ImagerPixelSpacing") or (1.0, 1.0)
    steps = float(spacing[0]), float(spacing[1])
    shape = (*size, samples) if samples > 1 else size
    dtype = _dtype(headers)
    if "ImagePositionPatient" not in first or "ImageOrientationPatient" not in first:
        return _Series(tuple(files), shape, dtype, None, steps)
    cosines = np.array(first.ImageOrientationPatient, dtype=np.float64)
    along_columns, along_rows = cosines[:3], cosines[3:]  # of rising column and row numbers
    normal = np.cross(along_columns, along_rows)
    places = np.array([header.ImagePositionPatient for header in headers], dtype=np.float64)
    order = np.argsort(places @ normal, kind="stable")
    step = normal * float(first.get("SpacingBetweenSlices") or first.get("SliceThickness") or 1.0)
    if len(files) > 1:
        _check_distances(path, [files[index] for index in order], (places @ normal)[order])
        step = (places[order[-1]] - places[order[0]]) / (len(files) - 1)
        shape = (*size, len(files))
    affine = np.eye(4)
    affine[:3] = np.column_stack([along_rows * steps[0], along_columns * steps[1], step, places[order[0]]])
    affine[:2] *= -1  # DICOM's axes lead to the left and to the back
    return _Series(tuple(files[index] for index in order), shape, dtype, affine, steps)


def _check_image(path: Path, header: Any) -> None:
    if "Rows" not in header or "Columns" not in header:
        raise ImageFileError(f"{path} is DICOM of the kind {header.get('Modality', 'unknown')} and holds no image.")
    if int(header.get("NumberOfFrames") or 1) > 1:
        raise ImageFileError(
            f"{path} holds {header.NumberOfFrames} frames in one file: convert it to NIfTI, as dcm2niix does, or to "
            "one file for each slice."
        )
    from pydicom.pixels import get_decoder

    syntax = header.file_meta.TransferSyntaxUID
    if not syntax.is_compressed or syntax.is_deflated:
        return
    try:
        decodable = get_decoder(syntax).is_available
    except NotImplementedError:
        decodable = False
    if not decodable:
        raise ImageFileError(
            f"{path} is compressed ({syntax.name}), and no decoder for that is installed: pip install pylibjpeg "
            "pylibjpeg-libjpeg pylibjpeg-openjpeg."
        )


def _check_alike(path: Path, files: Sequence[Path], headers: Sequence[Any]) -> None:
    """Whether files are slices of one volume."""
    if len(files) < 2:
        return
    series = Counter(str(header.get("SeriesInstanceUID")) for header in headers)
    if len(series) > 1:
        names = {str(header.get("SeriesInstanceUID")): str(header.get("SeriesDescription", "")) for header in headers}
        listed = some_of([f"{count} files of {names[uid] or uid}" for uid, count in series.items()])
        raise ImageFileError(f"{path} holds {len(series)} series ({listed}): give each a folder of its own.")
    unplaced = [file.name for file, header in zip(files, headers, strict=True) if "ImagePositionPatient" not in header]
    if unplaced:
        raise ImageFileError(
            f"{path} holds {len(unplaced)} images without a place in space ({some_of(unplaced)}): they are no slices "
            "of a volume; give the files instead of the folder."
        )
    for what, differs in (
        ("sizes", lambda a, b: (a.Rows, a.Columns) != (b.Rows, b.Columns)),
        ("directions", lambda a, b: not _near(a.ImageOrientationPatient, b.ImageOrientationPatient)),
        ("pixel sizes", lambda a, b: not _near(a.get("PixelSpacing", (1, 1)), b.get("PixelSpacing", (1, 1)))),
    ):
        other = [file.name for file, header in zip(files, headers, strict=True) if differs(headers[0], header)]
        if other:
            raise ImageFileError(
                f"{path} holds slices of several {what}, as where a localizer lies beside a series: {some_of(other)} "
                f"and {files[0].name} differ; move one kind away."
            )


def _near(first: Sequence, second: Sequence) -> bool:
    return np.allclose(np.array(first, dtype=float), np.array(second, dtype=float), rtol=0, atol=SAME)


def _check_distances(path: Path, files: Sequence[Path], places: np.ndarray) -> None:
    distances = np.diff(places)
    usual, largest, smallest = float(np.median(distances)), int(distances.argmax()), int(distances.argmin())
    if distances[smallest] < SAME:
        raise ImageFileError(
            f"{path} has two slices at one place, {files[smallest].name} and {files[smallest + 1].name}, as series of "
            "several times or echoes have: give each volume a folder of its own."
        )
    if distances[largest] > MISSING * usual:
        raise ImageFileError(
            f"{path} lacks slices between {files[largest].name} and {files[largest + 1].name}: they lie "
            f"{distances[largest]:g} mm apart, others {usual:g} mm."
        )
    if np.abs(distances - usual).max() > UNEVEN * usual:
        raise ImageFileError(
            f"{path} has slices {distances[smallest]:g} to {distances[largest]:g} mm apart: resample it to even ones."
        )


def _dtype(headers: Sequence[Any]) -> np.dtype:
    """The smallest type that holds all values; floating point where they are fractions."""
    limits = []
    for header in headers:
        slope, intercept = float(header.get("RescaleSlope", 1)), float(header.get("RescaleIntercept", 0))
        if slope != round(slope) or intercept != round(intercept):
            return np.dtype(np.float32)
        bits = int(header.get("BitsStored", header.get("BitsAllocated", 16)))
        signed = int(header.get("PixelRepresentation", 0))
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        limits += [low * slope + intercept, high * slope + intercept]
    for dtype in (np.uint8, np.int16, np.uint16, np.int32):
        if np.iinfo(dtype).min <= min(limits) and max(limits) <= np.iinfo(dtype).max:
            return np.dtype(dtype)
    return np.dtype(np.float32)


def _pixels(path: Path, dtype: np.dtype) -> np.ndarray:
    """Values of one file, (H, W) or (H, W, 3)."""
    header = _header(path, pixels=True)
    with _reading(path):
        stored = header.pixel_array
        if header.PhotometricInterpretation == "MONOCHROME1":
            stored = 2 ** int(header.BitsStored) - 1 - stored.astype(np.int64)
        slope, intercept = float(header.get("RescaleSlope", 1)), float(header.get("RescaleIntercept", 0))
        values = stored if (slope, intercept) == (1, 0) else stored * slope + intercept
        return values.astype(dtype)
