"""The bundles for several raters run as users run them, on a few small phantoms."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_runs import BUNDLES, rows, run_bundle, sentence_of, workflow
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from monai_ext.data import DeviceLoader, write_rater_phantoms
from monai_ext.engines import ChosenSpread
from monai_ext.formulas.temperature import tempered
from monai_ext.handlers import ChosenTemperature
from monai_ext.inferers import middle_first
from monai_ext.storage.records import read_record

TINY = {"spatial_size": [32, 32], "batch_size": 4, "max_epochs": 2, "log_interval": 2, "folds": 3, "samples": 4}
NARROW = {
    "qubiq_holistic": {"features": 2},
    "prob_unet": {"backbone": "basic_unet", "features": 2, "zoom": 1.0},
}
PROBABILISTIC = {"features": [2, 2, 2, 2, 2], "latent": 3}
both = pytest.mark.parametrize("bundle", list(NARROW))


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    write_rater_phantoms(folder, count=12, size=(32, 36))
    return folder


@pytest.fixture
def copied(phantoms, tmp_path) -> Path:
    return Path(shutil.copytree(phantoms, tmp_path / "data"))


def run(bundle: str, files: list[str], data: Path, folder: Path, **options) -> None:
    settings = TINY | NARROW[bundle] | options
    run_bundle(bundle, files, dataset_dir=str(data), output_dir=str(folder), **settings)


@pytest.fixture(scope="module", params=list(NARROW))
def trained(request, phantoms, tmp_path_factory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    run(request.param, ["train.json"], phantoms, folder)
    run(request.param, ["train.json", "evaluate.json"], phantoms, folder)
    return request.param, folder


def test_training_leaves_weights_curves_and_a_record(trained):
    bundle, folder = trained
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "model.pt",
        "final.pt",
        "last.pt",
        "epochs.csv",
        "run.json",
        "run.log",
        "tensorboard",
        "evaluation",
    }
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "finished" and record["settings"]["training_cases"] == 8
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    scalars = set(events.Tags()["scalars"])
    curves = {f"validation/dice_rater{number:02d}" for number in range(1, 6)}
    wanted = {"qubiq_score", "generalized_energy_distance", "hungarian_iou"}
    assert curves | {f"validation/{name}" for name in wanted} | {"train/loss"} <= scalars
    assert len(events.Images(events.Tags()["images"][0])) == 2  # one picture an epoch
    if bundle == "qubiq_holistic":
        assert {f"validation/head{number:02d}_dice_gap" for number in range(1, 6)} <= scalars
    else:
        assert "validation/samples_alike" in scalars


def test_evaluation_writes_the_same_table_for_both_bundles_at_the_cases_own_size(trained, phantoms):
    bundle, folder = trained
    table = rows(folder / "evaluation" / "cases.csv")
    assert len(table) == 4
    wanted = ("id qubiq_score dice dice_rater01 dice_rater05 generalized_energy_distance hungarian_iou ece "
              "rater_agreement leave_one_out_dice sample_diversity uncertainty_ncc").split()  # fmt: skip
    assert set(wanted) <= set(table[0]) and "heads_by_raters" not in table[0]
    summary = json.loads((folder / "evaluation" / "summary.json").read_text())
    assert summary["cases"] == 4 and summary["samples"] == 4 and summary["raters"] == [1, 2, 3, 4, 5]
    assert summary["settings"]["method"] == {"qubiq_holistic": "heads", "prob_unet": "ordered"}[bundle]
    assert (summary["heads_by_raters"] is not None) == (bundle == "qubiq_holistic")
    case = folder / "evaluation" / "predictions" / table[0]["id"]
    kind = "seg" if bundle == "qubiq_holistic" else "sample"
    files = sorted(path.name for path in case.iterdir())
    assert files == ["task01.nii.gz", *(f"task01_{kind}{i:02d}.nii.gz" for i in range(1, 6 if kind == "seg" else 5))]
    assert nib.load(case / "task01.nii.gz").shape == (32, 36)
    if kind == "seg":  # the table can be recomputed from the files
        own = np.asarray(nib.load(case / "task01_seg02.nii.gz").dataobj) > 0
        truth = np.asarray(nib.load(phantoms / "Training" / table[0]["id"] / "task01_seg02.nii.gz").dataobj) > 0
        dice = 2 * (own & truth).sum() / (own.sum() + truth.sum())
        assert float(table[0]["dice_rater02"]) == pytest.approx(dice, abs=1e-6)


def test_a_temperature_is_chosen_on_the_validation_cases_and_applied_when_asked_for(trained, phantoms, tmp_path):
    bundle, folder = trained
    files = ["train.json", "evaluate.json"]
    run(bundle, [*files, "temperature.json"], phantoms, folder)
    chosen = read_record(folder / "temperature.json", ChosenTemperature)
    assert chosen.cases == chosen.groups == 4
    options = {"evaluation_dir": str(tmp_path), "temperature": str(folder / "temperature.json")}
    run(bundle, files, phantoms, folder, **options)
    for row in rows(tmp_path / "cases.csv"):
        place = Path("predictions", row["id"], "task01.nii.gz")
        before, after = (np.asarray(nib.load(top / place).dataobj) for top in (folder / "evaluation", tmp_path))
        expected = tempered(torch.tensor(before), chosen.temperature)  # but maps are resized afterwards
        assert np.allclose(after, expected, atol=0.01)
        assert not np.allclose(after, before, atol=0.01)


def test_the_spread_of_level_sets_is_chosen_by_an_overlay_that_both_bundles_have(trained, phantoms):
    bundle, folder = trained
    run(bundle, ["train.json", "evaluate.json", "spread.json"], phantoms, folder)
    chosen = read_record(folder / "spread.json", ChosenSpread, way_out="")
    scores = json.loads((folder / "evaluation" / "summary.json").read_text())["scores"]
    assert chosen.spread >= 0 and chosen.rater_diversity == pytest.approx(scores["rater_diversity"]["mean"], abs=1e-5)
    assert len({(BUNDLES / name / "configs/spread.json").read_text() for name in NARROW}) == 1


def test_a_network_that_takes_clicks_answers_to_them(phantoms, tmp_path):
    run("prob_unet", ["train.json"], phantoms, tmp_path, clicks=1, max_epochs=1)
    run("prob_unet", ["train.json", "evaluate.json"], phantoms, tmp_path, clicks=1, max_epochs=1)
    assert len(rows(tmp_path / "evaluation/cases.csv")) == 4
    image = np.random.default_rng(0).random((25, 30, 1), dtype=np.float32)
    (tmp_path / "scans").mkdir()
    nib.save(nib.Nifti1Image(image, np.eye(4)), tmp_path / "scans/scan.nii.gz")
    (tmp_path / "points.csv").write_text("id,row,column\nscan,5,6\n")
    options = {"spatial_size": [32, 32], "samples": 1, "ckpt_path": str(tmp_path / "final.pt"), "clicks": 1}
    options |= NARROW["prob_unet"] | {"dataset_dir": str(tmp_path / "scans")}
    maps = []
    for click in (None, [5, 6], str(tmp_path / "points.csv")):
        folder = tmp_path / f"out{len(maps)}"
        workflow("prob_unet", ["inference.json"], output_dir=str(folder), click=click, **options).run()
        maps.append(np.asarray(nib.load(folder / "scan/task01.nii.gz").dataobj))
    assert np.array_equal(maps[1], maps[2]) and not np.allclose(maps[0], maps[1])


@pytest.mark.parametrize(("name", "value"), [("folds", 4), ("fold", 1), ("zoom", 1.5), ("method", "soft_label")])
def test_an_evaluation_of_other_cases_or_settings_than_those_of_the_training_is_refused(trained, phantoms, name, value):
    bundle, folder = trained
    then = json.loads((folder / "run.json").read_text())["settings"][name]
    sentence = sentence_of(lambda: run(bundle, ["train.json", "evaluate.json"], phantoms, folder, **{name: value}))
    assert f"--{name} is {value}, but" in sentence and f"was trained with {then} " in sentence


def test_a_summary_has_the_settings_of_the_training_whatever_is_typed(trained, phantoms, tmp_path):
    bundle, folder = trained
    options = {"max_epochs": 99, "batch_size": 3, "evaluation_dir": str(tmp_path)}
    run(bundle, ["train.json", "evaluate.json"], phantoms, folder, **options)
    told, then = (json.loads(path.read_text())["settings"] for path in (tmp_path / "summary.json", folder / "run.json"))
    for name in ("max_epochs", "batch_size", "training_cases", "fold"):
        assert told[name] == then[name]


def test_inference_answers_for_photographs_and_nifti_at_their_own_size(trained, tmp_path):
    bundle, folder = trained
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.new("RGB", (40, 21), (200, 150, 130)).save(pictures / "colour.png")
    affine = np.diag([0.5, 0.7, 2.0, 1.0])
    scan = np.random.default_rng(0).random((25, 30, 1), dtype=np.float32)
    nib.save(nib.Nifti1Image(scan, affine), pictures / "scan.nii.gz")
    options = {"spatial_size": [32, 32], "samples": 3, "ckpt_path": str(folder / "model.pt")} | NARROW[bundle]
    workflow(bundle, ["inference.json"], dataset_dir=str(pictures), output_dir=str(tmp_path / "out"), **options).run()
    kind, count = ("seg", 5) if bundle == "qubiq_holistic" else ("sample", 3)
    masks = {f"task01_{kind}{i:02d}.nii.gz" for i in range(1, count + 1)}
    assert {path.name for path in (tmp_path / "out" / "scan").iterdir()} == masks | {"task01.nii.gz"}
    assert {path.name for path in (tmp_path / "out" / "colour").iterdir()} == masks | {"task01.nii.gz", "image.nii.gz"}
    written = nib.load(tmp_path / "out" / "scan" / "task01.nii.gz")
    assert written.shape == (25, 30, 1) and np.allclose(written.affine, affine)
    assert nib.load(tmp_path / "out" / "colour" / f"task01_{kind}01.nii.gz").shape == (21, 40)


class Stop(Exception):
    """What a run is stopped by."""


@both
def test_a_stopped_run_ends_after_resuming_with_the_weights_of_an_uninterrupted_one(
    bundle, phantoms, tmp_path, monkeypatch
):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run(bundle, ["train.json"], phantoms, whole, max_epochs=3)
    set_epoch = DeviceLoader.set_epoch

    def stop_before_the_third(loader: DeviceLoader, epoch: int) -> None:
        if epoch == 2:
            raise Stop
        set_epoch(loader, epoch)

    with monkeypatch.context() as patched, pytest.raises(Exception) as error:
        patched.setattr(DeviceLoader, "set_epoch", stop_before_the_third)
        run(bundle, ["train.json"], phantoms, broken, max_epochs=3)
    assert "Stop" in {type(link).__name__ for link in (error.value, error.value.__cause__, error.value.__context__)}
    assert (broken / "last.pt").exists() and not (broken / "final.pt").exists()
    run(bundle, ["train.json"], phantoms, broken, max_epochs=3, resume=True)
    expected, given = (torch.load(folder / "final.pt", weights_only=True) for folder in (whole, broken))
    assert all(torch.equal(value, given[name]) for name, value in expected.items())
    columns = ("epoch", "train_loss", "val_qubiq_score", "val_generalized_energy_distance")
    tables = [[[line[name] for name in columns] for line in rows(folder / "epochs.csv")] for folder in (whole, broken)]
    assert tables[0] == tables[1] and len(tables[0]) == 3


def test_the_papers_network_is_an_overlay(phantoms, tmp_path):
    files = ["train.json", "probabilistic_unet.json"]
    run("prob_unet", files, phantoms, tmp_path / "run", **PROBABILISTIC)
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert {"health/kl", "health/reconstruction", "health/beta", "validation/samples_alike"} <= set(
        events.Tags()["scalars"]
    )
    run("prob_unet", [*files, "evaluate.json"], phantoms, tmp_path / "run", **PROBABILISTIC)
    summary = json.loads((tmp_path / "run" / "evaluation" / "summary.json").read_text())
    assert summary["settings"]["method"] == "prob_unet_faithful" and summary["cases"] == 4
    options = {"dataset_dir": str(phantoms), "output_dir": str(tmp_path / "out"), "spatial_size": [32, 32]}
    options |= PROBABILISTIC | {"samples": 3, "ckpt_path": str(tmp_path / "run" / "final.pt")}
    workflow("prob_unet", ["inference.json", "probabilistic_unet_inference.json"], **options).run()
    written = {path.name for path in (tmp_path / "out" / "case01").iterdir()}
    assert written == {"task01.nii.gz", *(f"task01_sample{i:02d}.nii.gz" for i in range(1, 4))}


@pytest.fixture(scope="module")
def volumes(tmp_path_factory) -> Path:
    """Ten volumes, each of a depth of its own."""
    folder = tmp_path_factory.mktemp("volumes")
    for depth in (4, 7):
        write_rater_phantoms(folder / str(depth), count=5, size=(32, 34, depth))
        for case in (folder / str(depth) / "Training").iterdir():
            shutil.move(case, folder / "Training" / f"{case.name}-{depth}")
    return folder


VOLUMES = {
    "batch_size": 3,
    "max_epochs": 1,
    "folds": 3,
    "samples": 3,
    "crop_size": [32, 24, 6],
    "anisotropy": [1, 1, 2.5],
}


def test_volumes_are_an_overlay(volumes, tmp_path):
    place = {"dataset_dir": str(volumes), "output_dir": str(tmp_path / "run")}
    files = ["train.json", "volumes.json"]
    run_bundle("prob_unet", files, **place, **VOLUMES, **NARROW["prob_unet"])
    run_bundle("prob_unet", [*files, "evaluate.json"], **place, **VOLUMES, **NARROW["prob_unet"])
    (line, *_) = rows(tmp_path / "run" / "evaluation" / "cases.csv")
    assert 0 <= float(line["qubiq_score"]) <= 1 and 0 < float(line["rater_agreement"]) < 1
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    affine = np.diag([0.5, 0.7, 2.0, 1.0])
    scan = np.random.default_rng(0).random((25, 30, 9), dtype=np.float32)
    nib.save(nib.Nifti1Image(scan, affine), pictures / "scan.nii.gz")
    chosen = {"dataset_dir": str(pictures), "output_dir": str(tmp_path / "out"), "samples": 2}  # the rest is the run's
    workflow("prob_unet", ["inference.json"], ckpt_path=str(tmp_path / "run" / "final.pt"), **chosen).run()
    written = {path.name: nib.load(path) for path in (tmp_path / "out" / "scan").iterdir()}
    assert written.keys() == {"task01.nii.gz", "task01_sample01.nii.gz", "task01_sample02.nii.gz"}
    assert all(file.shape == scan.shape and np.allclose(file.affine, affine) for file in written.values())


@pytest.mark.parametrize(
    ("bundle", "files", "options"),
    [("qubiq_holistic", [], NARROW["qubiq_holistic"]), ("prob_unet", ["probabilistic_unet.json"], PROBABILISTIC)],
    ids=["heads", "latent"],
)
def test_other_methods_learn_from_volumes_too(bundle, files, options, volumes, tmp_path):
    files = ["train.json", *files, "volumes.json"]
    run_bundle(bundle, files, dataset_dir=str(volumes), output_dir=str(tmp_path), **VOLUMES, **options)
    (line,) = rows(tmp_path / "epochs.csv")
    assert float(line["train_loss"]) > 0 and 0 <= float(line["val_qubiq_score"]) <= 1


def test_the_spread_is_chosen_for_a_run_whose_latent_is_watched_and_may_be_typed(phantoms, tmp_path, monkeypatch):
    run("prob_unet", ["train.json"], phantoms, tmp_path, method="prob_unet", max_epochs=1)
    files = ["train.json", "evaluate.json", "spread.json"]
    run("prob_unet", files, phantoms, tmp_path, method="prob_unet", max_epochs=1)
    chosen = read_record(tmp_path / "spread.json", ChosenSpread, way_out="")
    assert 0 <= chosen.spread <= 16 and chosen.rater_diversity > 0
    monkeypatch.setattr(sys, "argv", ["monai.bundle", "run", "--spread", "3"])  # as typed
    run("prob_unet", files[:2], phantoms, tmp_path, method="prob_unet", max_epochs=1, spread=3)
    assert json.loads((tmp_path / "evaluation" / "summary.json").read_text())["settings"]["spread"] == 3
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert {"health/kl", "health/beta"} <= set(events.Tags()["scalars"])


def test_a_region_of_interest_is_predicted_at_its_place_and_all_cases_can_be_trained_on(copied, tmp_path, monkeypatch):
    for name in ("case01", "case02"):
        shutil.move(copied / "Training" / name, copied / "Validation" / name)
    options = {"zoom": 2.0, "fold": "all", "validation_part": "Validation"}
    run("prob_unet", ["train.json"], copied, tmp_path, **options)
    run("prob_unet", ["train.json", "evaluate.json"], copied, tmp_path, **options)
    assert json.loads((tmp_path / "run.json").read_text())["settings"]["training_cases"] == 10
    assert {line["id"] for line in rows(tmp_path / "evaluation" / "cases.csv")} == {"case01", "case02"}
    share = nib.load(tmp_path / "evaluation" / "predictions" / "case01" / "task01.nii.gz").get_fdata()
    assert share.shape == (32, 36) and share[8:24, 9:27].max() > 0
    share[8:24, 9:27] = 0
    assert not share.any()
    options = NARROW["prob_unet"] | {"zoom": 2.0, "spatial_size": [32, 32], "ckpt_path": str(tmp_path / "final.pt")}
    data = {"dataset_dir": str(copied), "part": "Validation", "output_dir": str(tmp_path / "out")}  # with masks
    workflow("prob_unet", ["inference.json"], **data, **options).run()
    whole = nib.load(tmp_path / "out" / "case01" / "task01.nii.gz").get_fdata()
    assert np.allclose(whole, nib.load(tmp_path / "evaluation/predictions/case01/task01.nii.gz").get_fdata(), atol=1e-3)
    monkeypatch.setattr(middle_first, "FOUND", 2.0)  # never in the middle
    workflow("prob_unet", ["inference.json"], **data, **options, search="true").run()
    run("prob_unet", ["train.json", "evaluate.json"], copied, tmp_path, search=True, figure_ids=["case01"], **options)
    for folder in (tmp_path / "out", tmp_path / "evaluation/predictions"):
        searched = nib.load(folder / "case01" / "task01.nii.gz").get_fdata()
        assert searched.shape == (32, 36) and searched[:8].max() > 0


def test_each_head_draws_like_its_own_rater(tmp_path):
    """The demo's claim, much smaller: three styles, 48 pixels, some seconds."""
    options = {
        "dataset_dir": str(tmp_path / "phantoms"), "output_dir": str(tmp_path / "run"), "phantom_count": 60,
        "phantoms#size": [48, 48], "spatial_size": [48, 48], "raters": [1, 2, 4], "features": 4, "max_epochs": 10,
        "val_interval": 10, "folds": 5, "learning_rate": 0.01, "batch_size": 4,
    }  # fmt: skip
    workflow("qubiq_holistic", ["train.json", "demo.json"], **options).run()
    workflow("qubiq_holistic", ["train.json", "demo.json", "evaluate.json"], **options).run()
    summary = json.loads((tmp_path / "run" / "evaluation" / "summary.json").read_text())
    table = np.array(summary["heads_by_raters"])
    assert table.argmax(axis=1).tolist() == [0, 1, 2]  # the best rater of each head
    assert table.argmax(axis=0).tolist() == [0, 1, 2]  # and the best head for each rater
    scores = summary["scores"]
    assert scores["dice"]["mean"] > scores["rater_agreement"]["mean"]  # closer than people are to one another
    assert scores["uncertainty_ncc"]["mean"] > 0.4


