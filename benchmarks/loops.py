"""Training and validation loops to compare: bare, ours with the handlers of a bundle, and the usual MONAI bundle.

All make the same steps: Adam (fused), binary cross-entropy on logits, a learning rate that follows a schedule.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from ignite.engine import Events
from monai.engines import SupervisedEvaluator, SupervisedTrainer, Trainer
from monai.handlers import (
    CheckpointSaver,
    LrScheduleHandler,
    MeanDice,
    StatsHandler,
    TensorBoardStatsHandler,
    from_engine,
)
from monai.transforms import Activationsd, AsDiscreted, Compose
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from benchmarks.measure import Cost, Stopwatch
from monai_ext.engines import BatchEvaluator, BatchTrainer
from monai_ext.engines.precision import autocast
from monai_ext.handlers import (
    EpochTable,
    MainProcessWriter,
    MeanSegmentationScores,
    NonFiniteLossGuard,
    ResumeHandler,
    RunRecord,
    TrainingProgress,
)

LOSS = nn.BCEWithLogitsLoss()


class Parts:
    """What a training run needs beside its data, fresh: network on the device, optimiser and schedule."""

    def __init__(self, network: nn.Module, device: torch.device, *, channels_last: bool = True):
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.device = device
        self.network = network.to(device, memory_format=memory_format)
        self.optimizer = torch.optim.Adam(network.parameters(), 1e-3, fused=True)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, 10_000)


def bare_training(
    parts: Parts, batches: Iterable[dict[str, Tensor]], *, dtype: torch.dtype | None = None, channels_last: bool = True
) -> None:
    """One epoch as one writes it by hand; plain tensors.

    Args:
        dtype: of autocast; None: float32.
        channels_last: memory layout of the images.
    """
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    parts.network.train()
    for batch in batches:
        image = batch["image"].as_subclass(Tensor).contiguous(memory_format=memory_format)
        label = batch["label"].as_subclass(Tensor)
        parts.optimizer.zero_grad(set_to_none=True)
        with autocast(parts.device, dtype):
            logits = parts.network(image)
        LOSS(logits.float(), label).backward()
        parts.optimizer.step()
        parts.schedule.step()


def our_trainer(
    parts: Parts, batches: Iterable, *, epochs: int, folder: Path | None = None, **settings
) -> BatchTrainer:
    """Our trainer, with the handlers of the lesion bundle writing to `folder`; without a folder, with none.

    What a handler does for the model (averaged weights, sizes that grow) is left out: it is no overhead.
    """
    handlers = [] if folder is None else _our_handlers(parts, folder)
    handlers.append(LrScheduleHandler(parts.schedule, print_lr=False, epoch_level=False))
    return BatchTrainer(
        parts.device, epochs, batches, parts.network, parts.optimizer, LOSS, train_handlers=handlers, **settings
    )


def _our_handlers(parts: Parts, folder: Path) -> list:
    objects = {"network": parts.network, "optimizer": parts.optimizer, "lr_scheduler": parts.schedule}
    writer = MainProcessWriter(str(folder / "tensorboard"))

    def scalars(output: dict) -> dict[str, float]:
        return {"train_loss": output["loss"].item(), "learning_rate": parts.optimizer.param_groups[0]["lr"]}

    return [
        NonFiniteLossGuard(),
        ResumeHandler(folder / "last.pt", objects),
        EpochTable(folder / "epochs.csv", optimizer=parts.optimizer),
        TensorBoardStatsHandler(writer, iteration_log=10, epoch_log=False, output_transform=scalars),
        TrainingProgress(),
        RunRecord(folder / "run.json", {"seed": 0}, summary_writer=writer),
        _Closing(writer),
    ]


def usual_trainer(parts: Parts, batches: Iterable, *, epochs: int, folder: Path | None = None) -> SupervisedTrainer:
    """The trainer of a typical MONAI bundle, its handlers writing to `folder`; without a folder, with nothing added."""
    schedule = LrScheduleHandler(parts.schedule, print_lr=False, epoch_level=False)
    if folder is None:
        return SupervisedTrainer(
            parts.device,
            epochs,
            batches,
            parts.network,
            parts.optimizer,
            LOSS,
            train_handlers=[schedule],
            decollate=False,
        )
    writer = SummaryWriter(str(folder / "tensorboard"))
    loss_of_first = from_engine(["loss"], first=True)
    handlers = [
        schedule,
        StatsHandler(name=_log_to_memory(), tag_name="train_loss", output_transform=loss_of_first),
        TensorBoardStatsHandler(writer, tag_name="train_loss", output_transform=loss_of_first),
        CheckpointSaver(str(folder), {"network": parts.network, "optimizer": parts.optimizer}, save_interval=1),
        _Closing(writer),
    ]
    return SupervisedTrainer(
        parts.device,
        epochs,
        batches,
        parts.network,
        parts.optimizer,
        LOSS,
        postprocessing=_to_masks(),
        key_train_metric={"train_mean_dice": MeanDice(output_transform=from_engine(["pred", "label"]))},
        train_handlers=handlers,
    )


def our_evaluator(device: torch.device, batches: Iterable, network: nn.Module) -> BatchEvaluator:
    """Our evaluator: all scores, counted on whole batches."""
    metric = {"val_mean_dice": MeanSegmentationScores("dice", threshold=0)}
    return BatchEvaluator(device, batches, network, precision="fp32", key_val_metric=metric)


def usual_evaluator(device: torch.device, batches: Iterable, network: nn.Module) -> SupervisedEvaluator:
    """MONAI's evaluator as bundles set it up: items, post-processing, mean Dice."""
    metric = {"val_mean_dice": MeanDice(output_transform=from_engine(["pred", "label"]))}
    return SupervisedEvaluator(device, batches, network, postprocessing=_to_masks(), key_val_metric=metric)


@torch.no_grad()
def bare_validation(batches: Iterable[dict[str, Tensor]], network: nn.Module) -> None:
    """The forward passes alone."""
    network.eval()
    for batch in batches:
        network(batch["image"].as_subclass(Tensor).contiguous(memory_format=torch.channels_last))


def cost_of_last_epoch(trainer: Trainer) -> Cost:
    """Runs `trainer`; the cost of its last epoch with all that its handlers do then, but not of starting and ending."""
    watch, last = Stopwatch(torch.device(trainer.state.device)), trainer.state.max_epochs
    trainer.add_event_handler(Events.EPOCH_STARTED(once=last), watch.start)
    trainer.add_event_handler(Events.EPOCH_COMPLETED(once=last), watch.stop)
    trainer.run()
    return watch.cost


def _to_masks() -> Callable:
    return Compose([Activationsd("pred", sigmoid=True), AsDiscreted("pred", threshold=0.5)])


def _log_to_memory() -> str:
    """Name of a logger that formats and writes its lines where nobody sees them."""
    logger = logging.getLogger("benchmarks.usual_trainer")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    logger.handlers = [logging.StreamHandler(io.StringIO())]
    return logger.name


class _Closing:
    """Closes a TensorBoard writer, and its thread, when the run ends."""

    def __init__(self, writer: SummaryWriter):
        self.writer = writer

    def attach(self, engine: Trainer) -> None:
        engine.add_event_handler(Events.COMPLETED, self.writer.close)
