"""Low resolution, prediction and original side by side."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from PIL import Image

from monai_ext.handlers.pictures.rows import PictureRows
from monai_ext.handlers.pictures.triplets import TripletPictures, TripletRow, save_triplets


def test_a_row_is_the_repeated_low_resolution_the_prediction_and_the_original(monkeypatch):
    monkeypatch.setattr(PictureRows, "LEAST", 1)
    shown = []
    writer = SimpleNamespace(add_image=lambda tag, grid, step, dataformats: shown.append(grid))
    output = {"image": torch.zeros(2, 4, 2, 2), "pred": torch.full((2, 4, 4, 4), 0.5), "label": torch.ones(2, 4, 4, 4)}
    output["image"][:, 2, 0, 0] = 1
    engine = Engine(lambda engine, batch: output)
    TripletPictures(writer, count=1, bands=(2, 1, 0)).attach(engine)
    engine.run([0])
    low, prediction, label = (shown[0][:, i * 8 : i * 8 + 4] for i in range(3))
    assert low[:2, :2, 0].min() == 255 and low.sum() == 4 * 255  # band 2 is red; one pixel became four
    assert (prediction == 128).all() and (label == 255).all()


def test_a_figure_has_a_panel_for_each_picture_and_needs_a_row(tmp_path):
    pictures = {name: np.zeros((8, 8, 3), np.uint8) for name in ("low resolution", "prediction")}
    save_triplets([TripletRow("tile", pictures, {"prediction": "30 dB"})] * 2, tmp_path / "a.png")
    width, height = Image.open(tmp_path / "a.png").size
    assert (width, height) == (round(160 * 4.8), round(160 * 5.4))
    with pytest.raises(ValueError, match="no tile to show"):
        save_triplets([], tmp_path / "a.png")
