"""Pictures and files of predictions for several raters."""

from __future__ import annotations

from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image
from rater_cases import volume
from rater_outputs import engine
from torch import Tensor

from monai_ext.data import qubiq_items, write_rater_phantoms
from monai_ext.handlers.pictures.rows import PictureRows
from monai_ext.handlers.raters.pictures import (
    RATER_COLOURS,
    RaterPictures,
    RaterPredictionWriter,
    disagreement_by_slice,
    marked_slice,
)
from monai_ext.raster.nifti import open_nifti


def test_pictures_show_each_present_rater_in_a_colour_of_its_own(monkeypatch):
    monkeypatch.setattr(PictureRows, "LEAST", 1)
    masks = torch.zeros(1, 3, 24, 24, dtype=torch.uint8)
    masks[0, 0, 2:8, 2:8] = masks[0, 1, 12:20, 12:20] = masks[0, 2, 2:8, 14:20] = 1
    output = {
        "image": torch.linspace(0, 1, 24).expand(1, 1, 24, 24),
        "pred": {"heads": masks.float(), "samples": masks.float(), "probability": masks[:, :1].float() * 0.5},
        "label": {"masks": masks, "presence": torch.tensor([[True, True, False]])},
    }
    shown = []
    writer = SimpleNamespace(add_image=lambda tag, grid, step, dataformats: shown.append(grid))
    made = engine([output, output, output])
    RaterPictures(writer, count=2).attach(made)
    made.validate()
    assert shown[0].shape == (2 * 24 + 4, 5 * 24 + 4 * 4, 3)
    panels = [shown[0][:24, i * 28 : i * 28 + 24] for i in range(5)]

    def has(panel, colour) -> bool:
        return bool((panel == np.array(colour)).all(-1).any())

    assert [has(panels[1], colour) for colour in RATER_COLOURS[:3]] == [True, True, False]  # the third is missing
    assert [has(panels[2], colour) for colour in RATER_COLOURS[:3]] == [True, True, True]
    brightest = panels[4][4, 4]  # p = 1/2: the most uncertain there is
    assert (panels[4] == brightest).all(-1).sum() == 36 and (panels[3] == brightest).all(-1).sum() == 36 + 64


def answers_of(heads: Tensor) -> dict:
    return {"heads": heads, "samples": heads[:, :1], "probability": heads.mean(1, keepdim=True)}


def test_predictions_are_written_in_the_naming_of_the_challenge(tmp_path):
    write_rater_phantoms(tmp_path / "data", count=2, size=(32, 40))
    items = qubiq_items(tmp_path / "data")
    heads = torch.rand(2, 2, 32, 40)
    made = engine([{"pred": answers_of(heads)}], ids=[["case02", "case01"]])
    RaterPredictionWriter(tmp_path / "out", items, raters=[1, 4], samples="true", only=["case01"]).attach(made)
    made.validate()
    assert sorted(path.name for path in (tmp_path / "out").rglob("*.nii.gz")) == [
        "task01.nii.gz", "task01_sample01.nii.gz", "task01_seg01.nii.gz", "task01_seg04.nii.gz",
    ]  # fmt: skip
    written = nib.load(tmp_path / "out" / "case01" / "task01_seg04.nii.gz")
    assert np.array_equal(np.asarray(written.dataobj), (heads[1, 1] > 0.5).numpy())
    assert np.allclose(written.affine, nib.load(items[0]["image"]).affine, atol=1e-5)


def test_a_photographs_answers_lie_beside_its_grey_picture(tmp_path):
    Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4) * 20).save(tmp_path / "cell.png")
    item = {"id": "cell", "case": "cell", "image": str(tmp_path / "cell.png"), "task": 1}
    made = engine([{"pred": answers_of(torch.rand(1, 1, 3, 4))}], ids=[["cell"]])
    RaterPredictionWriter(tmp_path / "out", [item], raters=[1]).attach(made)
    made.validate()
    image = nib.load(tmp_path / "out" / "cell" / "image.nii.gz")
    assert np.asarray(image.dataobj).tolist() == (np.arange(12).reshape(3, 4) * 20).tolist()
    assert nib.load(tmp_path / "out" / "cell" / "task01.nii.gz").shape == (3, 4)


