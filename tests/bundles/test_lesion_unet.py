"""The lesion bundle run as users run it, on a few small phantoms."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import bundle_runs
import numpy as np
import pytest
import torch
from bundle_runs import rows, score_in_one_process, sentence_of, train_in_two_processes
from ignite.engine import Events
from lesion_runs import BUNDLE, TINY, train
from monai.bundle import ConfigParser
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from monai_ext.formulas.temperature import tempered
from monai_ext.handlers import ChosenTemperature
from monai_ext.metrics import BOUNDARY_SCORES, SEGMENTATION_SCORES
from monai_ext.storage.records import read_record
from monai_ext.transforms import AdaptiveThresholdd, KeepCentralComponentd, RestoreSized, Temperedd

workflow = partial(bundle_runs.workflow, BUNDLE.name)


@pytest.fixture(scope="module")
def phantoms(lesion_phantoms) -> Path:
    return lesion_phantoms


@pytest.fixture(scope="module")
def trained(phantoms, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train(folder, phantoms)
    return folder


def test_training_leaves_weights_state_table_record_and_curves(trained):
    names = {path.name for path in trained.iterdir()}
    assert names == {"model.pt", "final.pt", "last.pt", "epochs.csv", "run.json", "run.log", "tensorboard"}
    table = rows(trained / "epochs.csv")
    assert [row["epoch"] for row in table] == ["1", "2"]
    assert {"train_loss", "learning_rate", "val_mean_dice", "val_mean_jaccard"} <= set(table[0])
    record = json.loads((trained / "run.json").read_text())
    assert record["status"] == "finished" and record["settings"]["loss_name"] == "dice_bce"
    assert record["settings"]["training_images"] == 12 and record["settings"]["validation_images"] == 6


def test_tensorboard_has_losses_learning_rate_metrics_pictures_and_settings(trained):
    events = EventAccumulator(str(trained / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    tags = events.Tags()
    wanted = {"train/loss", "train/learning_rate", "validation/mean_dice", "validation/mean_jaccard", "validation/loss"}
    assert wanted <= set(tags["scalars"])
    steps = {point.step for tag in ("train/loss", "validation/loss") for point in events.Scalars(tag)}
    assert max(steps) == max(point.step for point in events.Images(tags["images"][0]))  # one kind of steps
    assert len(events.Images(tags["images"][0])) == 2  # one picture an epoch
    assert {"_hparams_/experiment", "_hparams_/session_start_info"} <= set(events.summary_metadata)


def test_evaluation_scores_every_validation_case_at_its_own_size(trained, phantoms):
    run = workflow(
        ["train.json", "evaluate.json"], dataset_dir=str(phantoms), output_dir=str(trained), flips=[[3]], **TINY
    )
    run.run()
    table = rows(trained / "evaluation" / "cases.csv")
    assert len(table) == 6
    assert {"id", "image_path", "label_path", "group", *SEGMENTATION_SCORES, *BOUNDARY_SCORES} == set(table[0])
    for row in table:
        probability = np.asarray(Image.open(trained / "evaluation" / "probabilities" / f"{row['id']}.png"))
        truth = np.asarray(Image.open(row["label_path"])) > 128
        assert probability.shape == truth.shape == (48, 64)
        predicted = probability > 127
        dice = 2 * (predicted & truth).sum() / max((predicted.sum() + truth.sum()), 1)
        # the map is rounded to 8 bits, so pixels at the threshold may fall on either side
        assert float(row["dice"]) == pytest.approx(dice, abs=0.05)


def test_a_temperature_is_chosen_on_the_validation_images_and_applied_when_asked_for(trained, phantoms, tmp_path):
    files, options = ["train.json", "evaluate.json"], {"dataset_dir": str(phantoms), "output_dir": str(trained)} | TINY
    options |= {"flips": [], "scales": [1], "single_lesion": False}
    workflow([*files, "temperature.json"], **options).run()
    chosen = read_record(trained / "temperature.json", ChosenTemperature)
    assert chosen.cases == 6 and "pooled_ece" in chosen.scores
    for folder, temperature in (("plain", 1.0), ("tempered", str(trained / "temperature.json"))):
        workflow(files, evaluation_dir=str(tmp_path / folder), temperature=temperature, **options).run()
    pictures = sorted((tmp_path / "plain" / "probabilities").iterdir())
    plain, calibrated = (
        [np.asarray(Image.open(tmp_path / folder / "probabilities" / picture.name)) / 255 for picture in pictures]
        for folder in ("plain", "tempered")
    )
    for before, after in zip(plain, calibrated, strict=True):
        inside = (before > 0.02) & (before < 0.98)
        expected = tempered(torch.tensor(before), chosen.temperature).numpy()
        assert np.abs(after - expected)[inside].max() < 0.05  # maps are rounded to 8 bits


def test_inference_keeps_names_and_sizes_of_any_picture(trained, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.new("RGB", (70, 41), (200, 150, 130)).save(pictures / "colour.png")
    Image.new("L", (33, 90), 90).save(pictures / "grey photo.jpg")
    Image.new("P", (20, 20)).save(pictures / "palette.gif")
    options = {key: TINY[key] for key in ("spatial_size", "network_def#width", "network_def#decoder_channels")}
    run = workflow(
        ["inference.json"],
        dataset_dir=str(pictures),
        output_dir=str(tmp_path / "out"),
        ckpt_path=str(trained / "model.pt"),
        overlays="true",
        **options,
    )
    run.run()
    sizes = {"colour": (70, 41), "grey photo": (33, 90), "palette": (20, 20)}
    for kind in ("masks", "probabilities", "overlays"):
        written = {path.stem: Image.open(path) for path in (tmp_path / "out" / kind).iterdir()}
        assert {name: image.size for name, image in written.items()} == sizes
    mask = np.asarray(Image.open(tmp_path / "out" / "masks" / "colour.png"))
    probability = np.asarray(Image.open(tmp_path / "out" / "probabilities" / "colour.png"))
    assert set(np.unique(mask)) <= {0, 255}
    assert ((mask == 255) == (probability >= 128)).mean() > 0.99


def test_an_ensemble_has_the_mean_probabilities_of_its_members(trained, phantoms, tmp_path):
    state = torch.load(trained / "final.pt", weights_only=True)
    torch.save({name: 1.2 * value if value.dtype == torch.float32 else value for name, value in state.items()},
        tmp_path / "other.pt")  # fmt: skip
    members = [str(trained / "final.pt"), str(tmp_path / "other.pt")]
    options = {key: TINY[key] for key in ("spatial_size", "network_def#width", "network_def#decoder_channels")}
    options |= {"flips": [], "scales": [1], "single_lesion": False}
    options |= {"dataset_dir": str(phantoms / "images")}
    maps = []
    for place, checkpoints in enumerate([members[:1], members[1:], f"[{', '.join(members)}]"]):
        workflow(["inference.json"], output_dir=str(tmp_path / str(place)), checkpoints=checkpoints, **options).run()
        pictures = sorted((tmp_path / str(place) / "probabilities").iterdir())
        maps.append(np.stack([np.asarray(Image.open(picture)) for picture in pictures]).astype(float))
    one, other, both = maps
    assert np.abs(both - (one + other) / 2).max() <= 1.01 < np.abs(one - other).max()  # rounded to 8 bits


@pytest.mark.parametrize(
    ("files", "options", "enabled"),
    [
        (["inference.json"], {}, True),
        (["inference.json"], {"ckpt_path": "runs/mine/final.pt"}, False),
        (["inference.json"], {"checkpoints": ["a.pt", "b.pt"]}, False),
        (["inference.json"], {"ckpt_path": "runs/mine/final.pt", "adaptive_threshold": True}, True),
        (["train.json", "evaluate.json"], {}, False),
        (["train.json", "evaluate.json"], {"adaptive_threshold": True}, True),
    ],
)
def test_the_threshold_adapts_with_the_shipped_weights_and_before_temperature_and_component(files, options, enabled):
    parser = ConfigParser()
    parser.read_config([str(BUNDLE / "configs" / file) for file in files])
    parser.update({"bundle_root": str(BUNDLE), "chosen_temperature": 1.0, **options})
    key = "postprocessing" if files == ["inference.json"] else "validate#postprocessing"
    steps = parser.get_parsed_content(key).transforms
    order = [type(step) for step in steps]
    places = [order.index(kind) for kind in (RestoreSized, AdaptiveThresholdd, Temperedd, KeepCentralComponentd)]
    assert places == sorted(places) and steps[places[1]].enabled is enabled


def test_another_engine_predicts_what_pytorch_predicts(trained, phantoms, tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("MONAI_EXT_CACHE", str(tmp_path / "cache"))
    options = {key: TINY[key] for key in ("spatial_size", "network_def#width", "network_def#decoder_channels")}
    options |= {"scales": [0.75, 1], "single_lesion": False, "precision": "fp32"}
    options |= {
        "dataset_dir": str(phantoms / "images"),
        "checkpoints": [str(trained / f"{n}.pt") for n in ("final", "model")],
    }
    maps = []
    for engine in ("torch", "onnxruntime"):
        workflow(["inference.json"], output_dir=str(tmp_path / engine), engine=engine, **options).run()
        pictures = sorted((tmp_path / engine / "probabilities").iterdir())
        maps.append(np.stack([np.asarray(Image.open(picture)) for picture in pictures]).astype(int))
    assert len(list((tmp_path / "cache" / "onnx").iterdir())) == 1
    assert np.abs(maps[0] - maps[1]).max() <= 1 and np.ptp(maps[0]) > 1  # rounded to 8 bits


def test_every_loss_of_a_fold_starts_from_the_same_weights_and_sees_the_same_batches(phantoms, tmp_path):
    seen = []
    for loss in ("bce", "dice", "tversky", "jaccard", "dice_bce"):
        options = {"dataset_dir": str(phantoms), "output_dir": str(tmp_path / loss), "loss_name": loss}
        run = workflow(["train.json"], **options, **TINY)
        run.parser.get_parsed_content("run#0")  # seeds
        batch = next(iter(run.parser.get_parsed_content("train#dataloader")))
        weights = run.parser.get_parsed_content("network").state_dict()
        loss_value = run.parser.get_parsed_content("loss")(torch.zeros(2, 1, 4, 4), torch.ones(2, 1, 4, 4))
        assert 0 < loss_value.item() < 2
        seen.append((batch["id"], batch["image"], weights))
    for ids, images, weights in seen[1:]:
        assert ids == seen[0][0] and torch.equal(images, seen[0][1])
        assert all(torch.equal(value, seen[0][2][name]) for name, value in weights.items())


def test_tversky_weighs_false_negatives_with_0_7(phantoms, tmp_path):
    run = workflow(["train.json"], dataset_dir=str(phantoms), output_dir=str(tmp_path), loss_name="tversky", **TINY)
    loss = run.parser.get_parsed_content("loss")
    logits = torch.full((1, 1, 10, 10), -50.0)
    truth = torch.zeros(1, 1, 10, 10)
    truth[..., :5, :] = 1
    logits[..., :4, :] = 50  # 40 TP, 10 FN
    assert loss(logits, truth).item() == pytest.approx(1 - 40 / (40 + 0.7 * 10), abs=1e-4)
    logits[..., :6, :] = 50  # 50 TP, 10 FP
    assert loss(logits, truth).item() == pytest.approx(1 - 50 / (50 + 0.3 * 10), abs=1e-4)


def test_the_first_stage_trains_at_half_size_and_the_last_at_full_size(phantoms, tmp_path):
    sizes = []
    options = TINY | {"max_epochs": 5, "size_stages": [[0, 0.5], [0.8, 1]]}
    run = workflow(["train.json"], dataset_dir=str(phantoms), output_dir=str(tmp_path), **options)
    trainer = run.trainer
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: sizes.append((*e.state.output["pred"].shape[-2:],)))
    run.run()
    assert sizes == [(16, 32)] * 12 + [(32, 64)] * 3


def test_the_reports_schedule_is_an_overlay(phantoms, tmp_path):
    run = workflow(["train.json", "report.json"], dataset_dir=str(phantoms), output_dir=str(tmp_path))
    schedule = run.parser.get_parsed_content("lr_scheduler")
    assert run.max_epochs == 500
    assert schedule.get_last_lr() == [1e-5]
    schedule.optimizer.step(), schedule.step()
    assert schedule.get_last_lr() == [1e-5]


def command(folder: Path, data: Path, **options) -> list[str]:
    chosen = TINY | {"max_epochs": 4, "resume": "true"} | options
    pairs = [part for key, value in chosen.items() for part in (f"--{key}", str(value))]
    return [
        *(sys.executable, "-W", "ignore", "-m", "monai.bundle", "run"),
        *("--config_file", str(BUNDLE / "configs" / "train.json"), "--bundle_root", str(BUNDLE)),
        *("--dataset_dir", str(data), "--output_dir", str(folder), *pairs),
    ]


def test_a_run_killed_in_mid_epoch_ends_after_resuming_with_the_weights_of_an_uninterrupted_one(phantoms, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    subprocess.run(command(whole, phantoms), check=True, capture_output=True)
    with subprocess.Popen(command(broken, phantoms), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not (broken / "last.pt").exists() and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    assert (broken / "last.pt").exists() and not (broken / "final.pt").exists()
    subprocess.run(command(broken, phantoms), check=True, capture_output=True)
    for name in ("final.pt", "model.pt"):
        expected, given = (torch.load(folder / name, weights_only=True) for folder in (whole, broken))
        assert all(torch.equal(value, given[key]) for key, value in expected.items()), name
    assert [r["epoch"] for r in rows(broken / "epochs.csv")] == ["1", "2", "3", "4"]
    kept = ("epoch", "train_loss", "learning_rate", "val_mean_dice")
    assert [[r[k] for k in kept] for r in rows(broken / "epochs.csv")] == [
        [r[k] for k in kept] for r in rows(whole / "epochs.csv")
    ]


def test_a_mistake_on_the_command_line_ends_with_one_sentence_and_status_1(phantoms, tmp_path):
    (tmp_path / "empty").mkdir()
    started = command(tmp_path / "run", tmp_path / "empty")
    done = subprocess.run(started, capture_output=True, text=True, check=False, env=_plain_environment())
    assert done.returncode == 1
    assert "Traceback" not in done.stderr + done.stdout
    assert done.stderr.rstrip().splitlines()[-1].startswith("error: ")
    assert "empty" in done.stderr and not (tmp_path / "run" / "last.pt").exists()


def _plain_environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key != "MONAI_EXT_TRACEBACK"}


@pytest.fixture
def copied(phantoms, tmp_path) -> Path:
    return Path(shutil.copytree(phantoms, tmp_path / "data"))


def test_one_truncated_photograph_among_good_ones_is_named(copied, tmp_path):
    victim = sorted((copied / "images").iterdir())[3]
    victim.write_bytes(victim.read_bytes()[:700])
    sentence = sentence_of(lambda: train(tmp_path / "run", copied))
    assert victim.name in sentence


def test_a_mask_of_another_size_is_named_with_both_sizes(copied, tmp_path):
    victim = sorted((copied / "masks").iterdir())[5]
    Image.new("L", (10, 12), 255).save(victim)
    sentence = sentence_of(lambda: train(tmp_path / "run", copied))
    assert victim.name in sentence and "12" in sentence and "48" in sentence


def test_a_folder_of_another_layout_is_told_which_layouts_are_known(tmp_path):
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "pictures" / "a.jpg")
    sentence = sentence_of(lambda: train(tmp_path / "run", tmp_path / "pictures"))
    assert "images" in sentence and "masks" in sentence


def test_a_missing_mask_is_named(copied, tmp_path):
    victim = sorted((copied / "masks").iterdir())[0]
    victim.unlink()
    assert victim.stem.split("_seg")[0] in sentence_of(lambda: train(tmp_path / "run", copied))


def test_a_nan_in_the_loss_stops_the_run_without_a_checkpoint(phantoms, tmp_path):
    loss = "$lambda prediction, truth: prediction.mean() * float('nan')"
    sentence = sentence_of(lambda: train(tmp_path / "run", phantoms, loss=loss))
    assert "NaN" in sentence and "epoch 1" in sentence
    assert not list((tmp_path / "run").glob("*.pt"))


def test_a_fold_that_does_not_exist_is_refused(phantoms, tmp_path):
    assert "fold" in sentence_of(lambda: train(tmp_path / "run", phantoms, fold=3))


def test_a_finished_run_is_not_overwritten_without_being_told_to(trained, phantoms):
    before = (trained / "last.pt").read_bytes()
    assert "--resume true" in sentence_of(lambda: train(trained, phantoms))
    assert (trained / "last.pt").read_bytes() == before


def test_inference_without_weights_names_the_missing_file(phantoms, tmp_path):
    run = workflow(["inference.json"], dataset_dir=str(phantoms / "images"), ckpt_path=str(tmp_path / "none.pt"))
    assert "none.pt" in sentence_of(run.run)


def test_inference_on_an_empty_folder_says_so(trained, tmp_path):
    (tmp_path / "empty").mkdir()
    options = {key: TINY[key] for key in ("network_def#width", "network_def#decoder_channels")}
    run = workflow(
        ["inference.json"], dataset_dir=str(tmp_path / "empty"), ckpt_path=str(trained / "model.pt"), **options
    )
    assert "empty" in sentence_of(run.run)


def test_two_processes_train_one_network_and_score_every_case(phantoms, tmp_path):
    table = train_in_two_processes(BUNDLE.name, tmp_path / "run", phantoms, **(TINY | {"batch_size": 2}))
    assert [row["epoch"] for row in table] == ["1", "2"]
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 1
    assert (tmp_path / "run" / "run.log").read_text().count("# command: ") == 1  # rank 0 alone
    score = score_in_one_process(BUNDLE.name, tmp_path / "run", phantoms, "val_mean_dice", **TINY)
    assert score == pytest.approx(float(table[-1]["val_mean_dice"]), abs=0.02)
