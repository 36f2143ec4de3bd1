"""Predictions found in the layouts of the challenge."""

from __future__ import annotations

from itertools import product

import msgspec
import numpy as np
import pytest
import torch
from scored_folders import FEW, A, scored, write, write_case, write_masks

from monai_ext.commands.scoring.score import ScoreOptions, score
from monai_ext.data import RaterWriter, qubiq_items
from monai_ext.data.isic import DatasetLayoutError
from monai_ext.data.raters.predictions import rater_predictions, rater_truth


def test_what_the_writer_writes_is_found_for_channels_volumes_and_slices(tmp_path):
    generator = np.random.default_rng(0)
    masks = {number: generator.integers(0, 2, (4, 5, 3)) for number in (1, 2)}
    flat = tmp_path / "truth" / "tumor" / "Validation" / "case01"
    write(flat / "image.nii.gz", generator.random((4, 5, 3)))  # three channels
    write_masks(flat, {number: mask[..., 0] for number, mask in masks.items()})
    item = qubiq_items(tmp_path / "truth" / "tumor", part="Validation")[0]
    writer = RaterWriter(tmp_path / "predicted" / "tumor")
    writer.write_masks(item, torch.tensor(np.stack([mask[..., 0] for mask in masks.values()])))
    means, _, content = scored(tmp_path / "predicted", tmp_path / "truth", region="tumor")
    assert means["dice_heads"] == 1 and content["tasks"][0]["other_affine"] == []

    volume = tmp_path / "volumes" / "case1-1"
    write_case(volume, masks)
    pieces, whole = RaterWriter(tmp_path / "pieces"), tmp_path / "whole" / "case1-1"
    probability = generator.random((4, 5, 3)).astype(np.float32)
    for item in qubiq_items(tmp_path / "volumes", slices=True):
        pieces.write_probability(item, torch.tensor(probability[..., item["slice"]]))
    write(whole / "task01.nii.gz", probability)
    assert scored(tmp_path / "pieces", tmp_path / "volumes")[0] == scored(tmp_path / "whole", tmp_path / "volumes")[0]

    write(tmp_path / "pieces" / "case1-1_z003" / "task01.nii.gz", probability[..., 0])
    with pytest.raises(DatasetLayoutError, match="case1-1_z... has a slice 3, but the masks of the case have 3"):
        scored(tmp_path / "pieces", tmp_path / "volumes")
    (tmp_path / "pieces" / "case1-1_z003" / "task01.nii.gz").unlink()
    write(tmp_path / "pieces" / "case1-1" / "task01.nii.gz", probability)
    with pytest.raises(DatasetLayoutError, match="task 1 in .*case1-1 and in .*case1-1_z...: remove one of them"):
        scored(tmp_path / "pieces", tmp_path / "volumes")
    (tmp_path / "pieces" / "case1-1" / "task01.nii.gz").unlink()
    (tmp_path / "pieces" / "case1-1_z001" / "task01.nii.gz").unlink()
    with pytest.raises(DatasetLayoutError, match="slice 1 of case1-1 has no task01.nii.gz"):
        scored(tmp_path / "pieces", tmp_path / "volumes")


def test_predictions_may_lie_under_region_and_part(tmp_path):
    write_case(tmp_path / "truth" / "kidney" / "Testing" / "case01", {1: A})
    items = rater_truth(tmp_path / "truth", region="kidney")[1]
    for place in ("one/kidney/testing", "two/kidney", "three/Testing", "four"):
        write_masks(tmp_path / place / "case01", {1: A})
        root = tmp_path / place.split("/")[0]
        found = rater_predictions(root, items, region="kidney", part="Testing")
        assert found.folder == tmp_path / place and list(found.files) == ["case01"]


def test_the_part_is_the_one_there_is_or_the_one_the_folder_is_named_after(tmp_path):
    write_case(tmp_path / "Validation" / "case01", {1: A})
    assert [item["case"] for item in rater_truth(tmp_path)[1]] == ["case01"]
    write_case(tmp_path / "Training" / "case02", {1: A, 2: A})
    assert [item["case"] for item in rater_truth(tmp_path / "Validation")[1]] == ["case01"]
    assert [item["case"] for item in rater_truth(tmp_path, part="Training")[1]] == ["case02"]
    with pytest.raises(ValueError, match="holds the parts training, validation: choose one by part="):
        rater_truth(tmp_path)


def test_slices_may_be_named_with_the_task_or_without(tmp_path):
    masks = np.random.default_rng(0).integers(0, 2, (4, 5, 2))
    for task in (1, 2):
        write_case(tmp_path / "truth" / "case01", {1: masks}, task=task)
        for stem, index in product(("case01", f"case01_task{task:02d}"), range(2)):
            place = tmp_path / ("short" if stem == "case01" else "long") / f"{stem}_z{index:03d}"
            write_masks(place, {1: masks[..., [index]]}, task=task)
    for name in ("short", "long"):
        content = msgspec.to_builtins(score(ScoreOptions(tmp_path / name, tmp_path / "truth", resamples=FEW)))
        assert [task["scores"]["dice_heads"]["mean"] for task in content["tasks"]] == [1, 1]
        assert not any(task["unknown_predictions"] for task in content["tasks"])
