"""One handler for what all bundles' trainings share: guard, schedule, curves, tables, records and checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from monai.handlers import LrScheduleHandler, StatsHandler, TensorBoardStatsHandler
from torch.utils.tensorboard import SummaryWriter

from monai_ext.handlers.engine import Engine
from monai_ext.handlers.training.checkpoints import BestCheckpoint, FinalCheckpoint, NonFiniteLossGuard, ResumeHandler
from monai_ext.handlers.training.curves import TrainingCurves
from monai_ext.handlers.training.identity import RunIdentity
from monai_ext.handlers.training.records import EpochTable, RunRecord, TrainingProgress

__all__ = ["Handler", "Part", "StandardTraining", "standard_or"]


class Handler(Protocol):
    """Anything that can be attached to an engine."""

    def attach(self, engine: Any) -> None: ...


Part = Handler | Literal["standard"] | None


class StandardTraining:
    """Watches, shows, records and saves a training run in `output_dir`; for the trainer, after `ValidationHandler`.

    The trainer gets, in this order: `guard` (`NonFiniteLossGuard`), an iteration-wise `LrScheduleHandler` where `state`
    has an "lr_scheduler", `table` (`EpochTable`, epochs.csv), `saved` (`ResumeHandler`, last.pt), `final`
    (`FinalCheckpoint`, final.pt), `curves` (`TrainingCurves`), `progress` (`TrainingProgress`) and `record`
    (`RunRecord`, run.json). The evaluator gets, after its own handlers, `StatsHandler` and `TensorBoardStatsHandler`,
    and `best` (`BestCheckpoint`, model.pt). Each part named here can be replaced by another handler, or left out with
    None.

    Args:
        output_dir: folder of the run.
        evaluator: the validation engine.
        summary_writer: of TensorBoard.
        state: name -> all that a resumed run needs: "network", "average" (whose `.module` is what is saved as weights),
            "optimizer", and whatever else has a state.
        settings, counts: further settings for run.json, see `RunRecord`.
        parts: name -> items of further parts that are held out, for run.json, see `RunIdentity`.
        resume: continue from last.pt.
        interval: iterations between two readings of the loss.
    """

    def __init__(
        self,
        output_dir: str | Path,
        *,
        evaluator: Engine,
        summary_writer: SummaryWriter,
        state: Mapping[str, Any],
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
        folder, average = Path(output_dir), state["average"].module
        optimizers = {name: part for name, part in state.items() if isinstance(part, torch.optim.Optimizer)}
        scheduler = state.get("lr_scheduler")
        identity = RunIdentity(settings, counts=counts, evaluator=evaluator, parts=parts)
        resuming: dict[str, Any] = {"evaluator": evaluator, "resume": resume, "identity": identity}
        recorded: dict[str, Any] = {"evaluator": evaluator, "summary_writer": summary_writer, "identity": identity}
        self.evaluator = evaluator
        self.of_trainer: list[Handler | None] = [
            standard_or(guard, lambda: NonFiniteLossGuard(interval)),
            scheduler and LrScheduleHandler(scheduler, print_lr=False, epoch_level=False),
            standard_or(
                table, lambda: EpochTable(folder / "epochs.csv", optimizer=state["optimizer"], evaluator=evaluator)
            ),
            standard_or(saved, lambda: ResumeHandler(folder / "last.pt", state, **resuming)),
            standard_or(final, lambda: FinalCheckpoint(average, folder / "final.pt")),
            standard_or(curves, lambda: TrainingCurves(summary_writer, optimizers=optimizers, interval=interval)),
            standard_or(progress, lambda: TrainingProgress(evaluator, interval=interval)),
            standard_or(record, lambda: RunRecord(folder / "run.json", **recorded)),
        ]
        self.of_evaluator: list[Handler | None] = [
            StatsHandler(iteration_log=False),
            TensorBoardStatsHandler(summary_writer, iteration_log=False),
            standard_or(best, lambda: BestCheckpoint(average, folder / "model.pt")),
        ]

    def attach(self, engine: Engine) -> None:
        for target, handlers in ((engine, self.of_trainer), (self.evaluator, self.of_evaluator)):
            for handler in handlers:
                if handler is not None:
                    handler.attach(target)


def standard_or(given: Part, standard: Callable[[], Handler]) -> Handler | None:
    """The part that is given, or a standard one where none is."""
    return standard() if isinstance(given, str) else given
