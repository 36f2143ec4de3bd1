"""The demo's page for skin lesions, from files of a run that are made up."""

from __future__ import annotations

import json

import numpy as np
from PIL import Image

from monai_ext.commands.demo.lesions import lesion_blocks
from monai_ext.commands.demo.page import DemoRun
from monai_ext.commands.html import Picture, Table, Text
from monai_ext.metrics import SEGMENTATION_SCORES
from monai_ext.storage.files import write_table


def test_the_page_has_scores_cases_from_worst_to_best_and_curves(tmp_path):
    training, pixels = tmp_path / "training", np.zeros((16, 16), np.uint8)
    pixels[4:12, 4:12] = 255
    (training / "evaluation" / "probabilities").mkdir(parents=True)
    cases = []
    for i, dice in enumerate((0.9, 0.5, 0.7)):
        Image.fromarray(pixels).save(training / "evaluation" / "probabilities" / f"c{i}.png")
        Image.fromarray(pixels).convert("RGB").save(tmp_path / f"c{i}.png")
        Image.fromarray(pixels).save(tmp_path / f"mask{i}.png")
        places = {"image_path": str(tmp_path / f"c{i}.png"), "label_path": str(tmp_path / f"mask{i}.png")}
        cases.append({"id": f"c{i}", **places, **dict.fromkeys(SEGMENTATION_SCORES, dice)})
    write_table(training / "evaluation" / "cases.csv", cases)
    write_table(training / "epochs.csv", [{"epoch": e, "train_loss": 1 / e, "val_mean_dice": 0.5} for e in (1, 2)])
    settings = {"training_images": 8, "validation_images": 3, "max_epochs": 2}
    (training / "run.json").write_text(json.dumps({"settings": settings}))
    blocks = lesion_blocks(DemoRun(tmp_path, tmp_path, {"training": "python"}, {"training": 1.0}))
    table = next(block for block in blocks if isinstance(block, Table))
    assert [row[0] for row in table.rows] == [name.replace("_", " ") for name in SEGMENTATION_SCORES]
    assert table.rows[0][1:] == ["70.0", "70.0", "54.0", "86.0"]
    assert "mean Dice of 70.0 %" in next(block for block in blocks if isinstance(block, Text)).lines[0]
    pictures = [block.path.name for block in blocks if isinstance(block, Picture)]
    assert pictures == ["cases.png", "curves.png"] and all((tmp_path / name).is_file() for name in pictures)
