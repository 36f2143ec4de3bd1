"""Read the masks of all raters and the prediction of one case, from NIfTI or PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from monai_ext.data.raters.geometry import Geometry, Reading, geometry_of, item_geometry, reading_in
from monai_ext.data.raters.masks import binary_mask
from monai_ext.data.raters.predictions import Key, PredictionKinds
from monai_ext.formulas.grids import spacing_of
from monai_ext.raster.images import ImageFileError, reading
from monai_ext.raster.labels import checked_label
from monai_ext.raster.nifti import open_nifti, read_nifti

__all__ = ["RaterCase", "read_rater_case"]

RANGE_TOLERANCE = 1e-4  # probabilities stored as scaled integers overstep 1 by their rounding
FINE_STEP = 0.01  # of stored integers; coarser steps may be those of a vote, such as 1/7, and are exact
SCALE_TOLERANCE = 2e-7  # of values with a scale factor, which is single precision
GREY_MODES = ("1", "L", "I;16", "I")  # a PNG of mode I has 16 bits


class RaterCase(NamedTuple):
    """One case with its prediction; all of one size, (H, W), or (H, W, D) for volumes."""

    masks: Tensor  # (R, *size) uint8 of 0/1, empty where the rater is missing
    presence: Tensor  # (R,) bool
    probability: Tensor | None  # (*size) float32, in [0, 1]
    heads: Tensor | None  # (A, *size) uint8, for the raters `kinds.raters`
    samples: Tensor | None  # (M, *size) uint8
    elsewhere: Path | None  # a predicted file whose affine is not that of the truth
    spacing: tuple[float, ...] | None = None  # of the voxels along each axis; None: the files have none


def read_rater_case(
    item: Mapping,
    files: Mapping[Key, Sequence[Path]] | None = None,
    kinds: PredictionKinds = PredictionKinds(),  # noqa: B008
) -> RaterCase:
    """The raters' masks of an item of `rater_truth` and its prediction, an entry of `RaterPredictions.files`.

    Masks hold 0 and 1, or 0 and white (255; 65535 in a PNG of 16 bits). Probabilities lie in [0, 1]; in a PNG they are
    grey values, white being 1, and one whose highest value is 1 of 255 is refused, since it may be a mask of 0/1.
    Axes of length 1 after the second are dropped on both sides.

    Probabilities become float32. Integers with a scale factor, and grey values, can often not hold 0.1, 0.2 ... 0.9:
    where their steps are at most 0.01, a value within half a step of one of these is taken for it, so that a map of
    exact shares of raters reaches the levels of the QUBIQ score that the raters reach.

    Args:
        files: None reads the raters alone.
        kinds: what to read; every one must be in `files`.

    Raises:
        ImageFileError: a file cannot be read, holds other values, or differs in size from the first rater's mask.
    """
    paths = [None if path is None else Path(path) for path in item["label"]]
    first = next(path for path in paths if path is not None)
    label = checked_label(item.get("label_values"))
    reference = item_geometry(item)
    masks = {
        path: binary_mask(_reading(path, reference)(_stored(path)), path, label=label)
        for path in paths
        if path is not None
    }
    size = masks[first].shape
    for path, mask in masks.items():
        _check_size(mask, path, size, first)
    empty = np.zeros(size, dtype=np.uint8)
    truth = torch.from_numpy(np.stack([empty if path is None else masks[path] for path in paths]))
    presence = torch.tensor([path is not None for path in paths])
    spacing = None if reference is None else spacing_of(reference.affine)[: len(size)]
    if files is None:
        return RaterCase(truth, presence, None, None, None, None, spacing)

    def whole(kind: str, number: int) -> np.ndarray:
        """The values of one prediction at the size of the truth, slices put together."""
        read = _probability if kind == "probability" else binary_mask
        parts = []
        for path in files[kind, number]:
            stored = _stored(path)
            if len(files[kind, number]) == 1:
                stored = _reading(path, reference)(stored)
            _check_size(stored, path, size if len(files[kind, number]) == 1 else size[:2], first)
            parts.append(read(stored, path))
        return np.ascontiguousarray(parts[0] if len(parts) == 1 else np.stack(parts, axis=-1))

    def stacked(kind: str, numbers: Sequence[int]) -> Tensor | None:
        return torch.from_numpy(np.stack([whole(kind, number) for number in numbers])) if numbers else None

    return RaterCase(
        masks=truth,
        presence=presence,
        probability=torch.from_numpy(whole("probability", 0)) if kinds.probability else None,
        heads=stacked("seg", kinds.raters),
        samples=stacked("sample", kinds.samples),
        elsewhere=_elsewhere(next(iter(files.values())), reference),
        spacing=spacing,
    )


def _stored(path: Path) -> np.ndarray:
    return _read_png(path) if path.suffix.lower() == ".png" else read_nifti(path)


def _read_png(path: Path) -> np.ndarray:
    """Grey values: bool, uint8 or uint16 (H, W)."""
    with reading(path) as picture:
        mode, values = picture.mode, np.asarray(picture)
    if mode not in GREY_MODES:
        raise ImageFileError(f"{path} has the colour mode {mode}: save one grey channel of 8 or 16 bits.")
    return values.astype(np.uint16) if mode.startswith("I") else values


def _probability(values: np.ndarray, path: Path) -> np.ndarray:
    """float32 in [0, 1], see `read_rater_case`."""
    step = 0.0
    if path.suffix.lower() != ".png":
        step = _step(path)
    elif values.dtype != bool:
        if values.max(initial=0) == 1:
            raise ImageFileError(
                f"{path} holds the grey values 0 and 1 alone: a probability of 1 is white; save a mask as 0 and 255."
            )
        step = 1 / np.iinfo(values.dtype).max
        values = values * step
    inside = (values >= -RANGE_TOLERANCE) & (values <= 1 + RANGE_TOLERANCE)  # NaN is not
    if not inside.all():
        raise ImageFileError(
            f"{path} holds the value {values[~inside][0]:g}: expected probabilities in [0, 1]; apply the sigmoid first."
        )
    return _at_tenths(values, step).astype(np.float32).clip(0, 1)


def _step(path: Path) -> float:
    """Between neighbouring values of a NIfTI file that stores integers; 0 of one that stores floating numbers."""
    stored: Any = open_nifti(path).dataobj  # an ArrayProxy, which nibabel's types call array-like
    return abs(float(stored.slope)) if stored.dtype.kind in "iu" else 0.0


def _at_tenths(values: np.ndarray, step: float) -> np.ndarray:
    """`values` that integers with this step stand for, those that may be tenths as tenths."""
    if not step:
        return values
    tenths = np.rint(10 * values) / 10
    tolerance = SCALE_TOLERANCE + (step / 2 if step <= FINE_STEP else 0)
    return np.where(np.abs(values - tenths) <= tolerance, tenths, values)


def _check_size(values: np.ndarray, path: Path, size: tuple[int, ...], truth: Path) -> None:
    if values.shape == size:
        return
    turned = ", as if the first two axes were swapped" if values.shape == (size[1], size[0], *size[2:]) else ""
    raise ImageFileError(
        f"{path} has {_by(values.shape)} pixels, but the rater's mask {truth} has {_by(size)}{turned}: save every "
        "mask and prediction at the size of the case."
    )


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _reading(path: Path, reference: Geometry | None) -> Reading:
    """How the voxels of a file come into the order of the case's; those of a PNG have it."""
    if reference is None or path.suffix.lower() == ".png":
        return Reading()
    return reading_in(reference, geometry_of(path))


def _elsewhere(paths: Sequence[Path], reference: Geometry | None) -> Path | None:
    """The predicted file if it is a NIfTI that lies beside the case by its affine; slices have their own."""
    if len(paths) > 1 or _reading(paths[0], reference).beside is None:
        return None
    return paths[0]
