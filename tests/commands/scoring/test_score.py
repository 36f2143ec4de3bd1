"""Folders of predictions whose scores are known by hand, what the raters score, and what the command says."""

from __future__ import annotations

import csv
import json
import struct
import weakref
from itertools import product

import msgspec
import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from monai_ext.__main__ import main
from monai_ext.commands.html import Heading, Picture, Table, Text
from monai_ext.commands.scoring import score as module
from monai_ext.commands.scoring.case_scores import MAP_SCORES, SET_SCORES, map_scores, rater_case_scores
from monai_ext.commands.scoring.rater_ceiling import others_with_each, rater_ceiling
from monai_ext.commands.scoring.score import MissingPredictionError, ScoreOptions, score
from monai_ext.commands.scoring.summaries import group_labels
from monai_ext.commands.scoring.tables import text_page
from monai_ext.data import RaterWriter, qubiq_items
from monai_ext.data.isic import DatasetLayoutError
from monai_ext.data.raters.cases import RaterCase
from monai_ext.data.raters.predictions import rater_predictions, rater_truth
from monai_ext.metrics import area_under_risk_coverage, dice_per_rater, generalized_energy_distance, set_scores
from monai_ext.raster.images import ImageFileError

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


@pytest.fixture
def folders(tmp_path):
    """Truth of one case by raters A and B, and where its predictions go: (truth, predictions, the case's)."""
    write_case(tmp_path / "truth" / "Training" / "case01", {1: A, 2: B})
    return tmp_path / "truth", tmp_path / "predicted", tmp_path / "predicted" / "case01"


def scored(predictions, truth, **options):
    """(means by name, human means by name, content) of the first task."""
    content = msgspec.to_builtins(score(ScoreOptions(predictions, truth, **({"resamples": FEW} | options))))
    table = content["tasks"][0]["scores"]
    human = {name: values["raters"]["mean"] for name, values in table.items() if values["raters"] is not None}
    return {name: values["mean"] for name, values in table.items()}, human, content


def rows_of(predictions):
    with (predictions / "scores" / "cases.csv").open(newline="") as file:
        return list(csv.DictReader(file))


# --- known numbers -------------------------------------------------------------------------------------------------


def test_perfect_heads_have_perfect_scores_and_the_human_ceiling_is_that_of_two_raters(folders):
    truth, predictions, case = folders
    write_masks(case, {1: A, 2: B})
    means, human, content = scored(predictions, truth)
    for name in ("qubiq_score", "dice_soft", "dice_heads", "jaccard_heads", "dice_rater01", "hungarian_iou",
                 "dice_match", "dice_max", "dice_consensus", "uncertainty_ncc"):  # fmt: skip
        assert means[name] == pytest.approx(1), name
    assert means["generalized_energy_distance"] == pytest.approx(0, abs=1e-12)
    assert means["brier_consensus"] == means["ece_consensus"] == 0
    assert means["sample_diversity"] == human["sample_diversity"] == pytest.approx(0.25)
    for name in ("qubiq_score", "dice_each_rater", "dice_consensus", "dice_match", "dice_heads", "dice_rater02"):
        assert human[name] == pytest.approx(2 / 3), name
    assert human["hungarian_iou"] == human["jaccard_rater01"] == pytest.approx(1 / 2)
    assert human["generalized_energy_distance"] == pytest.approx(1 / 2 * (1 / 2 + 1 / 2))
    assert human["brier"] == human["ece"] == pytest.approx(1 / 4)  # one pixel of four is wrong
    assert human["uncertainty_ncc"] is None
    task = content["tasks"][0]
    assert task["rater_agreement"]["mean"] == pytest.approx(2 / 3)
    assert task["dice_of_heads_and_raters"] == [[1, pytest.approx(2 / 3)], [pytest.approx(2 / 3), 1]]


