from __future__ import annotations

import csv
import json
import logging
import math
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from PIL import Image
from torch import Tensor, nn

from monai_ext.data import qubiq_items, write_rater_phantoms
from monai_ext.engines.raters import RaterEvaluator, RaterInferer
from monai_ext.handlers.raters.health import BetaWarmUp, CollapseAlarm, HeadHealthMonitor, SamplesAlikeAlarm
from monai_ext.handlers.raters.pictures import RATER_COLOURS, RaterPictures, RaterPredictionWriter
from monai_ext.handlers.raters.scores import MeanRaterScores, RaterReport, answer_scores
from monai_ext.handlers.training.weights import load_weights
from monai_ext.losses import ELBOLoss
from monai_ext.metrics import calibration_scores, dice_per_rater, hungarian_iou, qubiq_score, rater_agreement
from monai_ext.networks import ProbabilisticUNet


def row(*values: int) -> Tensor:
    """A mask of one row of pixels, (1, W)."""
    return torch.tensor([values])


# Two cases of two raters, four pixels; the second rater is missing from the second case.
MASKS = torch.stack([torch.stack([row(1, 1, 0, 0), row(1, 0, 0, 0)]), torch.stack([row(0, 1, 1, 0), row(1, 1, 1, 1)])])
PRESENCE = torch.tensor([[True, True], [True, False]])
HEADS = torch.tensor(
    [[[[0.9, 0.8, 0.1, 0.2]], [[0.7, 0.6, 0.1, 0.1]]], [[[0.1, 0.9, 0.4, 0.2]], [[0.2, 0.3, 0.1, 0.1]]]]
)
ANSWERS = {"probability": HEADS.mean(1, keepdim=True), "heads": HEADS, "samples": HEADS[:, [0, 1, 0]]}
LABEL = {"masks": MASKS, "presence": PRESENCE}


def engine(outputs: list[dict], *, ids: list[list[str]] | None = None, epochs: int = 1) -> Engine:
    """An Ignite engine whose iterations give `outputs`; `validate()` runs it."""
    count = len(outputs)
    made = Engine(lambda e, _: outputs[(e.state.iteration - 1) % count])
    made.network = nn.Linear(3, 2)
    if ids is not None:

        def give_ids(e: Engine) -> None:
            e.state.batch = {"id": ids[(e.state.iteration - 1) % count]}

        made.add_event_handler(Events.ITERATION_STARTED, give_ids)
    made.validate = lambda: made.run(range(count), max_epochs=epochs)
    return made


def one_by_one() -> list[dict]:
    return [
        {
            "pred": {name: maps[i : i + 1] for name, maps in ANSWERS.items()},
            "label": {name: values[i : i + 1] for name, values in LABEL.items()},
            "image": torch.rand(1, 1, 1, 4),
        }
        for i in range(2)
    ]


def scored(raters: list[int] | None = (1, 2), outputs: list[dict] | None = None) -> tuple[Engine, MeanRaterScores]:
    made, metric = engine(outputs or one_by_one(), ids=[["b"], ["a"]]), MeanRaterScores(raters)
    metric.attach(made, "val_qubiq_score")
    return made, metric


# --- scores


def test_scores_of_a_case_counted_by_hand():
    scores = answer_scores(torch.cat([*ANSWERS.values()], 1), MASKS, presence=PRESENCE, heads=2)
    # head 0 draws 1100 and head 1 1100 in the first case; 0100 and 0000 in the second
    expected = [[1.0, 2 / 3], [2 / 3, math.nan]]
    torch.testing.assert_close(scores["dice_per_rater"], torch.tensor(expected, dtype=torch.float64), equal_nan=True)
    table = [[[1.0, 2 / 3], [1.0, 2 / 3]], [[2 / 3, math.nan], [0.0, math.nan]]]
    torch.testing.assert_close(scores["heads_by_raters"], torch.tensor(table, dtype=torch.float64), equal_nan=True)
    # majority of (1100, 1000) with half sufficing is 1100; p is .8 .7 .1 .15
    assert scores["dice_consensus"].tolist() == [1.0, pytest.approx(2 / 3)]
    assert scores["generalized_energy_distance"][0].item() == pytest.approx(2 * 0.25 - 0 - 0.25)


