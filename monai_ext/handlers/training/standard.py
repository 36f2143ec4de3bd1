"""One handler for what all bundles' trainings share: guard, schedule, curves, tables, records and checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from ignite.engine import Events
from monai.handlers import LrScheduleHandler, StatsHandler, TensorBoardStatsHandler
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from monai_ext.engines.batches import count_items
from monai_ext.handlers.engine import Engine
from monai_ext.handlers.training.checkpoints import BestCheckpoint, FinalCheckpoint, NonFiniteLossGuard, ResumeHandler
from monai_ext.handlers.training.curves import TrainingCurves
from monai_ext.handlers.training.identity import RunIdentity
from monai_ext.handlers.training.records import EpochTable, RunRecord, TrainingProgress
from monai_ext.handlers.training.served import ServedWeights
from monai_ext.handlers.training.tensorboard import LAYOUT, MainProcessWriter, write_validation
from monai_ext.runtime.hosts import in_monai_label
from monai_ext.runtime.run_folders import LAST_CHECKPOINT

__all__ = ["Handler", "Part", "StandardTraining"]


class Handler(Protocol):
    """Anything that can be attached to an engine."""

    def attach(self, engine: Any) -> None: ...


Part = Handler | Literal["standard"] | None


class StandardTraining:
    """Watches, shows, records and saves a training run in `output_dir`; for the trainer, after `ValidationHandler`.

    The trainer gets, in this order: `guard` (`NonFiniteLossGuard`), an iteration-wise `LrScheduleHandler` where there
    is an `lr_scheduler`, `table` (`EpochTable`, epochs.csv), `saved` (`ResumeHandler`, last.pt), `final`
    (`FinalCheckpoint`, final.pt), `curves` (`TrainingCurves`), `progress` (`TrainingProgress`) and `record`
    (`RunRecord`, run.json); in MONAI Label also `ServedWeights`. The evaluator gets, after its own handlers,
    `StatsHandler` and `TensorBoardStatsHandler`, and `best` (`BestCheckpoint`, model.pt). Each part named here can be
    replaced by another handler, or left out with None. `summary_writer` is closed at the end.

    What a resumed run needs is taken from the trainer, a `BatchTrainer`: network, average (whose `.module` is what is
    saved as weights) and optimiser.

    Args:
        output_dir: folder of the run.
        evaluator: the validation engine.
        summary_writer: of TensorBoard; None: one for `output_dir`/tensorboard. Both engines get it as an attribute, for
            handlers of their own.
        lr_scheduler: stepped in every iteration.
        unit: what an item of the data is called; the settings in run.json then count training_<unit>,
            validation_<unit> and those of the other `parts`.
        settings, counts: further settings for run.json, see `RunRecord`.
        parts: name -> items of further parts that are held out, for run.json, see `RunIdentity`.
        resume: continue from last.pt.
        interval: iterations between two readings of the loss.

    Raises (when attached):
        ValueError: the trainer has no network, average or optimiser.
    """

    def __init__(
        self,
        output_dir: str | Path,
        *,
        evaluator: Engine,
        summary_writer: SummaryWriter | None = None,
        lr_scheduler: Any = None,
        unit: str | None = None,
        settings: Mapping[str, Any] | None = None,
        counts: Mapping[str, Sized] | None = None,
        parts: Mapping[str, Sequence[Mapping]] | None = None,
        resume: bool | str = False,
        interval: int = 10,
        guard: Part = "standard",
        table: Part = "standard",
        saved: Part = "standard",
        final: Part = "standard",
        curves: Part = "standard",
        progress: Part = "standard",
        record: Part = "standard",
        best: Part = "standard",
    ):
        self.folder, self.evaluator = Path(output_dir), evaluator
        self.summary_writer = summary_writer or MainProcessWriter(str(self.folder / "tensorboard"))
        self.lr_scheduler, self.unit, self.resume, self.interval = lr_scheduler, unit, resume, interval
        self.settings, self.counts, self.parts = settings, dict(counts or {}), parts
        self.handlers: dict[str, Part] = {
            "guard": guard, "table": table, "saved": saved, "final": final, "curves": curves, "progress": progress,
            "record": record, "best": best,
        }  # fmt: skip

    def attach(self, engine: Engine) -> None:
        state = self.state_of(engine)
        for each in (engine, self.evaluator):
            each.summary_writer, each.curve_step = self.summary_writer, lambda: engine.state.iteration
        self.summary_writer.add_custom_scalars(LAYOUT)
        for target, handlers in (
            (engine, self.of_trainer(engine, state)),
            (self.evaluator, self.of_evaluator(engine, state)),
        ):
            for handler in handlers:
                if handler is not None:
                    handler.attach(target)
        engine.add_event_handler(Events.COMPLETED, self.summary_writer.close)

    def state_of(self, engine: Engine) -> dict[str, Any]:
        """Name -> what has a state: "network", "average", "optimizer", and "lr_scheduler" where there is one."""
        state = {name: getattr(engine, name, None) for name in ("network", "average", "optimizer")}
        if missing := [name for name, part in state.items() if part is None]:
            raise ValueError(
                f"the trainer {type(engine).__name__} has no {missing[0]}: use monai_ext.engines.BatchTrainer, with an "
                "average of its network's weights."
            )
        if isinstance(network := state["network"], nn.parallel.DistributedDataParallel):
            state["network"] = network.module
        return state if self.lr_scheduler is None else state | {"lr_scheduler": self.lr_scheduler}

    def counts_of(self, engine: Engine) -> dict[str, Sized]:
        """The further counts, and, with a unit, those of both loaders and of the further parts that have items."""
        if self.unit is None:
            return self.counts
        loaders = {"training": engine.data_loader, "validation": self.evaluator.data_loader}
        counts: dict[str, Sized] = {name: range(count_items(loader)) for name, loader in loaders.items()}
        counts |= {name: items for name, items in (self.parts or {}).items() if items and name not in loaders}
        return {f"{name}_{self.unit}": items for name, items in counts.items()} | self.counts

    def of_trainer(self, engine: Engine, state: Mapping[str, Any]) -> list[Handler | None]:
        """What the trainer gets."""
        folder, evaluator, writer = self.folder, self.evaluator, self.summary_writer
        optimizers = {name: part for name, part in state.items() if isinstance(part, torch.optim.Optimizer)}
        scheduler, average, interval = self.lr_scheduler, state["average"].module, self.interval
        identity = RunIdentity(self.settings, counts=self.counts_of(engine), evaluator=evaluator, parts=self.parts)
        resuming: dict[str, Any] = {"evaluator": evaluator, "resume": self.resume, "identity": identity}
        recorded: dict[str, Any] = {"evaluator": evaluator, "summary_writer": writer, "identity": identity}
        return [
            self.handler("guard", lambda: NonFiniteLossGuard(interval)),
            None if scheduler is None else LrScheduleHandler(scheduler, print_lr=False, epoch_level=False),
            self.handler(
                "table", lambda: EpochTable(folder / "epochs.csv", optimizer=state["optimizer"], evaluator=evaluator)
            ),
            self.handler("saved", lambda: ResumeHandler(folder / LAST_CHECKPOINT, state, **resuming)),
            self.handler("final", lambda: FinalCheckpoint(average, folder / "final.pt", evaluator=evaluator)),
            self.handler("curves", lambda: TrainingCurves(writer, optimizers=optimizers, interval=interval)),
            self.handler("progress", lambda: TrainingProgress(evaluator, interval=interval)),
            self.handler("record", lambda: RunRecord(folder / "run.json", **recorded)),
            ServedWeights(folder) if in_monai_label() else None,
        ]

    def of_evaluator(self, engine: Engine, state: Mapping[str, Any]) -> list[Handler | None]:
        """What the evaluator gets."""
        return [
            StatsHandler(iteration_log=False),
            TensorBoardStatsHandler(self.summary_writer, iteration_log=False, epoch_event_writer=write_validation),
            self.handler("best", lambda: self.best_checkpoint(engine, state)),
        ]

    def best_checkpoint(self, engine: Engine, state: Mapping[str, Any]) -> Handler:
        """The standard of `best`."""
        return BestCheckpoint(state["average"].module, self.folder / "model.pt")

    def handler(self, name: str, standard: Callable[[], Handler]) -> Handler | None:
        """The part that was given, or a standard one where none was."""
        given = self.handlers[name]
        return standard() if isinstance(given, str) else given