@pytest.mark.parametrize("name", ["task01.nii.gz", "task1.nii", "TASK01.png"])
def test_a_probability_map_has_the_scores_computed_by_hand(folders, name):
    truth, predictions, case = folders
    values = np.array(B, dtype=np.float32)
    write(case / name, (255 * values).astype(np.uint8) if name.endswith("png") else values)
    means, _, content = scored(predictions, truth)
    assert means["qubiq_score"] == pytest.approx(22 / 27)  # five levels at Dice 2/3, four at 1
    assert means["dice_consensus"] == pytest.approx(2 / 3)  # the majority of two is A
    assert means["dice_each_rater"] == pytest.approx((2 / 3 + 1) / 2)
    assert means["jaccard_each_rater"] == pytest.approx((1 / 2 + 1) / 2)
    assert means["brier"] == means["ece"] == pytest.approx(1 / 8)
    assert means["brier_consensus"] == pytest.approx(1 / 16)
    assert means["confidence"] == 1
    assert set(means) == set(MAP_SCORES)
    assert content["tasks"][0]["set"] is None


def test_a_strict_map_of_one_half_is_no_mask(folders):
    truth, predictions, case = folders
    write(case / "task01.nii.gz", np.full((1, 4), 0.5))
    assert scored(predictions, truth)[0]["dice_consensus"] == pytest.approx(2 / 3)  # four pixels, the majority two
    assert scored(predictions, truth, strict=True)[0]["dice_consensus"] == 0


def test_samples_have_the_scores_computed_by_hand_and_their_number_can_be_limited(folders):
    truth, predictions, case = folders
    write_masks(case, {1: A, 2: [[0, 0, 0, 1]]}, kind="sample")
    means, human, content = scored(predictions, truth)
    # d(S, Y) = 0, 1/2, 1, 1, within samples (V) 1/2, within raters 1/4
    assert means["generalized_energy_distance"] == pytest.approx(2 * 5 / 8 - 1 / 2 - 1 / 4)
    assert means["hungarian_iou"] == means["dice_match"] == means["sample_diversity"] == pytest.approx(1 / 2)
    assert means["dice_max"] == pytest.approx((1 + 2 / 3) / 2)
    assert content["tasks"][0]["map"] == "mean of 2 samples" and "dice_heads" not in means
    first, human, content = scored(predictions, truth, samples=1)
    assert first["generalized_energy_distance"] == pytest.approx(2 * 1 / 4 - 1 / 4)
    assert human["generalized_energy_distance"] == pytest.approx(1 / 2 * (1 + 1 / 2))
    assert content["tasks"][0]["predicted"]["samples"] == [1]
    unbiased, human, _ = scored(predictions, truth, estimator="U")
    assert unbiased["generalized_energy_distance"] == pytest.approx(2 * 5 / 8 - 1 - 1 / 2)
    assert human["generalized_energy_distance"] == 0 and human["sample_diversity"] == pytest.approx(1 / 2)


def test_empty_masks_score_one_where_everybody_agrees_that_there_is_nothing(tmp_path):
    truth, predictions = tmp_path / "truth", tmp_path / "predicted"
    for name, ours in (("case01", NOBODY), ("case02", A)):
        write_case(truth / name, {1: NOBODY, 2: NOBODY})
        write_masks(predictions / name, {1: ours, 2: ours})
    _, human, content = scored(predictions, truth)
    empty, wrong = rows_of(predictions)
    for name in ("qubiq_score", "dice_consensus", "dice_each_rater", "dice_rater01", "hungarian_iou", "confidence"):
        assert float(empty[name]) == 1, name
        assert float(wrong[name]) == (name == "confidence"), name
    assert float(empty["generalized_energy_distance"]) == float(empty["ece"]) == 0
    assert float(wrong["generalized_energy_distance"]) == 2  # the worst there is
    assert human["qubiq_score"] == human["dice_each_rater"] == 1
    assert content["tasks"][0]["scores"]["uncertainty_ncc"]["mean"] is None  # nobody disagrees


