"""Segmentations as pictures and files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from training_engines import engine, item

from monai_ext.handlers import (
    PredictionWriter,
    SegmentationPictures,
)
from monai_ext.handlers.pictures.rows import PictureRows


def test_predictions_are_written_at_their_own_size_with_the_threshold_asked_for(tmp_path):
    probability = torch.linspace(0, 1, 24).view(1, 4, 6)
    evaluator = engine([{"pred": probability}], [item("case 1")], length=1)
    PredictionWriter(tmp_path, threshold=0.25).attach(evaluator)
    evaluator.run_engine()
    mask = np.asarray(Image.open(tmp_path / "masks" / "case 1.png"))
    stored = np.asarray(Image.open(tmp_path / "probabilities" / "case 1.png"))
    np.testing.assert_array_equal(mask, (probability[0].numpy() > 0.25) * 255)
    np.testing.assert_allclose(stored / 255, probability[0], atol=0.5 / 255)


def test_predictions_of_an_earlier_run_among_the_new_ones_are_counted(tmp_path, caplog):
    def predict(*names: str) -> str:
        caplog.clear()
        evaluator = engine([{"pred": torch.zeros(1, 4, 6)}] * len(names), [item(name) for name in names], length=1)
        PredictionWriter(tmp_path).attach(evaluator)
        evaluator.run_engine()
        return caplog.text

    assert "earlier run" not in predict("a", "b", "c")
    assert "earlier run" not in predict("a", "b", "c")
    assert f"'{tmp_path}' also holds 4 files of an earlier run, such as masks/a.png: remove them" in predict("c")


def test_only_the_ids_asked_for_are_written(tmp_path):
    outputs = [{"pred": torch.zeros(1, 4, 6)}] * 2
    evaluator = engine(outputs, [item("a"), item("b")], length=1)
    PredictionWriter(tmp_path, masks=False, only=["b"]).attach(evaluator)
    evaluator.run_engine()
    assert [path.name for path in tmp_path.rglob("*.png")] == ["b.png"]


def test_truth_values_of_the_command_line_are_checked(tmp_path):
    assert PredictionWriter(tmp_path, overlays="false").overlays is False
    with pytest.raises(ValueError, match="overlays='perhaps': choose true or false"):
        PredictionWriter(tmp_path, overlays="perhaps")


def test_pictures_in_tensorboard_are_rows_of_four(tmp_path, monkeypatch):
    monkeypatch.setattr(PictureRows, "LEAST", 1)

    class Writer:
        pictures: list = []

        def add_image(self, tag, picture, step, dataformats):
            self.pictures.append((picture.shape, step, dataformats))

    output = {
        "image": torch.zeros(3, 3, 16, 24),
        "label": torch.zeros(3, 1, 16, 24),
        "pred": torch.zeros(3, 1, 16, 24),
    }
    evaluator = engine(output, length=1)
    writer = Writer()
    SegmentationPictures(writer, count=2, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2)).attach(evaluator)
    evaluator.run_engine()
    assert writer.pictures == [((2 * 16 + 4, 4 * 24 + 3 * 4, 3), 1, "HWC")]
