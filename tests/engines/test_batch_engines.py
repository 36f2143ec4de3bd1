"""Trainer and evaluator of whole batches against MONAI's."""

from __future__ import annotations

import copy

import pytest
import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.handlers import MeanDice, from_engine
from small_batches import Batches, network
from torch import nn

from monai_ext.engines import BatchEvaluator, BatchTrainer
from monai_ext.handlers import MeanSegmentationScores

CPU = torch.device("cpu")


def trained(trainer_class, **kwargs) -> tuple[nn.Module, object]:
    net = network()
    trainer = trainer_class(
        CPU, 3, Batches(), net, torch.optim.SGD(net.parameters(), 0.1, momentum=0.9), nn.BCEWithLogitsLoss(), **kwargs
    )
    trainer.run()
    return net, trainer


def test_lean_trainer_in_float32_takes_the_steps_of_monais_trainer():
    ours, _ = trained(BatchTrainer, precision="fp32")
    theirs, _ = trained(SupervisedTrainer)
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(value, theirs.state_dict()[name], rtol=1e-4, atol=1e-6)


def test_lean_trainer_keeps_batches_whole_and_the_loss_a_tensor():
    _, trainer = trained(BatchTrainer)
    assert trainer.state.output["pred"].shape == (4, 1, 8, 8)
    assert trainer.state.output["loss"].ndim == 0


def test_the_loader_is_told_each_epoch_counting_from_zero():
    _, trainer = trained(BatchTrainer)
    assert trainer.data_loader.epochs == [0, 1, 2]


def test_bf16_computes_in_bfloat16_and_returns_float32_logits():
    seen = []

    def spy(module, inputs, output):
        seen.append(output.dtype)

    net = network()
    net[0].register_forward_hook(spy)
    trainer = BatchTrainer(
        CPU, 1, Batches(), net, torch.optim.SGD(net.parameters(), 0.1), nn.BCEWithLogitsLoss(), precision="bf16"
    )
    trainer.run()
    assert set(seen) == {torch.bfloat16}
    assert trainer.state.output["pred"].dtype == torch.float32


def test_gradient_clipping_bounds_the_step():
    net = network()
    before = copy.deepcopy(net.state_dict())
    optimizer = torch.optim.SGD(net.parameters(), 1.0)
    trainer = BatchTrainer(CPU, 1, Batches(), net, optimizer, nn.BCEWithLogitsLoss(), max_grad_norm=1e-3)
    trainer.run()
    moved = sum(((p - before[n]) ** 2).sum() for n, p in net.named_parameters()).sqrt()
    assert 0 < moved <= 3 * 1e-3 * 1.001  # three steps, each at most 1e-3 long


def test_validation_gives_the_dice_of_monais_evaluator_to_1e_6():
    net = network(3)
    with torch.no_grad():
        net[-1].bias.sub_(0.24)  # logits of both signs
    theirs = SupervisedEvaluator(
        CPU,
        Batches(1),
        net,
        postprocessing=lambda data: data | {"pred": (data["pred"] > 0).float()},
        key_val_metric={"dice": MeanDice(output_transform=from_engine(["pred", "label"]))},
    )
    metric = {"dice": MeanSegmentationScores("dice", threshold=0)}
    ours = BatchEvaluator(CPU, Batches(1), net, precision="fp32", key_val_metric=metric)
    theirs.run()
    ours.run()
    assert ours.state.metrics["dice"] == pytest.approx(theirs.state.metrics["dice"], abs=1e-6)


def test_all_scores_reach_the_metrics_under_the_key_metrics_prefix():
    metric = {"val_mean_dice": MeanSegmentationScores("dice", threshold=0)}
    evaluator = BatchEvaluator(CPU, Batches(), network(), key_val_metric=metric)
    evaluator.run()
    assert {"val_mean_dice", "val_mean_jaccard", "val_mean_precision"} <= set(evaluator.state.metrics)
    assert evaluator.state.best_metric == evaluator.state.metrics["val_mean_dice"]


def test_unknown_score_is_refused():
    with pytest.raises(ValueError, match="key='f1' is not a segmentation score"):
        MeanSegmentationScores("f1", threshold=0)


def test_trainer_fires_monais_iteration_events_in_order():
    fired = []
    net = network()
    trainer = BatchTrainer(CPU, 1, Batches(), net, torch.optim.SGD(net.parameters(), 0.1), nn.BCEWithLogitsLoss())
    names = ("FORWARD_COMPLETED", "LOSS_COMPLETED", "BACKWARD_COMPLETED", "MODEL_COMPLETED")
    for name in names:
        trainer.add_event_handler(getattr(IterationEvents, name), lambda engine, name=name: fired.append(name))
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: engine.terminate())
    trainer.run()
    assert tuple(fired[:4]) == names