def test_anonymous_raters_train_a_consensus_or_a_probabilistic_unet_but_no_heads(phantoms, tmp_path):
    options = {"anonymous": "true", "max_epochs": 1}
    sentence = sentence_of(lambda: run("qubiq_holistic", ["train.json"], phantoms, tmp_path / "a", **options))
    assert "anonymous" in sentence and "another person" in sentence
    run("qubiq_holistic", ["train.json"], phantoms, tmp_path / "b", method="soft_label", **options)
    assert not [name for name in rows(tmp_path / "b" / "epochs.csv")[0] if "rater0" in name]
    run("prob_unet", ["train.json"], phantoms, tmp_path / "c", **options)
    assert float(rows(tmp_path / "c" / "epochs.csv")[0]["val_hungarian_iou"]) >= 0


def test_missing_raters_and_empty_masks_are_borne(copied, tmp_path):
    (copied / "Training" / "case03" / "task01_seg04.nii.gz").unlink()
    image = nib.load(copied / "Training" / "case05" / "task01_seg02.nii.gz")
    empty = nib.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine)
    nib.save(empty, copied / "Training" / "case05" / "task01_seg02.nii.gz")
    for bundle in NARROW:
        run(bundle, ["train.json"], copied, tmp_path / bundle)
        assert all(float(line["train_loss"]) > 0 for line in rows(tmp_path / bundle / "epochs.csv"))