def test_scores_are_those_of_the_metrics_and_of_missing_raters_nothing_is_heard():
    made, metric = scored()
    made.validate()
    per_case, metrics = metric.per_case(), made.state.metrics
    wanted = {
        "qubiq_score": qubiq_score(ANSWERS["probability"], MASKS, presence=PRESENCE),
        "hungarian_iou": hungarian_iou(ANSWERS["samples"] > 0.5, MASKS, presence=PRESENCE),
        "rater_agreement": rater_agreement(MASKS, presence=PRESENCE),
        "ece": calibration_scores(ANSWERS["probability"], MASKS, presence=PRESENCE)["ece"],
    }
    for name, values in wanted.items():
        torch.testing.assert_close(per_case[name], values, equal_nan=True)
        assert metrics[f"val_{name}"] == pytest.approx(values.nanmean().item())
    assert metrics["val_dice_rater01"] == pytest.approx((1 + 2 / 3) / 2)
    assert metrics["val_dice_rater02"] == pytest.approx(2 / 3)  # from the one case that there is
    assert metrics["val_dice"] == pytest.approx((5 / 6 + 2 / 3) / 2)
    before = dict(metrics)
    outputs = one_by_one()
    outputs[1]["label"]["masks"] = MASKS[1:] * torch.tensor([1, 0])[None, :, None, None]
    made, _ = scored(outputs=outputs)
    made.validate()
    assert made.state.metrics == pytest.approx(before, nan_ok=True)


def test_a_method_with_one_map_is_compared_with_every_rater_by_that_map():
    outputs = one_by_one()
    for output in outputs:
        del output["pred"]["heads"]
    made, metric = scored(outputs=outputs)
    made.validate()
    dice = dice_per_rater(ANSWERS["probability"] > 0.5, MASKS, presence=PRESENCE)
    torch.testing.assert_close(metric.per_case()["dice_per_rater"], dice, equal_nan=True)
    assert "heads_by_raters" not in metric.per_case()


def test_anonymous_raters_have_no_curves_of_their_own():
    made, _ = scored(raters=None)
    made.validate()
    assert "val_dice" in made.state.metrics and not [name for name in made.state.metrics if "rater0" in name]


def test_a_nan_in_the_answers_leaves_its_case_without_value_but_not_the_others():
    outputs = one_by_one()
    outputs[1]["pred"] = {name: maps.clone() for name, maps in outputs[1]["pred"].items()}
    outputs[1]["pred"]["samples"][0, 0, 0, 0] = torch.nan
    made, metric = scored(outputs=outputs)
    made.validate()
    per_case = metric.per_case()
    assert per_case["hungarian_iou"].isnan().tolist() == per_case["qubiq_score"].isnan().tolist() == [False, True]
    assert not per_case["leave_one_out_dice"][0].isnan()


def test_a_case_without_raters_has_no_score_with_them():
    presence = torch.tensor([[True, True], [False, False]])
    scores = answer_scores(torch.cat([*ANSWERS.values()], 1), MASKS, presence=presence, heads=2)
    known = {name for name, values in scores.items() if not values[1].isnan().all()}
    assert known == {"sample_diversity"} and scores["dice_consensus"][0] == 1.0


def test_wrong_numbers_of_raters_and_unknown_scores_are_refused():
    made, _ = scored(raters=[1, 2, 3])
    with pytest.raises(ValueError, match="masks of 2 raters, but raters="):
        made.validate()
    made, metric = scored()
    metric.key = "beauty"
    with pytest.raises(ValueError, match="key='beauty'.*qubiq_score"):
        made.validate()