def test_predictions_of_a_dicom_series_have_its_geometry(tmp_path):
    pytest.importorskip("pydicom")
    from dicom_series import write_series

    series = write_series(tmp_path / "ct", np.zeros((4, 6, 5), np.int16))
    made = engine([{"pred": answers_of(torch.rand(1, 1, 4, 6, 5))}], ids=[["ct"]])
    item = {"id": "ct", "case": "ct", "image": str(series), "task": 1}
    RaterPredictionWriter(tmp_path / "out", [item], raters=[1]).attach(made)
    made.validate()
    written = nib.load(tmp_path / "out" / "ct" / "task01.nii.gz")
    assert written.shape == (4, 6, 5) and np.allclose(written.affine, open_nifti(series).affine, atol=1e-5)


def test_slices_become_one_volume_once_all_have_been_predicted(tmp_path):
    image = volume(tmp_path / "in")
    items = qubiq_items(tmp_path / "in", slices=True)
    share = torch.rand(3, 1, 4, 5)
    ids = [items[2]["id"]], [items[0]["id"], items[1]["id"]]
    outputs = [{"pred": {"probability": share[z], "samples": share[z] > 0.5}} for z in ([2], [0, 1])]
    RaterPredictionWriter(tmp_path / "out", items, samples=True).attach(evaluator := engine(outputs, ids=list(ids)))
    evaluator.run([0, 1])
    written = nib.load(tmp_path / "out" / "case1-1" / "task01.nii.gz")
    assert written.shape == image.shape and np.array_equal(written.affine, nib.load(items[0]["image"]).affine)
    np.testing.assert_allclose(written.get_fdata(), share[:, 0].permute(1, 2, 0), rtol=1e-6)
    sample = nib.load(tmp_path / "out" / "case1-1" / "task01_sample01.nii.gz").get_fdata()
    assert np.array_equal(sample, share[:, 0].permute(1, 2, 0) > 0.5)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["case1-1"]


def test_a_part_of_the_slices_stays_in_folders_of_their_own(tmp_path):
    volume(tmp_path / "in")
    items = qubiq_items(tmp_path / "in", slices=True)
    outputs = [{"pred": {"probability": torch.rand(1, 1, 4, 5)}}]
    handler = RaterPredictionWriter(tmp_path / "out", items, only=[items[1]["id"]])
    handler.attach(evaluator := engine(outputs, ids=[[items[1]["id"]]]))
    evaluator.run([0])
    assert [path.name for path in (tmp_path / "out").iterdir()] == [items[1]["id"]]


def test_of_a_volume_the_most_marked_slice_is_shown_and_the_disagreement_of_all():
    masks = torch.zeros(2, 3, 4, 5)
    masks[:, 1, 2, 3] = 1  # both raters
    masks[0, 0, 1, 3] = masks[0, 2, 0, 1] = 1  # one of them
    assert marked_slice(masks) == 3 and marked_slice(torch.zeros(1, 2, 2, 7)) == 3
    expected = torch.zeros(5, 4)
    expected[3, 1] = expected[1, 0] = 0.25
    assert torch.equal(disagreement_by_slice(masks, torch.ones(2)).float(), expected)
    outputs = [{"image": torch.rand(1, 1, 3, 4, 5), "pred": {"probability": masks[None, :1], "samples": masks[None]}}]
    outputs[0]["label"] = {"masks": masks[None], "presence": torch.ones(1, 2)}
    written = []
    writer = SimpleNamespace(add_image=lambda tag, picture, *args, **kwargs: written.append(picture))
    RaterPictures(writer).attach(evaluator := engine(outputs))
    evaluator.run([0])
    assert written[0].shape[1] >= 6 * 4  # six columns