def test_another_part_is_scored_by_the_raters_of_the_training_whoever_marked_it(trained, copied, tmp_path):
    bundle, folder = trained
    for name in ("case01", "case02"):  # rater 1 is missing, 3 draws nothing, 6 is new
        case = Path(shutil.copytree(copied / "Training" / name, copied / "Validation" / name))
        (case / "task01_seg01.nii.gz").unlink()
        shutil.copy(case / "task01_seg05.nii.gz", case / "task01_seg06.nii.gz")
        image = nib.load(case / "task01_seg03.nii.gz")
        nib.save(nib.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine), case / "task01_seg03.nii.gz")
    options = {"ckpt_path": str(folder / "final.pt"), "evaluation_part": "Validation"}
    run(bundle, ["train.json", "evaluate.json"], copied, tmp_path / "run", **options)
    evaluation = tmp_path / "run" / "evaluation"
    assert json.loads((evaluation / "summary.json").read_text())["raters"] == [1, 2, 3, 4, 5]
    for line in rows(evaluation / "cases.csv"):
        case, answers = copied / "Validation" / line["id"], evaluation / "predictions" / line["id"]
        assert line["dice_rater01"] == "" and "dice_rater06" not in line
        for number in (2, 3, 4, 5):
            own = f"task01_seg{number:02d}.nii.gz"
            answer = nib.load(answers / (own if bundle == "qubiq_holistic" else "task01.nii.gz")).get_fdata() > 0.5
            mask = nib.load(case / own).get_fdata() > 0
            expected = 2 * (answer & mask).sum() / total if (total := answer.sum() + mask.sum()) else 1
            assert float(line[f"dice_rater{number:02d}"]) == pytest.approx(expected, abs=1e-6), number


