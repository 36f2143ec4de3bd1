"""Masks with labels: several structures from one file are trained, scored and written, each and together."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import bundle_runs
import numpy as np
import pytest
from bundle_runs import rows, sentence_of
from lesion_runs import BUNDLE, TINY
from PIL import Image
from scipy.ndimage import binary_erosion

workflow = partial(bundle_runs.workflow, BUNDLE.name)
LABELS = {"lesion": [1, 2], "core": [2]}
ONE_EPOCH = TINY | {"max_epochs": 1}


@pytest.fixture(scope="module")
def nested(lesion_phantoms, tmp_path_factory) -> Path:
    """Lesions whose inner part has the label 2, and one with a 7 beside."""
    folder = tmp_path_factory.mktemp("labels")
    (folder / "masks").mkdir()
    (folder / "images").symlink_to(lesion_phantoms / "images")
    for number, path in enumerate(sorted((lesion_phantoms / "masks").glob("*.png"))):
        mask = np.asarray(Image.open(path)) > 128
        values = mask.astype(np.uint8) + binary_erosion(mask, iterations=3)
        values[0, :3] = 7 if number == 0 else values[0, :3]
        Image.fromarray(values).save(folder / "masks" / path.name)
    return folder


def test_structures_are_trained_scored_and_written_each_and_as_one_map(nested, tmp_path, capsys):
    data = {"dataset_dir": str(nested), "output_dir": str(tmp_path / "run")}
    workflow(["train.json"], **data, **ONE_EPOCH, labels=LABELS).run()
    found = "1 of 6 masks hold values that are no structure's and count as background (7): phantom_0000"
    assert found in capsys.readouterr().out
    (epoch,) = rows(tmp_path / "run" / "epochs.csv")
    of_each = [float(epoch[f"val_mean_dice_{name}"]) for name in LABELS]
    assert float(epoch["val_mean_dice"]) == pytest.approx(sum(of_each) / 2, abs=2e-6)
    workflow(["train.json", "evaluate.json"], **data, **ONE_EPOCH, flips=[], scales=[1], single_lesion=False).run()
    for row in rows(tmp_path / "run" / "evaluation" / "cases.csv"):
        truth = np.asarray(Image.open(row["label_path"]))
        for name, values in LABELS.items():
            file = tmp_path / "run" / "evaluation" / "probabilities" / name / f"{row['id']}.png"
            predicted, wanted = np.asarray(Image.open(file)) > 127, np.isin(truth, values)
            total = predicted.sum() + wanted.sum()
            dice = 2 * (predicted & wanted).sum() / total if total else 1
            assert float(row[f"dice_{name}"]) == pytest.approx(dice, abs=0.02)
        assert float(row["dice"]) == pytest.approx((float(row["dice_lesion"]) + float(row["dice_core"])) / 2, abs=2e-6)
    options = {name: value for name, value in TINY.items() if name.startswith("network_def#")}
    options |= {"ckpt_path": str(tmp_path / "run" / "final.pt"), "threshold": 0.1, "flips": [], "scales": [1]}
    data = {"dataset_dir": str(nested / "images"), "output_dir": str(tmp_path / "out")}
    workflow(["inference.json"], **data, **options, spatial_size=TINY["spatial_size"], single_lesion=False).run()
    for path in (tmp_path / "out" / "labels").iterdir():
        lesion, core = (np.asarray(Image.open(tmp_path / "out" / "masks" / name / path.name)) > 0 for name in LABELS)
        assert np.array_equal(np.asarray(Image.open(path)), np.where(core, 2, lesion))
    assert len(list((tmp_path / "out" / "labels").iterdir())) == len(list((nested / "images").glob("*.jpg")))
    assert json.loads((tmp_path / "run" / "run.json").read_text())["settings"]["labels"] == LABELS


def test_what_cannot_be_meant_is_refused_in_one_sentence(nested, tmp_path):
    def sentence(**options) -> str:
        data = {"dataset_dir": str(nested), "output_dir": str(tmp_path / "run")}
        return sentence_of(workflow(["train.json"], **data, **ONE_EPOCH, **options).run)

    assert "no mask has a pixel of scar" in sentence(labels=LABELS | {"scar": [5]})
    assert "neither 0/1 nor 0/255" in sentence()
