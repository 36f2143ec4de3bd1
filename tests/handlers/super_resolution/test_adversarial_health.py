"""Alarms of adversarial training."""

from __future__ import annotations

import logging
import re

import pytest
import torch
from ignite.engine import Engine

from monai_ext.handlers.super_resolution.adversarial_health import (
    AdversarialAlarm,
    detail_ratios,
)


def epoch_of_outputs(handler, outputs: list[dict], *, epochs: int = 1) -> None:
    engine = Engine(lambda engine, batch: batch)
    handler.attach(engine)
    engine.run(outputs, max_epochs=epochs)


def output(*, real: float = 0.7, fake: float = 0.3, kind: str = "working") -> dict:
    label = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    images = {
        "working": label * 0.8,
        "blank": label.mean((2, 3), keepdim=True).expand_as(label),
        "constant": label[:1].expand_as(label),
    }
    terms = {"real_score": torch.tensor(real), "fake_score": torch.tensor(fake)}
    return {"pred": images[kind], "label": label, "terms": terms}


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        ({"real": 0.999, "fake": 0.001}, "the discriminator is saturated, its mean probability 'real' is 0.999"),
        ({"real": 0.451, "fake": 0.449}, "does not distinguish real images from fakes, .* is 0.451 and 0.449"),
        ({"kind": "blank"}, "the generator's images are blank, with 0.0% of the contrast"),
        ({"kind": "constant"}, "nearly the same image for every input, with 0.0% of the variety"),
    ],
)
def test_alarms_ring_after_as_many_epochs_as_patience_has_and_not_for_a_working_game(broken, sentence, caplog):
    caplog.set_level(logging.WARNING)
    epoch_of_outputs(AdversarialAlarm(patience=2, interval=1), [output()], epochs=5)
    epoch_of_outputs(AdversarialAlarm(patience=2, interval=1), [output(**broken)], epochs=1)
    assert not caplog.records
    epoch_of_outputs(AdversarialAlarm(patience=2, interval=1), [output(**broken)], epochs=3)
    (record,) = caplog.records
    assert re.search(sentence, record.getMessage())
    assert "after epoch 2, for 2 epochs in a row" in caplog.text


def test_nobody_is_blind_before_there_is_a_discriminator(caplog):
    before = output()
    before["terms"].clear()
    epoch_of_outputs(AdversarialAlarm(patience=1, interval=1), [before])
    assert not caplog.records


def test_an_epoch_shorter_than_the_interval_is_judged_by_its_last_step(caplog):
    epoch_of_outputs(AdversarialAlarm(patience=1, interval=100), [output(), output(kind="blank")])
    assert "blank" in caplog.text


def test_detail_is_measured_within_images_and_among_them():
    label = output()["label"]
    torch.testing.assert_close(detail_ratios(0.5 * label, label), torch.tensor([0.5, 0.5]))
    assert detail_ratios(label[:1], label[:1]).tolist() == [1.0, 1.0]


def test_senseless_alarms_are_refused():
    for settings in ({"gap": 0}, {"chance": 1.0}, {"detail": -0.1}):
        ((name, value),) = settings.items()
        with pytest.raises(ValueError, match=f"{name}={value}"):
            AdversarialAlarm(**settings)
