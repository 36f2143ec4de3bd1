"""Steps recorded and replayed are the steps of the ordinary trainer; a tape on the CPU stands in for CUDA's graphs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from ignite.engine import Events
from monai.engines.utils import IterationEvents
from monai.handlers import LrScheduleHandler
from tape import TapeRecorder
from torch import Tensor, nn

from benchmarks.measure import CountOperations
from monai_ext.data import DeviceDataset, DeviceLoader
from monai_ext.engines import BatchTrainer, ModelEMA, graphs
from monai_ext.handlers import ProgressiveSize, ResumeHandler
from monai_ext.transforms import BatchAugment, RandomAffine, RandomColour, RandomFlip, RandomNoise

CPU = torch.device("cpu")
RATE = 2.0**-7  # a float32 number, as are its halves: the recorded steps are to be the ordinary ones to the last bit
LOSS = nn.BCEWithLogitsLoss()
OPTIMIZERS: dict[str, tuple[Callable, str]] = {
    "adam": (lambda weights: torch.optim.Adam(weights, RATE, fused=True), ""),
    "adamw": (lambda weights: torch.optim.AdamW(weights, RATE, weight_decay=0.5, fused=True), ""),
    "sgd": (lambda weights: torch.optim.SGD(weights, RATE, momentum=0.5, fused=True), ""),
    "sgd_outside": (
        lambda weights: torch.optim.SGD(weights, RATE, momentum=0.5, fused=False),
        "since SGD is not known",
    ),
}


def small_net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 1, 1))


def loader_of(count: int = 16, *, drop_last: bool = True, **augmentation) -> DeviceLoader:
    """Batches of four pictures, drawn, shuffled and augmented."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, 8, 8), dtype=torch.uint8, generator=generator)
    items = [{"id": f"p{i}", "image": image, "label": (image[:1] > 127).byte()} for i, image in enumerate(images)]
    augment = BatchAugment(
        [RandomFlip(), RandomAffine(rotate=90), RandomColour(0.2, 0.2), RandomNoise(0.1)], **augmentation
    )
    dataset = DeviceDataset(items, dict, progress=False, num_workers=0)
    return DeviceLoader(dataset, 4, shuffle=True, drop_last=drop_last, seed=3, transform=augment)


class Run:
    """A training run of small things; `graph` by the tape, else ordinary."""

    def __init__(
        self,
        graph: bool,
        *,
        loader=None,
        epochs: int = 3,
        optimizer: Callable = OPTIMIZERS["adam"][0],
        schedule: Callable | None = None,
        average: bool = False,
        handlers: tuple = (),
        loss: Callable = LOSS,
        **settings,
    ):
        self.network = small_net()
        self.optimizer = optimizer(self.network.parameters())
        self.average = ModelEMA(self.network, 0.9) if average else None
        halves = torch.optim.lr_scheduler.StepLR(self.optimizer, 2, gamma=0.5)
        self.schedule = schedule(self.optimizer) if schedule else halves
        self.losses: list[Tensor] = []
        self.ids: list[list[str]] = []
        TapeRecorder.live = self.live
        self.trainer = BatchTrainer(
            CPU,
            epochs,
            loader_of() if loader is None else loader,
            self.network,
            self.optimizer,
            loss,
            average=self.average,
            cuda_graph=graph,
            precision=settings.pop("precision", "fp32"),
            train_handlers=[*handlers, LrScheduleHandler(self.schedule, print_lr=False, epoch_level=False)],
            **settings,
        )
        self.trainer.add_event_handler(Events.ITERATION_COMPLETED, self.look)

    def live(self) -> list[Tensor]:
        states = [self.network.state_dict(), *self.optimizer.state.values()]
        states += [self.average.state_dict()] if self.average else []
        return [value for state in states for value in state.values() if isinstance(value, Tensor)]

    def look(self, engine: BatchTrainer) -> None:
        self.losses.append(engine.state.output["loss"].detach())
        self.ids.append(list(engine.state.batch.get("id", ())))

    def run(self) -> Run:
        self.trainer.run()
        return self


@pytest.fixture(autouse=True)
def tape(monkeypatch: pytest.MonkeyPatch) -> type[TapeRecorder]:
    monkeypatch.setattr(graphs, "CudaRecorder", TapeRecorder)
    return TapeRecorder


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == graphs.__name__ and r.levelno == logging.WARNING]


def assert_same_run(ours: Run, theirs: Run) -> None:
    torch.testing.assert_close(ours.network.state_dict(), theirs.network.state_dict(), rtol=0, atol=0)
    assert torch.stack(ours.losses).tolist() == torch.stack(theirs.losses).tolist()
    assert ours.ids == theirs.ids


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_replayed_steps_are_the_ordinary_ones(name: str, tape: type[TapeRecorder], caplog) -> None:
    optimizer, sentence = OPTIMIZERS[name]
    theirs = Run(False, optimizer=optimizer).run()
    ours = Run(True, optimizer=optimizer).run()
    assert_same_run(ours, theirs)
    assert (tape.recorder.recordings, tape.recorder.replays) == (1, 12 - graphs.WARM_UPS)
    assert [sentence in text for text in warnings_of(caplog)] == ([True] if sentence else [])