def test_a_single_rater_leaves_no_human_ceiling(tmp_path, capsys):
    write_case(tmp_path / "truth" / "case01", {4: A})
    write(tmp_path / "predicted" / "case01" / "task01.nii.gz", np.array(B, dtype=float))
    assert main(["score", "--predictions", f"{tmp_path}/predicted", "--targets", f"{tmp_path}/truth"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("QUBIQ score"))
    assert line.split() == ["QUBIQ", "score", "higher", "0.6667", "0.6667", "to", "0.6667", "-", "-", "1"]
    row = rows_of(tmp_path / "predicted")[0]
    assert row["raters_qubiq_score"] == row["rater_agreement"] == "" and row["raters"] == "1"


def test_an_rater_missing_from_a_case_enters_nothing_there(tmp_path):
    truth, predictions = tmp_path / "truth", tmp_path / "predicted"
    write_case(truth / "case01", {1: A, 2: B})
    write_case(truth / "case02", {1: A})
    for name in ("case01", "case02"):
        write_masks(predictions / name, {1: A, 2: NOBODY})
    means, _, content = scored(predictions, truth)
    first, second = rows_of(predictions)
    assert (first["raters"], second["raters"]) == ("2", "1")
    assert float(second["dice_heads"]) == 1 and second["dice_rater02"] == second["raters_dice_rater01"] == ""
    assert float(first["dice_heads"]) == pytest.approx(1 / 2) and means["dice_rater02"] == 0
    assert content["tasks"][0]["scores"]["dice_rater02"]["cases"] == 1
    assert content["tasks"][0]["dice_of_heads_and_raters"][1] == [0, 0]


def test_every_task_has_its_scores_and_all_tasks_the_mean_of_cases(tmp_path):
    truth, predictions = tmp_path / "truth", tmp_path / "predicted"
    for task, mask in ((1, A), (3, B)):
        write_case(truth / "case01", {1: mask}, task=task)
        write_masks(predictions / "case01", {1: A}, task=task)
    content = msgspec.to_builtins(score(ScoreOptions(predictions, truth, resamples=FEW)))
    dice = [task["scores"]["dice_consensus"]["mean"] for task in content["tasks"]]
    assert [task["task"] for task in content["tasks"]] == [1, 3] and dice == pytest.approx([1, 2 / 3])
    together = content["all_tasks"]["scores"]["dice_consensus"]
    assert together["mean"] == together["low"] == pytest.approx(5 / 6) and together["cases"] == 1
    alone = msgspec.to_builtins(score(ScoreOptions(predictions, truth, resamples=FEW, tasks=(3,))))
    assert [task["task"] for task in alone["tasks"]] == [3] and alone["all_tasks"] is None


def test_a_grey_value_of_51_reaches_the_share_of_one_in_five(tmp_path):
    case = tmp_path / "truth" / "case01"
    write_case(case, {r: B if r == 1 else NOBODY for r in range(1, 6)})
    write(tmp_path / "predicted" / "case01" / "task01.png", 51 * np.array(B, dtype=np.uint8))
    assert scored(tmp_path / "predicted", tmp_path / "truth")[0]["qubiq_score"] == 1


def test_png_of_one_and_sixteen_bits_are_read_by_their_white(folders):
    truth, predictions, case = folders
    write(case / "task01.png", np.array([[65535, 32768, 0, 0]], dtype=np.uint16))
    write(case / "task01_seg01.png", np.array(A, dtype=bool))
    write(case / "task01_seg02.png", np.array(B, dtype=np.uint16) * 65535)
    means, _, _ = scored(predictions, truth)
    assert means["dice_heads"] == 1 and means["brier_consensus"] < 1e-9 and means["qubiq_score"] == 1


# --- the human ceiling ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("raters", "strict", "bins"), [(2, False, 15), (4, True, 7), (5, False, 1), (3, True, 2)])
def test_the_ceiling_is_that_of_leaving_raters_out_one_by_one(raters, strict, bins):
    generator = torch.Generator().manual_seed(raters)
    masks = (torch.rand(raters + 1, 6, 7, generator=generator) < 0.4).byte()
    masks[0] = 0  # an empty mask
    presence = torch.arange(raters + 1) != 1
    found = rater_ceiling(masks, presence, set_size=3, strict=strict, bins=bins)
    maps, sets, pairs = [], [], []
    for r in presence.nonzero()[:, 0].tolist():
        others = presence & (torch.arange(raters + 1) != r)
        maps.append(map_scores(masks[None, [r]], masks[None], presence=others[None], strict=strict, bins=bins))
        sets.append(set_scores(masks[None, others], masks[None, [r]]))
        pairs.append(dice_per_rater(masks[None, [r]], masks[None], presence=others[None]).nanmean())
    expected = {name: torch.stack([one[name] for one in maps]).mean().item() for name in maps[0]}
    expected |= {name: torch.stack([one[name] for one in sets]).mean().item() for name in SET_SCORES}
    for name in {*MAP_SCORES, "hungarian_iou", "dice_match", "dice_max"} - {"uncertainty_ncc", "confidence"}:
        assert found[name] == pytest.approx(expected[name], abs=1e-6), name
    assert found["rater_agreement"] == pytest.approx(torch.stack(pairs).mean().item())
    each = others_with_each(masks, presence)["dice"]
    assert each.isnan().tolist() == (~presence).tolist() and each.nanmean().item() == pytest.approx(
        found["rater_agreement"]
    )


@pytest.mark.parametrize("estimator", ["V", "U"])
def test_the_ceiling_of_the_energy_distance_is_its_mean_over_sets_drawn_by_the_same_raters(estimator):
    people = (torch.rand(3, 1, 12, generator=torch.Generator().manual_seed(1)) < 0.5).byte()
    raters = [people[list(draw)] for draw in product(range(3), repeat=2)]
    samples = torch.stack([people[list(draw)] for draw in product(range(3), repeat=3)])
    distances = [
        generalized_energy_distance(samples, masks.expand(len(samples), -1, -1, -1), estimator=estimator).mean()
        for masks in raters
    ]
    options = {"set_size": 3, "estimator": estimator}
    ceilings = [rater_ceiling(m, torch.ones(2, dtype=torch.bool), **options) for m in raters]
    expected = np.mean([ceiling["generalized_energy_distance"] for ceiling in ceilings])
    assert torch.stack(distances).mean().item() == pytest.approx(expected, abs=1e-12)


def test_a_map_given_as_masks_scores_as_their_mean():
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(2, 3, 5, 4, generator=generator) < 0.5
    samples = torch.rand(2, 4, 5, 4, generator=generator) < 0.5
    by_votes, by_mean = map_scores(samples, masks), map_scores(samples.double().mean(1), masks)
    for name in MAP_SCORES:
        torch.testing.assert_close(by_votes[name].double(), by_mean[name].double(), rtol=1e-6, atol=1e-7, msg=name)


def test_a_case_without_raters_has_no_score_with_them():
    masks = torch.zeros(2, 3, 2, 2, dtype=torch.uint8)
    scores = map_scores(torch.rand(2, 2, 2), masks, presence=torch.tensor([[True] * 3, [False] * 3]))
    assert {name for name, values in scores.items() if not values[1].isnan()} == {"confidence"}
    assert not scores["dice_consensus"][0].isnan() and not scores["jaccard_consensus"][0].isnan()


def with_slope(path, values, slope):
    """A NIfTI of integers times a scale factor."""
    nib.save(nib.Nifti1Image(np.rint(values / slope).astype(np.int16), np.eye(4)), path)
    content = bytearray(path.read_bytes())
    content[112:120] = struct.pack("<ff", slope, 0)
    path.write_bytes(content)


def scaled_by_nibabel(path, values):
    image = nib.Nifti1Image(values, np.eye(4))
    image.set_data_dtype(np.uint8)
    nib.save(image, path)


STORAGES = {
    "float32": lambda path, values: nib.save(nib.Nifti1Image(values.astype(np.float32), np.eye(4)), path),
    "float64": lambda path, values: nib.save(nib.Nifti1Image(values, np.eye(4)), path),
    "float64 of float32": lambda path, v: nib.save(nib.Nifti1Image(v.astype("f4").astype("f8"), np.eye(4)), path),
    "tenths": lambda path, values: with_slope(path, values, 0.1),
    "hundredths": lambda path, values: with_slope(path, values, 0.01),
    "thousandths": lambda path, values: with_slope(path, values, 0.001),
    "uint8": scaled_by_nibabel,
    "png8": lambda path, values: Image.fromarray(np.rint(255 * values).astype(np.uint8)).save(path),
    "png16": lambda path, values: Image.fromarray(np.rint(65535 * values).astype(np.uint16)).save(path),
}


def qubiq_of_stored_shares(folder, save, *, raters, png=False):
    """Scores of a map of the exact shares of raters, whose votes are 0 ... `raters`."""
    votes = np.arange(4 * (raters + 1)).reshape(4, -1) % (raters + 1)
    write_case(folder / "truth" / "case01", {1 + k: (votes > k).astype(np.uint8) for k in range(raters)})
    (folder / "predicted" / "case01").mkdir(parents=True)
    save(folder / "predicted" / "case01" / f"task01.{'png' if png else 'nii'}", votes / raters)
    return scored(folder / "predicted", folder / "truth")[0]


@pytest.mark.parametrize("storage", STORAGES)
def test_exact_shares_reach_the_levels_that_the_raters_reach_however_they_are_stored(tmp_path, storage):
    means = qubiq_of_stored_shares(tmp_path, STORAGES[storage], raters=10, png="png" in storage)
    assert means["qubiq_score"] == means["dice_soft"] == means["dice_consensus"] == 1
    assert means["brier_consensus"] < 1e-12


def test_shares_of_votes_are_no_tenths_stored_coarsely(tmp_path):
    means = qubiq_of_stored_shares(tmp_path, lambda path, values: with_slope(path, values, 1 / 7), raters=7)
    assert means["qubiq_score"] == means["dice_soft"] == 1
    assert means["brier_consensus"] < 1e-12


def test_heads_are_paired_by_number_whatever_their_order():
    masks = torch.tensor([A, B], dtype=torch.uint8)
    case = RaterCase(masks, torch.tensor([True, True]), None, masks[[1, 0]], None, None)
    found = rater_case_scores(case, raters=[7, 3], heads=[3, 7], set_size=2)
    assert found.scores["dice_rater03"] == found.scores["dice_rater07"] == 1
    assert found.heads == pytest.approx(np.array([[2 / 3, 1], [1, 2 / 3]]))


# --- layouts -------------------------------------------------------------------------------------------------------


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


def test_anonymous_raters_have_no_scores_of_their_own(folders):
    truth, predictions, case = folders
    write_masks(case, {1: B, 2: A})
    means, human, content = scored(predictions, truth, anonymous=True)
    assert means["generalized_energy_distance"] == pytest.approx(0, abs=1e-12)
    assert not [name for name in (*means, *human) if "_rater0" in name or "heads" in name]
    assert content["tasks"][0]["dice_of_heads_and_raters"] is None


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


# --- what is missing or odd ----------------------------------------------------------------------------------------


@pytest.fixture
def three(tmp_path):
    """Three cases by A and B; case01 predicted perfectly, case02 in part, case03 not at all."""
    truth, predictions = tmp_path / "truth", tmp_path / "predicted"
    for name in ("case01", "case02", "case03"):
        write_case(truth / name, {1: A, 2: B})
    write_masks(predictions / "case01", {1: A, 2: B})
    write_masks(predictions / "case02", {1: A})
    write_masks(predictions / "case99", {1: A, 2: B})
    return truth, predictions


def test_missing_predictions_stop_with_every_reason(three):
    with pytest.raises(MissingPredictionError) as stop:
        scored(three[1], three[0])
    assert "2 of 3 cases have no complete prediction of task 1" in str(stop.value)
    assert "case02 has no task01_seg02.nii.gz, which other predictions have; no folder" in str(stop.value)
    assert not (three[1] / "scores").exists()


def test_missing_predictions_left_out_are_counted_and_named(three):
    means, human, content = scored(three[1], three[0], missing="skip")
    task = content["tasks"][0]
    assert means["qubiq_score"] == 1 and human["qubiq_score"] == pytest.approx(2 / 3)
    assert (task["cases"], task["scored"], list(task["missing"])) == (3, 1, ["case02", "case03"])
    assert task["unknown_predictions"] == ["case99"]
    rows = rows_of(three[1])
    assert [row["status"] for row in rows] == ["scored", "missing", "missing"]
    assert rows[2]["qubiq_score"] == rows[2]["raters_qubiq_score"] == "" and rows[2]["raters"] == "2"
    page = (three[1] / "scores" / "scores.md").read_text()
    assert "1 of 3 cases scored" in page and "Without complete prediction, left out (2): case02, case03." in page
    assert "Predicted but not among the targets, passed over (1): case99." in page


def test_missing_predictions_counted_as_zero_have_the_worst_scores_on_both_sides(three):
    means, human, _ = scored(three[1], three[0], missing="zero")
    for name in ("qubiq_score", "dice_heads", "dice_rater02", "hungarian_iou"):
        assert means[name] == pytest.approx(1 / 3), name
    assert means["generalized_energy_distance"] == pytest.approx(4 / 3)
    assert means["brier_consensus"] == means["ece_consensus"] == pytest.approx(2 / 3)
    assert means["uncertainty_ncc"] == pytest.approx(-1 / 3)
    assert human["qubiq_score"] == pytest.approx(2 / 3)
    assert (
        "Without complete prediction, given the worst scores (2): case02, case03."
        in (three[1] / "scores" / "scores.md").read_text()
    )


def test_a_missing_prediction_owes_nothing_to_an_rater_who_is_missing_too(three):
    (three[0] / "case03" / "task01_seg02.nii.gz").unlink()
    means, _, content = scored(three[1], three[0], missing="zero")
    assert rows_of(three[1])[2]["dice_rater02"] == "" and rows_of(three[1])[2]["dice_rater01"] == "0.0"
    assert means["dice_rater02"] == pytest.approx(1 / 2)


def test_predictions_of_other_cases_are_no_predictions(three):
    for name in ("case01", "case02"):
        (three[1] / name).rename(three[1] / name.replace("case0", "case"))
    with pytest.raises(DatasetLayoutError, match="none of the 3 cases .* has predictions for case1, case2, case99"):
        scored(three[1], three[0], missing="skip")


def test_irregularities_that_change_no_score_are_told(folders):
    truth, predictions, case = folders
    write_case(truth / "Training" / "case02", {1: A}, task=2)  # nobody marked task 1 there
    write(case / "task01_seg01.nii.gz", A, affine=np.diag([2, 1, 1, 1]))
    write_masks(case, {5: A})
    _, _, content = scored(predictions, truth, tasks=(1,))
    page = (predictions / "scores" / "scores.md").read_text()
    assert "Marked by nobody, left out (1): case02" in page
    assert "Of another affine than the target, compared voxel by voxel all the same (1): " in page
    assert "No mask is predicted for raters 2." in page
    assert "Masks are predicted for raters 5, who are not among the targets" in page
    assert content["tasks"][0]["scores"].keys() >= {"dice_rater01"} and "dice_rater05" not in str(content)


@pytest.mark.parametrize(
    ("name", "values", "sentence"),
    [
        ("task01.nii.gz", np.zeros((4, 1)), "task01.nii.gz has 4 x 1 pixels, .* as if the first two axes were swapped"),
        (
            "task01.nii.gz",
            np.zeros((2, 4)),
            "has 2 x 4 pixels, but the rater's mask .*task01_seg01.nii.gz has 1 x 4",
        ),
        ("task01.nii.gz", np.array([[0, 0, np.nan, 1]]), "holds the value nan: expected probabilities"),
        ("task01.nii.gz", np.array([[0, 0, 3.5, 1]]), "holds the value 3.5: .*apply the sigmoid first"),
        ("task01.png", np.array(A, dtype=np.uint8), "grey values 0 and 1 alone: a probability of 1 is white"),
        ("task01.png", np.zeros((1, 4, 3), dtype=np.uint8), "has the colour mode RGB: save one grey channel"),
        ("task01_seg01.nii.gz", np.array([[0, 0.3, 1, 1]]), "holds the value 0.3: a mask has 0 and 1"),
        ("task01_seg01.nii.gz", np.array([[0, 1, 2, 2]]), "holds the value 1: a mask"),
        ("task01_sample1.png", np.array([[0, 9, 255, 0]], dtype=np.uint8), "holds the value 9: a mask"),
        ("task01_sample1.nii", np.array([[0, np.nan, 1, 1]]), "holds the value nan: a mask"),
        ("task_1.nii.gz", np.zeros((1, 4)), "task_1.nii.gz has the name of no prediction"),
    ],
)
def test_a_file_that_cannot_be_right_is_named(folders, name, values, sentence):
    truth, predictions, case = folders
    write(case / name, values)
    write_masks(case, {2: B})
    with pytest.raises((ImageFileError, DatasetLayoutError), match=sentence) as stop:
        scored(predictions, truth)
    assert name in str(stop.value)


@pytest.mark.parametrize("name", ["task01.nii.gz", "task01.nii", "task01_seg01.png"])
def test_a_damaged_file_is_named(folders, name):
    truth, predictions, case = folders
    case.mkdir(parents=True)
    (case / name).write_bytes(b"no picture")
    with pytest.raises(ImageFileError, match=f"cannot read .*{name}"):
        scored(predictions, truth)


def test_raters_of_different_sizes_are_named(folders):
    truth, predictions, case = folders
    write(truth / "Training" / "case01" / "task01_seg02.nii.gz", np.zeros((2, 4)))
    write_masks(case, {1: A})
    with pytest.raises(
        ImageFileError, match="task01_seg02.nii.gz has 2 x 4 pixels, but .*task01_seg01.nii.gz has 1 x 4"
    ):
        scored(predictions, truth)


def test_folders_and_options_that_do_not_fit_are_named(folders):
    truth, predictions, case = folders
    with pytest.raises(DatasetLayoutError, match="are no folder"):
        scored(predictions, truth)
    case.mkdir(parents=True)
    with pytest.raises(DatasetLayoutError, match="case01 has no prediction of task 1"):
        scored(predictions, truth)
    write_masks(case, {1: A}, kind="sample")
    with pytest.raises(ValueError, match="samples is 16, but there are 1 for task 1"):
        scored(predictions, truth, samples=16)
    with pytest.raises(ValueError, match=r"group is 'patient\\\\d', which is not found in the name of case case01"):
        scored(predictions, truth, group=r"patient\d")
    with pytest.raises(ValueError, match="group is '\\(', which is no regular expression"):
        ScoreOptions(predictions, truth, group="(")
    with pytest.raises(DatasetLayoutError, match="nobody marked task 4"):
        scored(predictions, truth, tasks=(4,))
    with pytest.raises(DatasetLayoutError, match="raters 9 marked nothing in .*, only 1, 2 did"):
        scored(predictions, truth, raters=(9,))
    write(case / "task1_sample1.png", np.array(A, dtype=np.uint8))
    with pytest.raises(DatasetLayoutError, match="two files for one prediction: task01_sample01.nii.gz and task1_sam"):
        scored(predictions, truth)
    with pytest.raises(ValueError, match="is the data set itself: give an output_dir"):
        scored(truth, truth)
    with pytest.raises(DatasetLayoutError, match="no predictions in .*: expected is <case>/task01.nii.gz"):
        rater_predictions(truth.parent, rater_truth(truth)[1])


# --- means, intervals, the command ---------------------------------------------------------------------------------


@pytest.fixture
def many(tmp_path):
    """Six cases of three patients with probability maps of different worth."""
    generator = np.random.default_rng(3)
    for index in range(6):
        name = f"patient{index // 2}-{index % 2}"
        masks = generator.integers(0, 2, (3, 4, 5))
        write_case(tmp_path / "truth" / name, dict(enumerate(masks, 1)))
        blurred = np.clip(masks.mean(0) + generator.normal(0, 0.1 * index, (4, 5)), 0, 1)
        write(tmp_path / "predicted" / name / "task01.nii.gz", blurred)
    return tmp_path / "truth", tmp_path / "predicted"


def test_means_and_risk_curve_are_those_of_the_table_of_cases(many):
    _, _, content = scored(many[1], many[0])
    rows, task = rows_of(many[1]), content["tasks"][0]
    for name in ("qubiq_score", "brier", "raters_ece"):
        own = task["scores"][name.removeprefix("raters_")]
        own = own["raters"] if name.startswith("raters_") else own
        values = np.array([float(row[name]) for row in rows])
        assert own["mean"] == pytest.approx(values.mean()) and own["sd"] == pytest.approx(values.std(ddof=1))
        assert values.min() < own["low"] < own["mean"] < own["high"] < values.max() and own["cases"] == 6
    confidence, dice = (torch.tensor([float(row[name]) for row in rows]) for name in ("confidence", "dice_consensus"))
    assert task["aurc"] == pytest.approx(area_under_risk_coverage(confidence, 1 - dice).item(), abs=1e-6)


def test_intervals_draw_groups_where_they_are_named(many):
    interval = scored(many[1], many[0], group="patient")[2]["tasks"][0]["scores"]["qubiq_score"]
    assert interval["low"] == interval["mean"] == interval["high"]  # one group of all
    assert group_labels(["patient0-1", "patient12-0"], r"patient\d+") == ["patient0", "patient12"]
    assert group_labels(["patient0-1"], r"patient(\d+)-") == ["0"]


def test_the_command_prints_tables_and_writes_what_it_prints(many, tmp_path, capsys):
    typed = ["score", "--predictions", str(many[1]), "--targets", str(many[0]), "--resamples", str(FEW)]
    assert main([*typed, "--output_dir", str(tmp_path / "one")]) == 0
    printed = capsys.readouterr()
    assert f"scores: {tmp_path / 'one'}" in printed.err
    content = json.loads((tmp_path / "one" / "scores.json").read_text())
    own = content["tasks"][0]["scores"]["qubiq_score"]
    line = next(line for line in printed.out.splitlines() if line.startswith("QUBIQ score"))
    interval = [f"{own['low']:.4f}", "to", f"{own['high']:.4f}"]
    assert line.split()[3:7] == [f"{own['mean']:.4f}", *interval] and f"{own['raters']['mean']:.4f}" in line
    assert f"| QUBIQ score | higher | {own['mean']:.4f} |" in (tmp_path / "one" / "scores.md").read_text()
    assert content["settings"]["estimator"] == "V" and content["versions"]["monai_ext"]
    assert "Of fewer than 20 cases, intervals are too narrow." in printed.out
    assert main([*typed, "--output_dir", str(tmp_path / "two"), "--jobs", "2"]) == 0
    for name in ("cases.csv", "scores.md"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_the_options_of_the_command_reach_the_scores(many, capsys):
    typed = ["score", "--predictions", str(many[1]), "--targets", str(many[0]), "--resamples", "9", "--tasks", "1"]
    typed += ["--raters", "1", "3", "--strict", "--bins", "4", "--seed", "5", "--missing", "skip", "--group", "patient"]
    assert main([*typed, "--anonymous", "--estimator", "U"]) == 0
    settings = json.loads((many[1] / "scores" / "scores.json").read_text())["settings"]
    expected = {"resamples": 9, "tasks": [1], "raters": [1, 3], "strict": True, "bins": 4, "seed": 5, "missing": "skip"}
    expected |= {"group": "patient", "anonymous": True, "estimator": "U", "region": None, "part": None, "samples": None}
    assert settings == expected
    assert "anonymous raters 1, 3." in capsys.readouterr().out


def test_the_help_shows_examples(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["score", "--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0 and "examples:" in text and "--missing {error,zero,skip}" in text


def test_an_error_among_several_threads_is_raised(many):
    write(many[1] / "patient1-0" / "task01.nii.gz", np.full((4, 5), 7.0))
    with pytest.raises(ImageFileError, match="patient1-0"):
        scored(many[1], many[0], jobs=2)
    with pytest.raises(ValueError, match="jobs is 0"):
        scored(many[1], many[0], jobs=0)


def test_no_more_than_one_case_is_in_memory(many, monkeypatch):
    read, alive, most = module.read_rater_case, [], []

    def watched(*arguments):
        most.append(sum(reference() is not None for reference in alive))
        case = read(*arguments)
        alive.append(weakref.ref(case.masks))
        return case

    monkeypatch.setattr(module, "read_rater_case", watched)
    scored(many[1], many[0])
    assert len(most) == 6 and max(most) == 0


def test_tables_for_the_terminal_are_aligned():
    blocks = [
        Heading("Two"),
        Text("one line", "another"),
        Table("Sizes", ("Name", "x"), [("long name", "1"), ("b", "10")]),
    ]
    expected = "Two\n---\n\none line\nanother\n\nSizes\n\nName        x\nlong name   1\nb          10\n"
    assert text_page(blocks) == expected
    with pytest.raises(ValueError, match="a Picture has no form as text"):
        text_page([Picture(None, "")])