def test_report_has_a_row_for_each_case_and_a_summary_with_every_convention(tmp_path):
    made, metric = scored(raters=[3, 7])
    RaterReport(tmp_path, metric, settings={"method": "made up"}).attach(made)
    made.validate()
    with (tmp_path / "cases.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [line["id"] for line in table] == ["a", "b"]  # batches came as b, a
    assert float(table[1]["dice_rater07"]) == pytest.approx(2 / 3, abs=1e-6) and table[0]["dice_rater07"] == ""
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["settings"] == {"method": "made up"} and summary["parameters"] == 8
    assert (summary["cases"], summary["samples"], summary["raters"]) == (2, 3, [3, 7])
    assert summary["scores"]["dice_rater07"] == {"mean": 0.666667, "sd": None, "cases": 1}
    spread = summary["scores"]["dice"]
    assert spread["mean"] == pytest.approx(0.75) and spread["sd"] == pytest.approx(1 / 6 / math.sqrt(2), abs=1e-6)
    assert summary["heads_by_raters"] == [[pytest.approx(5 / 6), pytest.approx(2 / 3)], [0.5, pytest.approx(2 / 3)]]
    assert summary["rater_ceiling"]["rater_agreement"] == {"mean": 0.666667, "sd": None, "cases": 1}
    assert {"qubiq_score", "sets", "calibration", "empty masks"} <= set(summary["conventions"])


# --- health


def stuck_output(level: float) -> dict:
    """Head 0 is right; the background of head 1 is at `level`."""
    masks = torch.zeros(1, 2, 4, 4, dtype=torch.uint8)
    masks[:, :, :2] = 1
    heads = masks.float().clone()
    heads[:, 1, 2:] = level
    answers = {"heads": heads, "samples": heads, "probability": heads.mean(1, keepdim=True)}
    return {"pred": answers, "label": {"masks": masks, "presence": torch.ones(1, 2)}}


def test_a_head_that_stays_stuck_is_reported_once_it_has_been_for_three_validations(caplog):
    made = engine([stuck_output(0.5)])
    HeadHealthMonitor([4, 9]).attach(made)
    with caplog.at_level(logging.WARNING):
        made.validate(), made.validate()
        assert not caplog.records
        made.validate()
    assert "the head of rater 9 has mean probability 0.50 on background" in caplog.text
    assert "rater 4" not in caplog.text and "3 epochs in a row" in caplog.text
    assert made.state.metrics["val_head09_background_probability"] == pytest.approx(0.5)
    assert made.state.metrics["val_head04_foreground_ratio"] == 1.0
    # soft Dice 2 * 8 / (8 + 4 + 8) = 0.8, hard Dice 1
    assert made.state.metrics["val_head09_dice_gap"] == pytest.approx(-0.2)


def test_a_head_that_recovers_is_not_reported(caplog):
    outputs = [stuck_output(0.5)]
    made = engine(outputs)
    HeadHealthMonitor([1, 2], patience=2).attach(made)
    with caplog.at_level(logging.WARNING):
        for level in (0.5, 0.1, 0.5, 0.1):
            outputs[0] = stuck_output(level)
            made.validate()
    assert not caplog.records


def test_a_network_without_heads_has_no_heads_to_watch():
    output = stuck_output(0.5)
    del output["pred"]["heads"]
    made = engine([output])
    HeadHealthMonitor([1, 2]).attach(made)
    made.validate()
    assert made.state.metrics == {}


def test_beta_rises_linearly_with_the_iteration_also_in_a_resumed_run():
    loss, seen = ELBOLoss(), []
    trainer = Engine(lambda e, _: seen.append(loss.beta))
    BetaWarmUp(loss, beta=2.0, share=0.5).attach(trainer)
    trainer.run(range(4), max_epochs=2)
    assert seen == [0.0, 0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 2.0]
    seen.clear()
    resumed = Engine(lambda e, _: seen.append(loss.beta))
    BetaWarmUp(loss, beta=2.0, share=0.5).attach(resumed)

    def restore(e: Engine) -> None:
        e.state.epoch, e.state.iteration = 1, 4

    resumed.add_event_handler(Events.STARTED, restore)
    resumed.run(range(4), max_epochs=2)
    assert seen == [2.0] * 4
    with pytest.raises(ValueError, match="share=2"):
        BetaWarmUp(loss, share=2)


class Curves:
    def __init__(self):
        self.values: dict[str, list[float]] = {}

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.values.setdefault(name, []).append(value)


def elbo_output(distance: float) -> dict:
    """Prior standard normal; the posterior's first number is `distance` sigmas away."""
    gaussian = torch.zeros(1, 2, 6)
    posterior = gaussian.clone()
    posterior[:, 0, 0] = distance
    return {
        "pred": {"logits": torch.zeros(1, 1, 2, 2), "prior": gaussian, "posterior": posterior},
        "label": torch.ones(1, 1, 2, 2),
    }


def test_the_parts_of_the_bound_are_curves_and_a_collapse_is_reported(caplog):
    curves = Curves()
    trainer = engine([elbo_output(2.0), elbo_output(2.0)], epochs=2)
    CollapseAlarm(ELBOLoss(), summary_writer=curves, patience=2).attach(trainer)
    with caplog.at_level(logging.WARNING):
        trainer.validate()
        assert not caplog.records
        assert curves.values["train_kl"] == [2.0, 2.0]  # 2^2 / 2
        assert curves.values["train_reconstruction"] == pytest.approx([4 * math.log(2)] * 2)
        assert curves.values["train_active_latents"] == [1, 1]
        trainer = engine([elbo_output(0.1)], epochs=2)
        CollapseAlarm(ELBOLoss(), patience=2).attach(trainer)
        trainer.validate()
    assert (
        "for 2 epochs in a row: the divergence of posterior and prior is 0.0050 nats, below 0.1" in caplog.text
        and "lower beta" in caplog.text
    )


def test_samples_all_alike_are_reported_and_different_ones_are_not(caplog):
    grey = torch.full((1, 3, 4, 4), 0.4)
    different = torch.tensor([0.0, 1.0, 1.0])[None, :, None, None].expand(1, 3, 4, 4)
    for samples, mean in ((different, 0.0), (grey, 1.0)):
        made = engine([{"pred": {"samples": samples}}])
        SamplesAlikeAlarm(patience=2).attach(made)
        with caplog.at_level(logging.WARNING):
            made.validate()
            assert not caplog.records
            made.validate()
        assert made.state.metrics["val_samples_alike"] == pytest.approx(mean)
        assert bool(caplog.records) == (mean == 1)


def test_a_collapsed_probabilistic_unet_is_reported_though_its_probabilities_differ_a_little(caplog):
    masks = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    for r in range(3):
        masks[:, r, 8 : 14 + 5 * r, 8 : 14 + 5 * r] = 1
    image = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    batch = {"image": image, "label": masks, "presence": torch.ones(2, 3)}
    for scale, collapsed in ((0.2, True), (1.0, False)):  # of what the latent adds
        torch.manual_seed(0)
        network = ProbabilisticUNet(features=(4, 4, 4, 4, 4), foreground=0.5)
        last = network.combination.further[-1]
        torch.nn.init.normal_(last.weight, std=2.0)
        torch.nn.init.normal_(network.combination.of_latent.weight, std=scale)
        evaluator = RaterEvaluator(
            "cpu",
            [batch],
            network,
            inferer=RaterInferer(samples=8),
            key_val_metric={"val_qubiq_score": MeanRaterScores()},
            val_handlers=[SamplesAlikeAlarm(patience=2)],
        )
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            evaluator.run()
            evaluator.run()
        metrics = evaluator.state.metrics
        assert metrics["val_samples_alike"] < 0.99  # which alone would not do
        assert (metrics["val_sample_diversity"] < 0.25 * metrics["val_rater_diversity"]) == collapsed
        assert ("against the raters'" in caplog.text) == collapsed


# --- pictures and files


def test_pictures_show_each_present_rater_in_a_colour_of_its_own():
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


def test_weights_of_another_network_are_refused_with_a_sentence(tmp_path):
    network = nn.Linear(3, 2)
    torch.save(network.state_dict(), tmp_path / "model.pt")
    other = nn.Linear(3, 2)
    load_weights(other, tmp_path / "model.pt")
    assert torch.equal(other.weight, network.weight)
    with pytest.raises(
        ValueError, match="model.pt' holds another network, 0 of the 2 tensors fit: name weights of this bundle"
    ):
        load_weights(nn.Linear(4, 3), tmp_path / "model.pt")
    with pytest.raises(FileNotFoundError, match="nothing.pt"):
        load_weights(other, tmp_path / "nothing.pt")
    torch.save(network.state_dict() | {"more": torch.zeros(1)}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match="2 of the 2 tensors fit and 1 of the checkpoint are left over: name weights"):
        load_weights(other, tmp_path / "model.pt")
