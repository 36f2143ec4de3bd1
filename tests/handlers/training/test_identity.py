"""A run is scored on what it held out, resumed as what it is, and refused where it is taken for another one."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import bundle_runs
import pytest
import torch
from bundle_runs import rows, sentence_of
from ignite.engine import Engine
from lesion_runs import BUNDLE, TINY, train

from monai_ext.handlers import RunIdentity, check_evaluation, disagreement
from monai_ext.phantoms.lesions import write_lesion_phantoms
from monai_ext.storage.fingerprint import file_sha256

workflow = partial(bundle_runs.workflow, BUNDLE.name)
FOLD = {"fold": 1}


@pytest.fixture(scope="module")
def trained(lesion_phantoms, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("identity") / "run"
    train(folder, lesion_phantoms, **FOLD)
    return folder


def typed(monkeypatch: pytest.MonkeyPatch, **options: object) -> None:
    """Let the process seem to be a `monai.bundle run` in which only these options were typed."""
    words = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    configs = [str(BUNDLE / "configs" / name) for name in ("train.json", "evaluate.json")]
    monkeypatch.setattr(sys, "argv", ["/lib/monai/bundle/__main__.py", "run", "--config_file", str(configs), *words])


def evaluate(run: Path, data: Path, *, overlays: Sequence[str] = (), **options: object) -> list[str]:
    """Ids that evaluate.json scores, with the options alone beside what names run and data."""
    files = ["train.json", *overlays, "evaluate.json"]
    nested = {name: TINY[name] for name in TINY if "#" in name}
    quick = {"flips": [], "scales": [1], "output_dir": str(run), "dataset_dir": str(data), **nested}
    workflow(files, **(quick | options)).run()
    return [row["id"] for row in rows(run / "evaluation" / "cases.csv")]


def record_of(run: Path) -> dict:
    return json.loads((run / "run.json").read_text())


def test_run_json_has_the_cases_of_each_part_the_bundle_and_its_components(trained):
    record = record_of(trained)
    training, validation = record["cases"]["training"], record["cases"]["validation"]
    assert len(training) == 12 and len(validation) == 6 and not training.keys() & validation.keys()
    assert all(len(digest) == 16 for digest in (training | validation).values())
    assert record["bundle"] == "Skin-lesion U-Net with a MobileNetV2 encoder"
    assert record["components"]["network_def::width"] == 0.25
    assert record["components"]["train::augmentation::parts::1::rotate"] == 180
    assert not any(name.startswith(("validate", "train::handlers", "run")) for name in record["components"])


def test_evaluation_scores_the_validation_part_of_the_training_if_no_fold_is_typed(
    trained, lesion_phantoms, monkeypatch
):
    typed(monkeypatch, output_dir=trained)
    assert set(evaluate(trained, lesion_phantoms)) == record_of(trained)["cases"]["validation"].keys()


@pytest.mark.parametrize(
    ("name", "value", "was"),
    [
        ("fold", 0, 1), ("folds", 5, 3), ("split_seed", 3, 0), ("loss_name", "bce", "dice_bce"),
        ("spatial_size", [48, 64], "[32, 64]"),
    ],
)  # fmt: skip
def test_a_typed_setting_that_is_not_that_of_the_training_is_refused_with_both_values(
    trained, lesion_phantoms, monkeypatch, name, value, was
):
    typed(monkeypatch, output_dir=trained, **{name: value})
    sentence = sentence_of(lambda: evaluate(trained, lesion_phantoms, **{name: value}))
    assert f"--{name} is {value}" in sentence and f"was trained with {was}" in sentence
    assert f"leave --{name} out" in sentence


def test_an_evaluation_records_its_cases_where_they_come_from_and_its_weights(trained, lesion_phantoms, monkeypatch):
    typed(monkeypatch, output_dir=trained)
    evaluate(trained, lesion_phantoms)
    found = json.loads((trained / "evaluation" / "evaluation.json").read_text())
    assert found["cases"] == record_of(trained)["cases"]["validation"]
    assert found["origin"] == "the validation part of the training"
    assert found["weights"] == {str(trained / "final.pt"): file_sha256(trained / "final.pt")[:16]}
    check_evaluation(trained, found["cases"], {"loss_name": "dice_bce", "fold": 1})


def test_what_an_evaluation_may_choose_is_not_refused(trained, lesion_phantoms, monkeypatch):
    typed(monkeypatch, output_dir=trained, batch_size=2, precision="fp32")
    assert len(evaluate(trained, lesion_phantoms, batch_size=2, precision="fp32")) == 6


def test_a_demo_is_resumed_and_scored_in_another_folder_without_drawing_its_phantoms_again(tmp_path, monkeypatch):
    run, demo = tmp_path / "run", ("train.json", "demo.json")
    train(run, tmp_path / "first", demo, phantom_count=12)
    moved = (tmp_path / "first").rename(tmp_path / "moved")
    train(run, moved, demo, phantom_count=12, phantoms=None, resume=True, max_epochs=3)
    assert record_of(run)["epoch"] == 3
    typed(monkeypatch, output_dir=run, phantoms="null")
    ids = evaluate(run, moved, overlays=["demo.json"], phantoms=None)
    assert set(ids) == record_of(run)["cases"]["validation"].keys()


@pytest.fixture
def grown(lesion_phantoms, tmp_path) -> Path:
    """The data set of the training with 9 further images."""
    data = Path(shutil.copytree(lesion_phantoms, tmp_path / "grown"))
    write_lesion_phantoms(tmp_path / "more", count=9, size=(48, 64), seed=5)
    for kind in ("images", "masks"):
        for file in (tmp_path / "more" / kind).iterdir():
            shutil.copy(file, data / kind / f"new_{file.name}")
    return data


def test_images_added_since_the_training_do_not_let_training_images_into_the_validation(trained, grown, monkeypatch):
    typed(monkeypatch, output_dir=trained)
    assert set(evaluate(trained, grown)) == record_of(trained)["cases"]["validation"].keys()


def test_another_data_set_is_scored_whole_and_one_with_training_images_refused(trained, grown, tmp_path, monkeypatch):
    typed(monkeypatch, output_dir=trained)
    assert len(evaluate(trained, tmp_path / "more")) == 9
    seen, held_out = (next(iter(record_of(trained)["cases"][part])) for part in ("training", "validation"))
    for kind in ("images", "masks"):
        for file in (grown / kind).iterdir():
            if file.name.startswith(held_out):
                file.unlink()
            if file.stem.startswith(seen):  # the same image by another name
                file.rename(file.with_name(file.name.replace(seen, "renamed")))
    sentence = sentence_of(lambda: evaluate(trained, grown))
    assert "1 of the 6 cases of the validation part" in sentence and "12 of the 26 here" in sentence


def test_a_run_without_a_record_of_its_cases_is_scored_with_a_line_that_it_cannot_be_checked(
    trained, lesion_phantoms, tmp_path, capsys, monkeypatch
):
    run = Path(shutil.copytree(trained, tmp_path / "old"))
    newer = ("bundle", "components", "cases", "weight_files", "checksum")
    record = {k: v for k, v in record_of(run).items() if k not in newer}
    (run / "run.json").write_text(json.dumps(record))
    typed(monkeypatch, output_dir=run)
    assert len(evaluate(run, lesion_phantoms)) == 6
    assert (
        "run.json does not record it): whether those to be scored are held out cannot be checked"
        in capsys.readouterr().out
    )
    (run / "run.json").unlink()
    typed(monkeypatch, output_dir=run, **TINY)
    assert len(evaluate(run, lesion_phantoms, **TINY)) == 6
    assert "no run.json lies beside them" in capsys.readouterr().out


@pytest.mark.parametrize(("options", "message"), [
    ({"fold": 2}, "--fold is 2, but the run in '{run}' has 1"),
    ({"loss_name": "bce"}, "--loss_name is bce, but the run in '{run}' has dice_bce"),
    ({"learning_rate": 0.1}, "--learning_rate is 0.1, but the run in '{run}' has 0.001"),
    ({"batch_size": 2}, "--batch_size is 2, but the run in '{run}' has 4"),
    ({"train#augmentation#parts#1#rotate": 10}, "train::augmentation::parts::1::rotate is 10, but the run in '{run}'"),
    ({"max_epochs": 1}, "has 2 epochs, more than max_epochs 1"),
])  # fmt: skip
def test_a_run_is_not_resumed_as_another_one(trained, lesion_phantoms, options, message):
    before = {path.name: path.read_bytes() for path in trained.glob("*.*") if path.name != "run.log"}
    sentence = sentence_of(lambda: train(trained, lesion_phantoms, resume=True, **(FOLD | options)))
    assert message.format(run=trained) in sentence
    assert before == {path.name: path.read_bytes() for path in trained.glob("*.*") if path.name != "run.log"}


def test_a_run_is_not_resumed_on_other_data(trained, grown):
    sentence = sentence_of(lambda: train(trained, grown, resume=True, **FOLD))
    assert f"part of the run in '{trained}' has" in sentence and "new (" in sentence
    assert f"--init_weights {trained / 'final.pt'}" in sentence


def test_a_finished_run_stays_as_it_is_when_nothing_is_left_to_train(trained, lesion_phantoms, tmp_path):
    moved = Path(shutil.copytree(lesion_phantoms, tmp_path / "moved"))
    before = {path.name: path.read_bytes() for path in trained.glob("*.*") if path.name != "run.log"}
    train(trained, moved, resume="true", val_interval=5, log_interval=7, **FOLD)
    assert before == {path.name: path.read_bytes() for path in trained.glob("*.*") if path.name != "run.log"}


def test_a_finished_run_goes_on_for_more_epochs_along_the_schedule_of_a_run_of_that_length(
    trained, lesion_phantoms, tmp_path
):
    longer, whole = Path(shutil.copytree(trained, tmp_path / "longer")), tmp_path / "whole"
    train(longer, lesion_phantoms, resume=True, max_epochs=4, val_interval=2, **FOLD)
    train(whole, lesion_phantoms, max_epochs=4, **FOLD)
    rates = [[row["learning_rate"] for row in rows(run / "epochs.csv")] for run in (trained, longer, whole)]
    assert rates[1][:2] == rates[0] and rates[1][2:] == rates[2][2:] and len(rates[1]) == 4
    record = record_of(longer)
    assert (record["status"], record["epoch"], record["settings"]["max_epochs"]) == ("finished", 4, 4)


def test_finished_weights_go_on_with_more_data_and_cases_that_they_know_are_not_scored(
    trained, grown, tmp_path, monkeypatch, capsys
):
    weights, run = trained / "final.pt", tmp_path / "more_data"
    train(run, grown, init_weights=str(weights), max_epochs=1, learning_rate=1e-9, ema_decay=0.0, **FOLD)
    first, then = (torch.load(folder / "final.pt", weights_only=True) for folder in (trained, run))
    assert all(torch.allclose(then[name], value, atol=1e-6) for name, value in first.items() if "weight" in name)
    begun, record = record_of(trained), record_of(run)
    assert record["init_weights"]["file"] == str(weights)
    assert record["init_weights"]["training"] == begun["cases"]["training"]
    assert sum(map(len, record["cases"].values())) == 27
    known = record["cases"]["validation"].keys() & begun["cases"]["training"].keys()
    assert known and f"was trained on {len(known)} of the {len(record['cases']['validation'])} validation cases" in (
        capsys.readouterr().out
    )
    typed(monkeypatch, output_dir=run)
    assert set(evaluate(run, grown)) == record["cases"]["validation"].keys() - known


def test_weights_that_are_equal_are_equal_files(trained, lesion_phantoms, tmp_path):
    train(tmp_path / "again", lesion_phantoms, **FOLD)
    for name in ("model.pt", "final.pt"):
        assert (trained / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    assert torch.load(trained / "final.pt", weights_only=True)


@pytest.mark.parametrize(
    ("epoch", "now", "fits"), [(2, 3, True), (3, 3, True), (4, 3, False), (5, 9, True), (6, 9, False)]
)
def test_stage_one_may_change_its_length_until_it_is_done(tmp_path, epoch, now, fits):
    (tmp_path / "run.json").write_text(json.dumps({"settings": {"pretrain_epochs": 5, "adversarial_epochs": 1}}))
    identity = RunIdentity({"pretrain_epochs": now, "adversarial_epochs": 7})
    trainer = Engine(lambda engine, data: None)
    if fits:
        identity.check(trainer, tmp_path, epoch=epoch)
    else:
        with pytest.raises(ValueError, match=f"--pretrain_epochs is {now}, but the run in .* has 5"):
            identity.check(trainer, tmp_path, epoch=epoch)


def test_of_weights_read_by_a_run_the_content_counts(tmp_path):
    files = [tmp_path / name for name in ("a.pt", "copy.pt", "other.pt")]
    for file, content in zip(files, ("1", "1", "2"), strict=True):
        file.write_text(content)
    first, copy, other = (
        RunIdentity({"encoder_weights": str(file)}).describe(Engine(lambda engine, data: None)) for file in files
    )
    assert disagreement(first, copy) is None
    name, old, new = disagreement(first, other)
    assert name == "--encoder_weights" and old != new and old.startswith("a file of SHA-256 ")