def test_batches_are_augmented_inside_the_recording_by_the_draws_of_their_epoch() -> None:
    images: dict[bool, list[Tensor]] = {False: [], True: []}
    for graph, seen in images.items():
        run = Run(graph)
        run.trainer.add_event_handler(
            Events.ITERATION_COMPLETED, lambda engine, seen=seen: seen.append(engine.state.output["image"].clone())
        )
        run.run()
    assert len(images[True]) == 12
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(images[True], images[False], strict=True))


def test_average_clipping_and_bfloat16_are_recorded_with_the_step() -> None:
    settings = {"average": True, "max_grad_norm": 0.1, "precision": "bf16"}
    theirs, ours = (Run(graph, **settings).run() for graph in (False, True))
    assert_same_run(ours, theirs)
    # The ordinary average is one operation and rounds once; the recorded one, with its weight in a tensor, twice.
    torch.testing.assert_close(ours.average.state_dict(), theirs.average.state_dict(), rtol=1e-5, atol=1e-6)


def test_batches_of_another_size_have_a_recording_of_their_own(tape: type[TapeRecorder]) -> None:
    theirs, ours = (Run(graph, loader=loader_of(10, drop_last=False), epochs=5).run() for graph in (False, True))
    assert_same_run(ours, theirs)
    assert tape.recorder.recordings == 2


def test_growing_images_are_recorded_anew(tape: type[TapeRecorder]) -> None:
    def run(graph: bool) -> Run:
        loader = loader_of()
        sizes = ProgressiveSize([loader.transform], (8, 8), [[0, 0.5], [0.5, 1]])
        return Run(graph, loader=loader, epochs=4, handlers=(sizes,)).run()

    assert_same_run(run(True), run(False))
    assert (tape.recorder.recordings, tape.recorder.replays) == (2, 16 - 2 * graphs.WARM_UPS)


def test_weights_that_begin_to_learn_later_are_recorded_anew(tape: type[TapeRecorder]) -> None:
    def run(graph: bool) -> Run:
        run = Run(graph, epochs=4)
        run.network[0].requires_grad_(False)
        unfreeze = Events.EPOCH_STARTED(once=3)
        run.trainer.add_event_handler(unfreeze, lambda: run.network[0].requires_grad_(True))
        return run.run()

    assert_same_run(run(True), run(False))
    assert tape.recorder.recordings == 2


def test_a_weight_of_the_loss_that_is_annealed_is_recorded_anew(tape: type[TapeRecorder]) -> None:
    class Weighted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = 0.0

        def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
            return LOSS(prediction, target) + self.weight * prediction.square().mean()

    def run(graph: bool) -> Run:
        loss = Weighted()
        run = Run(graph, epochs=4, loss=loss)

        def anneal() -> None:
            loss.weight = 0.5

        run.trainer.add_event_handler(Events.EPOCH_STARTED(once=3), anneal)
        return run.run()

    assert_same_run(run(True), run(False))
    assert tape.recorder.recordings == 2


def test_prepared_batches_of_any_loader_are_copied_into_the_recording(tape: type[TapeRecorder]) -> None:
    batches = [{key: batch[key] for key in ("image", "label")} for batch in loader_of()]
    theirs, ours = (Run(graph, loader=batches).run() for graph in (False, True))
    assert_same_run(ours, theirs)
    assert tape.recorder.replays == 12 - graphs.WARM_UPS


def test_resumed_run_with_graphs_is_the_uninterrupted_ordinary_one(tmp_path: Path) -> None:
    def run(graph: bool, epochs: int, resume: bool) -> Run:
        run = Run(graph, epochs=epochs)
        objects = {"network": run.network, "optimizer": run.optimizer, "lr_scheduler": run.schedule}
        ResumeHandler(tmp_path / f"{graph}.pt", objects, resume=resume).attach(run.trainer)
        return run.run()

    run(True, 2, False)
    resumed, straight = run(True, 4, True), run(False, 4, False)
    assert resumed.trainer.state.iteration == 16
    torch.testing.assert_close(resumed.network.state_dict(), straight.network.state_dict(), rtol=0, atol=0)
    assert resumed.optimizer.state_dict()["param_groups"] == straight.optimizer.state_dict()["param_groups"]