def test_a_folder_of_test_cases_alone_is_scored(trained, copied, tmp_path):
    bundle, folder = trained
    alone = tmp_path / "alone"
    for name in ("case01", "case02"):
        shutil.copytree(copied / "Training" / name, alone / "Testing" / name)
    options = {"ckpt_path": str(folder / "final.pt"), "evaluation_part": "Testing"}
    run(bundle, ["train.json", "evaluate.json"], alone, tmp_path / "run", **options)
    summary = json.loads((tmp_path / "run" / "evaluation" / "summary.json").read_text())
    assert summary["cases"] == 2 and summary["raters"] == [1, 2, 3, 4, 5]


def test_bad_data_end_the_run_with_a_sentence_that_names_the_file(copied, tmp_path):
    case = copied / "Training" / "case04"
    good = nib.load(case / "task01_seg02.nii.gz")

    def sentence(bundle: str = "qubiq_holistic", **options) -> str:
        return sentence_of(lambda: run(bundle, ["train.json"], copied, tmp_path / "run", **options))

    nib.save(nib.Nifti1Image(np.ones((32, 30), np.uint8), good.affine), case / "task01_seg02.nii.gz")
    assert all(part in sentence() for part in ("case04", "task01_seg02.nii.gz", "32 x 36", "32 x 30"))
    nib.save(nib.Nifti1Image(np.full((32, 36), 3, np.uint8), good.affine), case / "task01_seg02.nii.gz")
    assert "task01_seg02.nii.gz holds the value 3" in sentence("prob_unet")
    nib.save(good, case / "task01_seg02.nii.gz")
    (case / "image.nii.gz").unlink()
    assert "case04" in sentence() and "no image" in sentence("prob_unet")
    assert "in_channels" not in sentence()
    shutil.rmtree(case)
    assert "set in_channels=1" in sentence(in_channels=4)
    assert "rater 6" in sentence(raters=[1, 6])
    assert not (tmp_path / "run" / "last.pt").exists()


