"""Alarms of trainings with several raters."""

from __future__ import annotations

import logging
import math

import pytest
import torch
from rater_outputs import engine

from monai_ext.engines import BatchTrainer
from monai_ext.engines.raters import PrepareRaters, RaterEvaluator, RaterInferer
from monai_ext.handlers.raters.health import CollapseAlarm, HeadHealthMonitor, SamplesAlikeAlarm
from monai_ext.handlers.raters.scores import MeanRaterScores
from monai_ext.losses import ELBOLoss, RaterELBOLoss, mask_losses
from monai_ext.networks import LatentUNet, MobileNetV2UNet, ProbabilisticUNet


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
        assert curves.values["health/kl"] == [2.0, 2.0]  # 2^2 / 2
        assert curves.values["health/reconstruction"] == pytest.approx([4 * math.log(2)] * 2)
        assert curves.values["health/active_latents"] == [1, 1]
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


@pytest.mark.parametrize(("beta", "collapsed"), [(1.0, True), (0.005, False)])
def test_training_with_too_large_a_beta_collapses_and_both_alarms_name_it(beta, collapsed, caplog):
    """A probabilistic U-Net on a MobileNetV2 whose posterior has learnt to differ from its prior, or has not."""
    masks = torch.zeros(4, 3, 32, 32, dtype=torch.uint8)
    for r in range(3):
        masks[:, r, 8 : 16 + 5 * r, 8 : 16 + 5 * r] = 1
    masks[2:] = masks[2:].flip(3)
    image = masks[:, 1:2] + 0.1 * torch.randn(4, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    batch = {"image": image, "label": masks, "presence": torch.ones(4, 3)}
    torch.manual_seed(0)
    backbone = MobileNetV2UNet(1, 8, width=0.25, decoder_channels=(16, 16, 8, 8, 8))
    network = LatentUNet(backbone, features=8, initial_logit=-1.0)
    torch.nn.init.zeros_(network.level.weight)  # as published: the latent is of no use before it is learnt
    loss = RaterELBOLoss(mask_losses("tversky_bce", bce_weight=10.0), beta=beta)
    trainer = BatchTrainer(
        "cpu",
        2,
        [batch] * 25,
        network,
        torch.optim.Adam(network.parameters(), 5e-3),
        loss,
        prepare_batch=PrepareRaters(network),
        precision="fp32",
        train_handlers=[CollapseAlarm(loss, patience=1)],
    )
    evaluator = RaterEvaluator(
        "cpu",
        [batch],
        network,
        inferer=RaterInferer(samples=8),
        key_val_metric={"val_qubiq_score": MeanRaterScores()},
        val_handlers=[SamplesAlikeAlarm(patience=1)],
    )
    with caplog.at_level(logging.WARNING):
        trainer.run()
        evaluator.run()
    for sentence in ("epochs in a row: the divergence of posterior and prior", "against the raters' 0.423"):
        assert (sentence in caplog.text) == collapsed, sentence
    assert evaluator.state.metrics["val_qubiq_score"] > 0.7  # the share is learnt either way


def test_the_alarm_of_a_collapse_does_nothing_for_a_loss_without_bound(caplog):
    trainer = engine([elbo_output(0.0)], epochs=2)
    CollapseAlarm(torch.nn.BCEWithLogitsLoss(), patience=1).attach(trainer)
    trainer.validate()
    assert not caplog.records
