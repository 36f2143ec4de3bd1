"""Learning rates and checkpoints of trainings in two stages."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Engine, Events
from torch import nn

from monai_ext.handlers.training.stages import StageCheckpoints, StagedLearningRate
from monai_ext.storage.records import read_record


def rates(plan: StagedLearningRate, epoch_length: int, iterations: int) -> list[float]:
    engine = Engine(lambda engine, batch: None)
    plan.attach(engine)
    seen: list[float] = []
    engine.add_event_handler(Events.ITERATION_STARTED, lambda: seen.append(plan.optimizer.param_groups[0]["lr"]))
    engine.run(range(epoch_length), max_epochs=iterations // epoch_length)
    return seen


def test_learning_rates_follow_the_stages_iteration_by_iteration():
    optimizer = torch.optim.SGD([torch.zeros(1)], 1.0)
    plan = StagedLearningRate(optimizer, [(1, 0.0, "constant"), (0, 5.0, "constant"), (2, 0.4, "drop")])
    assert rates(plan, 2, 8) == pytest.approx([0, 0, 0.4, 0.4, 0.04, 0.04, 0.04, 0.04])


def test_one_cycle_rises_for_a_tenth_and_falls_to_a_hundredth():
    plan = StagedLearningRate(torch.optim.SGD([torch.zeros(1)], 1.0), [(10, 2.0, "one_cycle")])
    assert [plan.rate(epoch) for epoch in (0, 0.5, 1, 5.5, 10)] == pytest.approx([0.02, 1.01, 2.0, 1.01, 0.02])


def test_a_plateau_rises_in_its_warm_up_and_falls_in_the_last_two_fifths():
    plan = StagedLearningRate(torch.optim.SGD([torch.zeros(1)], 1.0), [(100, 2.0, "plateau")], warm_up=0.05)
    assert [plan.rate(e) for e in (0, 2.5, 5, 60, 80, 100)] == pytest.approx([0.02, 1.01, 2, 2, 1.01, 0.02])
    short = StagedLearningRate(torch.optim.SGD([torch.zeros(1)], 1.0), [(100, 2.0, "one_cycle")], warm_up=0.03)
    assert short.rate(3) == 2 and short.rate(1.5) == pytest.approx(1.01)
    bare = StagedLearningRate(torch.optim.SGD([torch.zeros(1)], 1.0), [(100, 2.0, "one_cycle")], warm_up=0)
    assert bare.rate(0) == 2
    with pytest.raises(ValueError, match="warm_up=1 is a share"):
        StagedLearningRate(torch.optim.SGD([torch.zeros(1)], 1.0), [(1, 2.0, "drop")], warm_up=1)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([(1, 0.1, "cosine")], "one of one_cycle, plateau, constant, drop"),
        ([(-1, 0.1, "drop")], "not negative"),
        ([(0, 0.1, "drop")], "have no epoch"),
    ],
)
def test_stages_without_sense_are_refused(stages, message):
    with pytest.raises(ValueError, match=message):
        StagedLearningRate(torch.optim.SGD([torch.zeros(1)], 1.0), stages)


def judged(folder, scores: list[dict], *, first: int = 1) -> nn.Module:
    """Validations from epoch `first` on, the network's bias being the epoch; stage one has two epochs."""
    network = nn.Linear(1, 1)
    handler = StageCheckpoints(network, folder, pretrain_epochs=2)
    for epoch, metrics in enumerate(scores, first):
        nn.init.constant_(network.bias, float(epoch))
        handler._judge(SimpleNamespace(state=SimpleNamespace(epoch=epoch, metrics=metrics)))
    return network


def epoch_of(path) -> int:
    return int(torch.load(path, weights_only=True)["bias"])


def test_stage_one_keeps_the_highest_psnr_and_stage_two_the_lowest_distance(tmp_path):
    psnr, distance = "val_psnr", "val_perceptual"
    judged(tmp_path, [{psnr: 25.0, distance: 0.1}, {psnr: 24.0, distance: 0.1}])
    assert epoch_of(tmp_path / "pretrained.pt") == epoch_of(tmp_path / "model.pt") == 1
    judged(tmp_path, [{psnr: 20.0, distance: d} for d in (0.3, 0.2, 0.25)], first=3)
    assert epoch_of(tmp_path / "pretrained.pt") == 1
    assert epoch_of(tmp_path / "model.pt") == 4
    assert read_record(tmp_path / "best.json", dict) == {
        "pretrained": {"epoch": 1, "score": psnr, "value": 25.0},
        "adversarial": {"epoch": 4, "score": distance, "value": 0.2},
    }


def test_without_a_perceptual_score_stage_two_keeps_the_latest_weights(tmp_path):
    judged(tmp_path, [{"val_psnr": 25.0}, {"val_psnr": 26.0}, {"val_psnr": 20.0}, {"val_psnr": 19.0}])
    assert epoch_of(tmp_path / "pretrained.pt") == 2
    assert epoch_of(tmp_path / "model.pt") == 4


def test_a_score_that_is_not_a_number_is_never_the_best(tmp_path):
    judged(tmp_path, [{"val_psnr": float("nan")}, {"val_psnr": 20.0}])
    assert epoch_of(tmp_path / "pretrained.pt") == 2


def test_a_resumed_run_has_to_beat_its_earlier_epochs_but_not_those_it_repeats(tmp_path):
    judged(tmp_path, [{"val_psnr": 25.0}, {"val_psnr": 26.0}])
    judged(tmp_path, [{"val_psnr": 25.5}], first=2)  # killed in epoch 2, after its best was recorded
    assert epoch_of(tmp_path / "pretrained.pt") == 2
    assert json.loads((tmp_path / "best.json").read_text())["pretrained"]["value"] == 25.5
    judged(tmp_path, [{"val_psnr": 20.0}], first=1)  # begun anew
    assert epoch_of(tmp_path / "pretrained.pt") == 1