def test_weights_of_another_method_are_refused(trained, phantoms, tmp_path):
    bundle, folder = trained
    other = {"qubiq_holistic": {"method": "combined"}, "prob_unet": {"method": "soft_label"}}[bundle]
    options = {"ckpt_path": str(folder / "model.pt")} | NARROW[bundle] | other
    started = workflow(bundle, ["inference.json"], dataset_dir=str(phantoms), output_dir=str(tmp_path), **options)
    sentence = sentence_of(started.run)
    assert f"--method is {other['method']}" in sentence and "was trained with" in sentence
    shutil.copy(folder / "model.pt", tmp_path / "alone.pt")  # without a run.json its tensors are all that is known
    options["ckpt_path"] = str(tmp_path / "alone.pt")
    started = workflow(bundle, ["inference.json"], dataset_dir=str(phantoms), output_dir=str(tmp_path), **options)
    assert "holds another network" in sentence_of(started.run)


def test_the_reports_values_are_an_overlay(phantoms, tmp_path):
    options = {"dataset_dir": str(phantoms), "output_dir": str(tmp_path), "features": 2, "spatial_size": [32, 32]}
    started = workflow("qubiq_holistic", ["train.json", "report.json"], **options)
    parser = started.parser
    schedule = parser.get_parsed_content("lr_scheduler")
    assert isinstance(schedule.optimizer, torch.optim.NAdam) and schedule.get_last_lr() == [1e-5]
    assert started.max_epochs == 100 and parser["batch_size"] == 2
    network, loss = parser.get_parsed_content("network"), parser.get_parsed_content("loss")
    assert sum("group" in type(layer).__name__.lower() for layer in network.modules()) == 0  # as published
    masks = torch.zeros(1, 5, 10, 10)
    masks[:, :, :5] = 1
    logits = torch.full((1, 5, 10, 10), -50.0)
    logits[:, :, :4] = 50  # 40 TP, 10 FN
    assert loss(logits, masks).item() == pytest.approx(1 - 40 / (40 + 0.7 * 10), abs=1e-4)
