from __future__ import annotations

import csv
import json
import logging

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from monai_ext.handlers import (
    CaseTable,
    EpochTable,
    MainProcessWriter,
    PredictionWriter,
    ProgressiveSize,
    RunRecord,
    SegmentationPictures,
    TrainingProgress,
)
from monai_ext.handlers.pictures.drawing import PREDICTION_COLOUR, contour, heat_map, picture_grid
from monai_ext.transforms import BatchAugment


def engine(output=None, batch=None, epochs: int = 1, length: int = 2) -> Engine:
    """An Ignite engine whose iterations all give `output`; run with `run_engine`."""
    made = Engine(lambda engine, data: output)
    made.state.metrics, made.state.key_metric_name = {}, "val_mean_dice"
    made.state.best_metric, made.state.best_metric_epoch = -1, -1
    if batch is not None:
        made.add_event_handler(Events.ITERATION_STARTED, lambda e: setattr(e.state, "batch", batch))
    made.run_engine = lambda: made.run(range(length), max_epochs=epochs)
    return made


def optimizer(lr: float = 0.25) -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)


def read(path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_epoch_table_has_mean_loss_rate_and_the_key_metric_first(tmp_path):
    losses = iter([1.0, 3.0, 5.0, 7.0])
    trainer = Engine(lambda e, data: {"loss": torch.tensor(next(losses))})
    evaluator = engine()

    def validate(e):
        evaluator.state.epoch = e.state.epoch
        evaluator.state.metrics = {"val_mean_jaccard": 0.5, "val_mean_dice": 0.75}

    trainer.add_event_handler(Events.EPOCH_COMPLETED, validate)
    EpochTable(tmp_path / "epochs.csv", optimizer=optimizer(), evaluator=evaluator).attach(trainer)
    trainer.run(range(2), max_epochs=2)
    table = read(tmp_path / "epochs.csv")
    assert [float(row["train_loss"]) for row in table] == [2, 6]
    assert table[0]["learning_rate"] == "0.25" and float(table[0]["seconds"]) >= 0
    assert list(table[0])[4:] == ["val_mean_dice", "val_mean_jaccard"]


def test_epoch_table_of_a_resumed_run_keeps_earlier_rows_and_replaces_later_ones(tmp_path):
    path = tmp_path / "epochs.csv"
    path.write_text("epoch,train_loss,learning_rate,seconds\n1,9.0,0.1,5\n2,8.0,0.1,5\n3,7.0,0.1,5\n")
    trainer = engine({"loss": torch.tensor(1.0)})
    trainer.add_event_handler(Events.STARTED, lambda e: setattr(e.state, "epoch", 1))
    EpochTable(path, optimizer=optimizer()).attach(trainer)
    trainer.run(range(2), max_epochs=3)
    assert [(row["epoch"], float(row["train_loss"])) for row in read(path)] == [("1", 9.0), ("2", 1.0), ("3", 1.0)]


def test_run_record_tells_settings_versions_and_result(tmp_path):
    evaluator = engine()
    evaluator.state.best_metric, evaluator.state.best_metric_epoch = 0.9, 3
    trainer = engine({"loss": torch.tensor(1.0)}, epochs=4)
    writer = SummaryWriter(tmp_path / "tb")
    RunRecord(
        tmp_path / "run.json", {"loss_name": "dice", "lr": 0.1}, evaluator=evaluator, summary_writer=writer
    ).attach(trainer)
    trainer.run_engine()
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["status"] == "finished" and record["epoch"] == 4
    assert record["best_val_mean_dice"] == 0.9 and record["best_epoch"] == 3
    assert record["settings"] == {"loss_name": "dice", "lr": 0.1, "max_epochs": 4}
    assert record["versions"]["torch"].startswith("2.")


def test_progress_is_silent_where_there_is_no_terminal(capsys):
    trainer = engine({"loss": torch.tensor(1.0)})
    TrainingProgress(engine(), interval=1).attach(trainer)
    trainer.run_engine()
    assert capsys.readouterr().err == ""


def test_progress_does_not_swallow_errors():
    def fail(e, data):
        raise ZeroDivisionError

    trainer = Engine(fail)
    TrainingProgress(interval=1).attach(trainer)
    with pytest.raises(ZeroDivisionError):
        trainer.run([0])


def item(name: str, size=(4, 6)) -> dict:
    return {"id": name, "original_size": torch.tensor(size), "image_path": f"{name}.png"}


def test_case_table_scores_each_case_and_names_its_group(tmp_path):
    truth = torch.zeros(1, 4, 6)
    truth[..., :3] = 1
    outputs = [
        {"pred": truth * 0.9, "label": truth},
        {"pred": 1 - truth, "label": truth},
    ]
    evaluator = engine(outputs, [item("b"), item("a")], length=1)
    CaseTable(tmp_path / "cases.csv", groups={"a": "g1", "b": "g1"}).attach(evaluator)
    evaluator.run_engine()
    table = read(tmp_path / "cases.csv")
    assert [(row["id"], row["group"], float(row["dice"])) for row in table] == [("a", "g1", 0.0), ("b", "g1", 1.0)]


def test_a_case_whose_prediction_holds_nan_has_an_empty_row_and_is_named(tmp_path, caplog):
    truth = torch.zeros(1, 4, 6)
    outputs = [{"pred": truth.clone(), "label": truth}, {"pred": truth.clone(), "label": truth}]
    outputs[1]["pred"][0, 2, 3] = torch.nan
    evaluator = engine(outputs, [item("b"), item("a")], length=1)
    CaseTable(tmp_path / "cases.csv").attach(evaluator)
    with caplog.at_level(logging.WARNING):
        evaluator.run_engine()
    table = read(tmp_path / "cases.csv")
    assert [(row["id"], row["dice"], row["specificity"]) for row in table] == [
        ("a", "", ""),
        ("b", "1.000000", "1.000000"),
    ]
    assert "the prediction holds NaN for 1 of 2 cases: a; no scores" in caplog.text


def test_predictions_are_written_at_their_own_size_with_the_threshold_asked_for(tmp_path):
    probability = torch.linspace(0, 1, 24).view(1, 4, 6)
    evaluator = engine([{"pred": probability}], [item("case 1")], length=1)
    PredictionWriter(tmp_path, threshold=0.25).attach(evaluator)
    evaluator.run_engine()
    mask = np.asarray(Image.open(tmp_path / "masks" / "case 1.png"))
    stored = np.asarray(Image.open(tmp_path / "probabilities" / "case 1.png"))
    np.testing.assert_array_equal(mask, (probability[0].numpy() > 0.25) * 255)
    np.testing.assert_allclose(stored / 255, probability[0], atol=0.5 / 255)


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


def test_pictures_in_tensorboard_are_rows_of_four(tmp_path):
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


def test_contour_is_drawn_on_the_border_of_the_mask_only():
    mask = np.zeros((12, 12), bool)
    mask[3:9, 3:9] = True
    drawn = contour(np.zeros((12, 12, 3), np.uint8), mask, PREDICTION_COLOUR)
    coloured = (drawn == PREDICTION_COLOUR).all(-1)
    assert coloured[3, 3:9].all() and coloured[8, 3:9].all()
    assert not coloured[5:7, 5:7].any() and not coloured[0].any()


def test_heat_map_brightens_with_probability():
    brightness = heat_map(np.array([[0.0, 0.5, 1.0]])).astype(int).sum(-1)[0]
    assert brightness[0] < brightness[1] < brightness[2]


def test_picture_grid_places_rows_and_columns():
    red, blue = (np.full((2, 3, 3), colour, np.uint8) for colour in ((255, 0, 0), (0, 0, 255)))
    grid = picture_grid([[red, blue], [blue, red]], gap=1)
    assert grid.shape == (5, 7, 3)
    assert tuple(grid[0, 0]) == (255, 0, 0) and tuple(grid[4, 0]) == (0, 0, 255) and tuple(grid[2, 3]) == (255,) * 3


@pytest.mark.parametrize(
    ("stages", "expected"),
    [([[0, 1]], [(32, 64)] * 5), ([[0, 0.5], [0.6, 1]], [(16, 32)] * 3 + [(32, 64)] * 2)],
)
def test_sizes_follow_the_epoch(stages, expected):
    augment, seen = BatchAugment(), []
    trainer = engine({"loss": torch.tensor(1.0)}, epochs=5)
    ProgressiveSize([augment], [32, 64], stages).attach(trainer)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda e: seen.append(augment.spatial_size))
    trainer.run_engine()
    assert seen == expected


@pytest.mark.parametrize(
    ("stages", "message"),
    [([[0.2, 1]], "begin at 0"), ([[0, 1], [0, 0.5]], "rise"), ([[0, 1.5]], r"factors must be in \(0, 1\]")],
)
def test_impossible_stages_are_refused(stages, message):
    with pytest.raises(ValueError, match=message):
        ProgressiveSize([], [32, 64], stages)


def test_writer_of_another_process_makes_no_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("monai_ext.handlers.training.tensorboard.is_main_process", lambda: False)
    writer = MainProcessWriter(tmp_path / "tb")
    writer.add_scalar("x", 1.0, 1)
    writer.flush(), writer.close()
    assert not (tmp_path / "tb").exists()