def test_gradient_accumulation_is_refused_rather_than_ignored():
    with pytest.raises(ValueError, match="accumulation_steps=4: each batch is a step here"):
        trained(BatchTrainer, accumulation_steps=4)


def test_network_goes_back_to_training_after_each_validation():
    modes = []
    net = network()
    trainer = BatchTrainer(CPU, 2, Batches(), net, torch.optim.SGD(net.parameters(), 0.1), nn.BCEWithLogitsLoss())
    net[1].register_forward_hook(lambda module, inputs, output: modes.append(module.training))
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: net.eval())
    net.eval()
    trainer.run()
    assert modes == [True] * 6


def test_loss_with_a_value_for_each_sample_is_averaged():
    losses = {}
    for reduction in ("mean", "none"):
        net = network()
        optimizer = torch.optim.SGD(net.parameters(), 0.1)
        loss = nn.BCEWithLogitsLoss(reduction=reduction)
        trainer = BatchTrainer(CPU, 1, Batches(), net, optimizer, loss, precision="fp32")
        trainer.run()
        losses[reduction] = trainer.state.output["loss"]
    torch.testing.assert_close(losses["none"], losses["mean"])
    assert losses["none"].ndim == 0


def test_events_that_no_handler_waits_for_cost_nothing(monkeypatch):
    fired = []
    fire = Engine._fire_event

    def spy(engine, event_name, *args, **kwargs):
        fired.append(event_name)
        return fire(engine, event_name, *args, **kwargs)

    net = network()
    trainer = BatchTrainer(CPU, 3, Batches(), net, torch.optim.SGD(net.parameters(), 0.1), nn.BCEWithLogitsLoss())
    monkeypatch.setattr(Engine, "_fire_event", spy)
    monkeypatch.setattr(Engine, "_assert_allowed_event", lambda engine, event: pytest.fail(f"{event} was looked up"))
    trainer.run()
    assert set(fired) == {Events.EPOCH_STARTED}  # set_epoch of the loader
    assert trainer.last_event_name == Events.COMPLETED


def test_handlers_of_every_event_are_called():
    events = [*Events, *IterationEvents]
    called = {}
    for trainer_class in (BatchTrainer, SupervisedTrainer):
        net, names = network(), []
        optimizer = torch.optim.SGD(net.parameters(), 0.1)
        kwargs = {"decollate": False} if trainer_class is SupervisedTrainer else {}
        trainer = trainer_class(CPU, 2, Batches(), net, optimizer, nn.BCEWithLogitsLoss(), **kwargs)
        for event in events:
            trainer.add_event_handler(event, lambda *args, names=names, event=event: names.append(event))
        trainer.run()
        called[trainer_class] = names
    assert called[BatchTrainer] == called[SupervisedTrainer] and len(called[BatchTrainer]) > 6 * 8


@pytest.mark.parametrize("off", [False, None, "false"])
def test_nothing_is_compiled_unless_a_mode_is_given(off):
    net, trainer = trained(BatchTrainer, compile=off)
    assert not trainer.compiled and net._compiled_call_impl is None


def test_a_compiled_network_trains_as_an_eager_one(monkeypatch):
    modes, compile_ = [], nn.Module.compile

    def traced(module, *, mode):
        modes.append(mode)
        compile_(module, backend="aot_eager")  # forward and backward traced as in every mode, without a C++ compiler

    monkeypatch.setattr(nn.Module, "compile", traced)
    eager, _ = trained(BatchTrainer, precision="fp32", max_grad_norm=0.5)
    compiled, trainer = trained(BatchTrainer, precision="fp32", max_grad_norm=0.5, compile="reduce-overhead")
    assert modes == ["reduce-overhead"] and trainer.compiled
    assert_close = torch.testing.assert_close
    assert_close(compiled.state_dict(), eager.state_dict(), rtol=1e-5, atol=1e-6)  # and by the same names
    with torch.no_grad():
        assert_close(
            compiled.eval()(torch.ones(1, 1, 8, 8)), eager.eval()(torch.ones(1, 1, 8, 8)), rtol=1e-4, atol=1e-5
        )


def test_unknown_modes_of_compilation_are_refused():
    with pytest.raises(ValueError, match="compile=True: choose false or one of default, reduce-overhead"):
        trained(BatchTrainer, compile=True)
