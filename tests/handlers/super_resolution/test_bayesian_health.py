"""The alarm of a collapsed latent, and scores of samples in validation."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from latent_toys import SCALE, Pairs, networks

from monai_ext.engines.bayesian import SampledEvaluator
from monai_ext.handlers.super_resolution.bayesian_health import LatentAlarm, SampleScores
from monai_ext.losses.energy import patch_energy
from monai_ext.transforms.degradation import Degradation


def watched(rows: list[dict[str, float]], alarm: LatentAlarm) -> None:
    """An engine of one iteration an epoch whose terms are `rows`."""
    made = Engine(
        lambda e, _: {"terms": {name: torch.tensor(value) for name, value in rows[e.state.epoch - 1].items()}}
    )
    alarm.attach(made)
    made.run([0], max_epochs=len(rows))


def test_the_alarm_speaks_after_patient_epochs_of_a_dead_latent_or_of_samples_alike(caplog):
    dead = {"kl_00": 0.001, "kl_01": 0.0, "sample_distance": 0.05, "sample_error": 0.05}
    alike = {"kl_00": 0.5, "kl_01": 0.1, "sample_distance": 0.001, "sample_error": 0.05}
    alive = {"kl_00": 0.5, "kl_01": 0.0, "sample_distance": 0.04, "sample_error": 0.05}
    written = []
    writer = SimpleNamespace(add_scalar=lambda *row: written.append(row))
    with caplog.at_level(logging.WARNING):
        watched([dead, dead, alive, alike, alike, alike, alive], LatentAlarm(patience=2, summary_writer=writer))
    sentences = [record.getMessage() for record in caplog.records]
    assert len(sentences) == 2
    assert "after epoch 2" in sentences[0] and "latent has collapsed" in sentences[0] and "0.0010" in sentences[0]
    assert "after epoch 5" in sentences[1] and "2.0%" in sentences[1] and "--energy_weight" in sentences[1]
    curves = {(name, step): value for name, value, step in written}
    assert curves["health/active_latents", 3] == 1 and curves["health/active_latents", 1] == 0
    assert curves["health/sample_share", 3] == pytest.approx(0.8)
    with pytest.raises(ValueError, match="patience=0"):
        LatentAlarm(patience=0)


def test_validation_scores_its_samples_and_draws_the_same_ones_in_every_run():
    network, _ = networks()
    with torch.no_grad():
        for layer in (network.texture[-1], network.generator.tail[0]):
            layer.weight.normal_(0, 0.1)
    evaluator = SampledEvaluator("cpu", Pairs(), network, samples=3, precision="fp32")
    SampleScores(degradation=Degradation(SCALE), perceptual=lambda a, b: (a - b).abs().flatten(1).mean(1)).attach(
        evaluator
    )
    outputs = []
    evaluator.add_event_handler(Events.ITERATION_COMPLETED, lambda e: outputs.append(dict(e.state.output)))
    evaluator.run()
    first = dict(evaluator.state.metrics)
    evaluator.run()
    assert evaluator.state.metrics == first
    samples, labels, predictions = (torch.cat([o[key] for o in outputs[:2]]) for key in ("samples", "label", "pred"))
    assert samples.shape == (4, 3, 3, 16, 16)
    error, distance = patch_energy(samples, labels)
    energy = (error - distance / 2).mean().item()
    assert first["val_energy_db"] == pytest.approx(-20 * np.log10(energy), abs=1e-3)
    point = patch_energy(torch.stack([predictions] * 2, 1), labels)[0].mean().item()  # a set of equal answers
    assert first["val_energy_gain_db"] == pytest.approx(20 * np.log10(point / energy), abs=1e-2)
    assert first["val_sample_perceptual"] == pytest.approx((samples[:, 0] - labels).abs().mean().item(), abs=1e-5)
    assert first["val_sample_lr_psnr"] > 40 and 0 < first["val_sample_share"] < 1.5


def test_samples_are_rounded_to_the_levels_of_each_tile():
    samples = torch.rand(2, 2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    low_res = Degradation(SCALE).reduce(samples[:, 0])
    output = {
        "image": low_res,
        "label": samples[:, 0],
        "pred": samples[:, 0],
        "samples": samples[:, :1].repeat(1, 2, 1, 1, 1),
    }
    found = []
    for levels in ({}, {"levels": torch.tensor([65535, 65535])}):
        engine = SimpleNamespace(state=SimpleNamespace(output=output | levels, metrics={}))
        scores = SampleScores(degradation=Degradation(SCALE))
        scores.collect(engine)
        scores.finish(engine)
        found.append(engine.state.metrics["val_sample_lr_psnr"])
    assert 60 < found[0] < found[1] - 20
