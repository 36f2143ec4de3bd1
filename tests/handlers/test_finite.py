"""NaN in weights, outputs and validation ends with an error, and nothing is written under a final name."""

from __future__ import annotations

import math
import shutil
from functools import partial
from pathlib import Path

import bundle_runs
import pytest
import torch
from bundle_runs import sentence_of
from ignite.engine import Engine, Events
from ignite.metrics import Average
from lesion_runs import BUNDLE, TINY, train
from torch import nn

from monai_ext.engines import BatchEvaluator
from monai_ext.handlers import BestCheckpoint, FinalCheckpoint, StageCheckpoints
from monai_ext.handlers.finite import refuse_non_finite_predictions

workflow = partial(bundle_runs.workflow, BUNDLE.name)
NETWORK = {name: value for name, value in TINY.items() if "#" in name or name == "spatial_size"}


@pytest.fixture(scope="module")
def trained(lesion_phantoms, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("finite") / "run"
    train(folder, lesion_phantoms, max_epochs=1)
    return folder


@pytest.fixture
def spoilt(trained, tmp_path) -> Path:
    """A copy of the run with a NaN in its weights."""
    run = Path(shutil.copytree(trained, tmp_path / "spoilt"))
    for name in ("model.pt", "final.pt"):
        state = torch.load(run / name, weights_only=True)
        state[next(name for name in state if name.endswith("weight"))][0] = math.nan
        torch.save(state, run / name)
    return run


def test_inference_with_nan_in_the_weights_is_refused_and_writes_nothing(spoilt, lesion_phantoms, tmp_path):
    options = {"dataset_dir": str(lesion_phantoms / "images"), "ckpt_path": str(spoilt / "model.pt"), **NETWORK}
    run = workflow(["inference.json"], output_dir=str(tmp_path / "out"), **options)
    assert "model.pt' hold NaN or infinite values in 1 of" in sentence_of(run.run)
    assert not list((tmp_path / "out").rglob("*.png"))


def test_evaluation_with_nan_in_the_weights_is_refused_and_writes_nothing(spoilt, lesion_phantoms):
    options = {"dataset_dir": str(lesion_phantoms), "output_dir": str(spoilt), **(TINY | {"max_epochs": 1})}
    run = workflow(["train.json", "evaluate.json"], **options)
    assert "final.pt' hold NaN or infinite values in 1 of" in sentence_of(run.run)
    assert not (spoilt / "evaluation" / "cases.csv").exists()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_output_that_is_not_finite_is_refused_before_a_mask_is_made_of_it(trained, lesion_phantoms, tmp_path, value):
    options = {"dataset_dir": str(lesion_phantoms / "images"), "ckpt_path": str(trained / "model.pt"), **NETWORK}
    run = workflow(["inference.json"], output_dir=str(tmp_path / "out"), flips=[], scales=[1], **options)
    network = run.parser.get_parsed_content("network")
    network.register_forward_hook(lambda module, inputs, output: output.index_fill(0, torch.tensor([1]), value))
    assert "the prediction for phantom_0001 holds NaN or infinite values" in sentence_of(run.run)
    assert not list((tmp_path / "out").rglob("*.png"))


def test_predictions_of_several_maps_are_looked_at_in_all_of_them():
    output = {"pred": {"mean": torch.zeros(2, 1, 2, 2), "samples": torch.zeros(2, 3, 2, 2)}}
    engine = Engine(lambda engine, data: output)
    engine.add_event_handler(Events.ITERATION_STARTED, lambda e: setattr(e.state, "batch", {"id": ["a", "b"]}))
    refuse_non_finite_predictions(engine)
    refuse_non_finite_predictions(engine)
    engine.run([0])
    output["pred"]["samples"][1, 2, 0, 0] = math.nan
    with pytest.raises(ValueError, match="the prediction for b holds NaN"):
        engine.run([0])


def test_a_training_whose_weights_become_nan_saves_none(lesion_phantoms, tmp_path):
    loss = "$lambda prediction, truth: torch.nn.functional.binary_cross_entropy_with_logits(prediction, truth.float())"
    sentence = sentence_of(
        lambda: train(tmp_path, lesion_phantoms, loss=loss, learning_rate=1e30, max_epochs=1, log_interval=100)
    )
    assert "NaN" in sentence
    assert not list(tmp_path.glob("model.pt")) and not list(tmp_path.glob("final.pt"))


@pytest.mark.filterwarnings("ignore:6 of 6 predictions hold NaN")
def test_a_training_whose_validation_is_nan_in_all_epochs_ends_with_an_error_and_without_a_model(
    lesion_phantoms, tmp_path
):
    broken = {"validate#postprocessing": {"_target_": "monai.transforms.Lambdad", "keys": "pred",
                                          "func": "$lambda pred: pred * float('nan')"},
              "validate#evaluator#postprocessing": "@validate#postprocessing"}  # fmt: skip
    sentence = sentence_of(lambda: train(tmp_path, lesion_phantoms, **broken))
    assert "val_mean_dice was NaN in all epochs" in sentence
    assert {path.name for path in tmp_path.glob("*.pt")} == {"last.pt", "last.previous.pt"}


def test_a_finite_score_after_one_of_nan_is_the_best_and_its_weights_are_kept(tmp_path):
    scores = iter([math.nan, 0.2, math.nan, 0.1])
    evaluator = BatchEvaluator(
        "cpu", [{"image": torch.zeros(1, 1, 2, 2)}], nn.Identity(),
        prepare_batch=lambda batch, *_, **__: (batch["image"], None),
        key_val_metric={"val": Average(lambda output: next(scores))},
        val_handlers=[BestCheckpoint(nn.Linear(1, 1), tmp_path / "model.pt")],
    )  # fmt: skip
    best = []
    for epoch in range(1, 5):
        evaluator.run(epoch)
        best.append((evaluator.state.best_metric_epoch, (tmp_path / "model.pt").exists()))
    assert best == [(1, False), (2, True), (2, True), (2, True)]
    trainer = Engine(lambda engine, data: None)
    FinalCheckpoint(nn.Linear(1, 1), tmp_path / "final.pt", evaluator=evaluator).attach(trainer)
    trainer.run([0], max_epochs=4)
    assert (tmp_path / "final.pt").exists()


def test_weights_of_a_stage_are_not_kept_for_an_epoch_whose_score_is_nan(tmp_path):
    evaluator = Engine(lambda engine, data: None)
    StageCheckpoints(nn.Linear(1, 1), tmp_path, pretrain_epochs=0).attach(evaluator)
    evaluator.state.metrics = {"val_psnr": math.nan}  # and no perceptual score, where the latest would be kept
    evaluator.add_event_handler(Events.EPOCH_STARTED, lambda e: setattr(e.state, "metrics", {"val_psnr": math.nan}))
    evaluator.run([0])
    assert not (tmp_path / "model.pt").exists()