def test_momentum_that_cycles_takes_the_optimiser_out_and_says_so(tape: type[TapeRecorder], caplog) -> None:
    def cycle(optimizer):
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=12)

    theirs, ours = (Run(graph, schedule=cycle, average=True).run() for graph in (False, True))
    # Not to the last bit: the first step was still taken with a learning rate in float32.
    torch.testing.assert_close(ours.network.state_dict(), theirs.network.state_dict(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(ours.average.state_dict(), theirs.average.state_dict(), rtol=1e-5, atol=1e-6)
    assert tape.recorder.replays == 12 - graphs.WARM_UPS - 1  # it shows at the second step
    (sentence,) = warnings_of(caplog)
    assert "since its betas changed between two steps (with OneCycleLR set cycle_momentum=False)" in sentence


def test_a_step_that_waits_for_the_device_is_not_recorded(tape: type[TapeRecorder], caplog) -> None:
    def waiting(prediction: Tensor, target: Tensor) -> Tensor:
        return LOSS(prediction, target) * (1.0 if prediction.mean().item() > -1e9 else 2.0)

    theirs, ours = (Run(graph, loss=waiting, average=True).run() for graph in (False, True))
    assert_same_run(ours, theirs)
    assert int(ours.average.n_averaged) == 12
    assert (tape.recorder.recordings, tape.recorder.replays) == (0, 0)
    (sentence,) = warnings_of(caplog)
    assert "cannot be recorded as a CUDA graph (operation not permitted when stream is capturing)" in sentence


def test_steps_that_are_never_alike_are_not_recorded_and_it_is_said_once(
    tape: type[TapeRecorder], caplog, monkeypatch
) -> None:
    monkeypatch.setattr(graphs, "MOST_KINDS", 3)

    def run(graph: bool) -> Run:
        loader = loader_of()
        run = Run(graph, loader=loader)

        @run.trainer.on(Events.GET_BATCH_STARTED)
        def resize(engine):
            loader.transform.spatial_size = (4 + engine.state.iteration, 8)

        return run.run()

    assert_same_run(run(True), run(False))
    assert tape.recorder.recordings == 0
    (sentence,) = warnings_of(caplog)
    assert sentence.startswith("steps of more than 3 kinds were seen")


@pytest.mark.parametrize("event", graphs.WITHIN_STEP)
def test_handlers_within_the_step_are_called_and_nothing_is_recorded(event: IterationEvents, caplog) -> None:
    run, calls = Run(True), []
    run.trainer.add_event_handler(event, lambda: calls.append(1))
    run.run()
    assert len(calls) == 12 and not run.trainer.graphed.active
    assert warnings_of(caplog) == [
        f"no CUDA graph, since handlers of {event.name} are to be called in the middle of each step: "
        "steps are taken as without cuda_graph."
    ]


def test_several_processes_record_nothing(caplog, monkeypatch) -> None:
    monkeypatch.setattr(graphs, "is_distributed", lambda: True)
    assert not Run(True).run().trainer.graphed.active
    (sentence,) = warnings_of(caplog)
    assert "several processes exchange gradients" in sentence


def test_without_cuda_one_sentence_says_so_and_the_steps_are_the_ordinary_ones(caplog, monkeypatch) -> None:
    monkeypatch.undo()  # CUDA's own recorder
    theirs, ours = (Run(graph).run() for graph in (False, True))
    assert_same_run(ours, theirs)
    assert warnings_of(caplog) == ["no CUDA graph, since a cpu device has none: steps are taken as without cuda_graph."]


def test_a_replayed_step_asks_little_of_the_host(tape: type[TapeRecorder], monkeypatch) -> None:
    run = Run(True, average=True)
    count = CountOperations()

    def without_replay(recorder, work):
        return (lambda: None), work()

    monkeypatch.setattr(TapeRecorder, "record", without_replay)
    run.trainer.add_event_handler(Events.ITERATION_STARTED(once=12), lambda: count.__enter__())
    run.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=12), lambda: count.__exit__(None, None, None))
    run.run()
    # Inputs; learning rate; weight of the average, and its counter; a loss of its own.
    assert sorted(name.split("::")[1] for name in count.names) == sorted(
        ["_foreach_copy_", "fill_.Scalar", "fill_.Scalar", "_local_scalar_dense", "add_.Tensor", "clone"]
    )


def test_the_groups_of_the_optimiser_show_the_hosts_numbers(tape: type[TapeRecorder]) -> None:
    run = Run(True).run()
    (group,) = run.optimizer.param_groups
    assert group["lr"] == RATE / 2**6 and isinstance(group["lr"], float)
    assert group["capturable"] is False


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_records_what_the_tape_does(monkeypatch) -> None:
    monkeypatch.undo()
    weights = {}
    for graph in (False, True):
        loader = loader_of()
        dataset = DeviceDataset(
            [loader.dataset[i] for i in range(16)], dict, device="cuda", progress=False, num_workers=0
        )
        loader = DeviceLoader(dataset, 4, shuffle=True, drop_last=True, seed=3, transform=loader.transform)
        net = small_net().cuda()
        average = ModelEMA(net, 0.9)
        optimizer = torch.optim.Adam(net.parameters(), RATE, fused=True)
        BatchTrainer("cuda", 3, loader, net, optimizer, LOSS, average=average, precision="fp32", cuda_graph=graph).run()
        weights[graph] = average.module.state_dict()
    torch.testing.assert_close(weights[True], weights[False], rtol=1e-3, atol=1e-5)
