"""Small data sets for several raters with predictions, written and scored."""

from __future__ import annotations

import csv

import msgspec
import nibabel as nib
import numpy as np
from PIL import Image

from monai_ext.commands.scoring.score import ScoreOptions, score

A, B = [[1, 1, 0, 0]], [[1, 0, 0, 0]]  # two raters of four pixels: IoU 1/2, Dice 2/3


NOBODY = [[0, 0, 0, 0]]


FEW = 60  # bootstrap draws


def write(path, values, *, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.asarray(values)
    if path.suffix == ".png":
        Image.fromarray(values).save(path)
    else:
        nib.save(nib.Nifti1Image(values.astype(np.float32) if values.dtype.kind == "f" else values.astype(np.uint8),
                                 np.eye(4) if affine is None else affine), path)  # fmt: skip
    return path


def write_case(folder, raters, *, task=1):
    """A case of the truth: an image and {rater: mask}."""
    write(folder / "image.nii.gz", np.zeros(np.shape(next(iter(raters.values())))))
    return write_masks(folder, raters, task=task)


def write_masks(folder, masks, *, kind="seg", task=1, suffix=".nii.gz"):
    for number, mask in masks.items():
        write(folder / f"task{task:02d}_{kind}{number:02d}{suffix}", mask)
    return folder


def scored(predictions, truth, **options):
    """(means by name, human means by name, content) of the first task."""
    content = msgspec.to_builtins(score(ScoreOptions(predictions, truth, **({"resamples": FEW} | options))))
    table = content["tasks"][0]["scores"]
    human = {name: values["raters"]["mean"] for name, values in table.items() if values["raters"] is not None}
    return {name: values["mean"] for name, values in table.items()}, human, content


def rows_of(predictions):
    with (predictions / "scores" / "cases.csv").open(newline="") as file:
        return list(csv.DictReader(file))
