"""Phantoms of which some are near-duplicates."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from monai_ext.data.folds import assign_folds
from monai_ext.data.isic import lesion_items
from monai_ext.phantoms.lesions import write_lesion_phantoms

COUNT = 40


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """40 phantoms, of which 3 are saved again: re-compressed, re-coloured, and shifted by some pixels."""
    folder = tmp_path_factory.mktemp("dataset")
    write_lesion_phantoms(folder, count=COUNT, size=(96, 128), seed=2)
    for index, name in ((4, "quality"), (9, "colour"), (17, "shift")):
        picture = Image.open(folder / "images" / f"phantom_{index:04d}.jpg")
        if name == "colour":
            pixels = np.asarray(ImageEnhance.Brightness(picture).enhance(0.8)) * np.array([1.0, 0.9, 0.85])
            picture = Image.fromarray(pixels.astype(np.uint8))
        if name == "shift":
            picture = picture.crop((4, 3, 128, 96)).resize((128, 96))
        picture.save(folder / "images" / f"{name}.jpg", quality=60)
        shutil.copy(folder / "masks" / f"phantom_{index:04d}.png", folder / "masks" / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def items(dataset):
    return lesion_items(dataset)


@pytest.fixture(scope="module")
def cache(tmp_path_factory, items):
    folder = tmp_path_factory.mktemp("cache")
    assign_folds(items, cache_dir=folder)
    return folder
