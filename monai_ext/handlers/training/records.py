"""Progress bar, table of epochs and record of a run (run.json, TensorBoard's HPARAMS page)."""

from __future__ import annotations

import csv
import re
import sys
import time
from collections.abc import Mapping, Sized
from pathlib import Path
from typing import Any

import msgspec
import torch
from ignite.engine import Events
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams
from tqdm import tqdm

from monai_ext.data.run_cases import TrainedRun, read_trained_run
from monai_ext.handlers.engine import Engine
from monai_ext.handlers.training import provenance
from monai_ext.handlers.training.identity import RunIdentity
from monai_ext.handlers.training.tensorboard import step_of
from monai_ext.runtime.ranks import is_main_process, mean_over_ranks
from monai_ext.storage.files import atomic_path, table_rows
from monai_ext.storage.records import write_record

__all__ = ["EpochTable", "RunRecord", "TrainingProgress"]

OF_IDENTITY = ("bundle", "components", "weight_files", "cases", "init_weights")


class TrainingProgress:
    """One progress bar over all iterations of a training run, with the loss and the latest validation metric.

    Shown on terminals only; elsewhere `StatsHandler`'s lines show the same.

    Args:
        evaluator: its key metric is shown.
        interval: iterations between two readings of the loss.
    """

    def __init__(self, evaluator: Engine | None = None, *, interval: int = 10):
        self.evaluator = evaluator
        self.interval = interval
        self._bar: tqdm | None = None

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self._open)
        engine.add_event_handler(Events.ITERATION_COMPLETED(every=self.interval), self._advance)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._advance)
        engine.add_event_handler(Events.COMPLETED, self._close)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._abandon)

    def _open(self, engine: Engine) -> None:
        if self._bar is None:
            total = engine.state.max_epochs * engine.state.epoch_length
            self._bar = tqdm(
                total=total,
                initial=engine.state.iteration,
                desc="training",
                unit="it",
                disable=not (sys.stderr.isatty() and is_main_process()),
                dynamic_ncols=True,
            )

    def _advance(self, engine: Engine) -> None:
        if self._bar is None or self._bar.disable:
            return
        shown = {"epoch": f"{engine.state.epoch}/{engine.state.max_epochs}"}
        shown["loss"] = f"{engine.state.output['loss'].item():.4f}"
        if self.evaluator is not None and self.evaluator.state.best_metric_epoch > 0:
            name = self.evaluator.state.key_metric_name
            shown[name] = f"{self.evaluator.state.metrics.get(name, float('nan')):.4f}"
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update(engine.state.iteration - self._bar.n)

    def _close(self, engine: Engine) -> None:
        if self._bar is not None:
            self._bar.close()

    def _abandon(self, engine: Engine, error: BaseException) -> None:
        self._close(engine)
        raise error


class EpochTable:
    """Writes one CSV row per epoch: epoch, mean training loss, learning rate, seconds, then the evaluator's metrics.

    List it after `ValidationHandler` and before `ResumeHandler`: a run killed between the two repeats its last epoch,
    and the row with it. A resumed run keeps the rows of the epochs before it and replaces later ones.

    Args:
        path: the CSV file, rewritten whole after each epoch.
        optimizer: its first parameter group's learning rate is recorded.
        evaluator: its metrics become columns.

    Raises (when a resumed run begins its first epoch):
        ValueError: the table that is there is damaged.
    """

    def __init__(self, path: str | Path, *, optimizer: torch.optim.Optimizer, evaluator: Engine | None = None):
        self.path = Path(path)
        self.optimizer = optimizer
        self.evaluator = evaluator
        self.rows: list[dict[str, Any]] = []
        self._loss: Tensor | None = None
        self._start = 0.0

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._accumulate)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def _begin(self, engine: Engine) -> None:
        if not self.rows and engine.state.epoch > 1 and self.path.exists():
            self.rows = self._rows_before(engine.state.epoch)
        self._loss = None
        self._start = time.perf_counter()

    def _rows_before(self, epoch: int) -> list[dict[str, Any]]:
        """Rows of the epochs before `epoch`, in the order of the file."""
        way_out = "remove it, then the table begins with the next epoch"
        kept = []
        for line, row in table_rows(self.path, needed=("epoch",), way_out=way_out):
            if not re.fullmatch("[0-9]{1,9}", row["epoch"]):
                raise ValueError(f"{self.path} is damaged (line {line}: epoch {row['epoch'][:20]!r}): {way_out}.")
            if int(row["epoch"]) < epoch:
                kept.append(row)
        return kept

    def _accumulate(self, engine: Engine) -> None:
        loss = engine.state.output["loss"].detach()
        self._loss = loss if self._loss is None else self._loss + loss

    def _write(self, engine: Engine) -> None:
        summed = float("nan") if self._loss is None else mean_over_ranks(self._loss).item()
        row: dict[str, Any] = {
            "epoch": engine.state.epoch,
            "train_loss": f"{summed / engine.state.epoch_length:.6f}",
            "learning_rate": f"{self.optimizer.param_groups[0]['lr']:.4g}",
            "seconds": f"{time.perf_counter() - self._start:.2f}",
        }
        if self.evaluator is not None and self.evaluator.state.epoch == engine.state.epoch:
            state = self.evaluator.state
            names = [state.key_metric_name, *(name for name in state.metrics if name != state.key_metric_name)]
            row |= {name: f"{state.metrics[name]:.6f}" for name in names if isinstance(state.metrics.get(name), float)}
        self.rows.append(row)
        if not is_main_process():
            return
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        with atomic_path(self.path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self.rows)


class RunRecord:
    """Writes what repeats a run, its time and best metric to JSON; settings and result to TensorBoard's HPARAMS page.

    The file holds status and result, what identifies the run (`TrainedRun`: bundle, settings, components, cases), the
    seed, fingerprints of the data, the command with the config that it merged (for `python -m monai.bundle run`), git
    revision, versions and environment; `python -m monai_ext reproduce` reads it. Settings are the numbers and choices
    at the top of the config that this handler stands in, the trainer's `max_epochs`, the number of `parameters`, and
    those given here. The record of a finished run that has nothing left to train stays as it is.

    Args:
        path: the JSON file, written when the run starts and again when it ends.
        settings: names -> numbers, strings or truth values that distinguish this run from others.
        counts: names -> items, whose number becomes a setting.
        evaluator: its best key metric is the run's result.
        summary_writer: receives settings and result, so that runs can be compared side by side.
        identity: of the run; None: that of the config in which this is constructed, with `settings` and `counts`.
    """

    def __init__(
        self,
        path: str | Path,
        settings: Mapping[str, Any] | None = None,
        *,
        counts: Mapping[str, Sized] | None = None,
        evaluator: Engine | None = None,
        summary_writer: SummaryWriter | None = None,
        identity: RunIdentity | None = None,
    ):
        self.path = Path(path)
        self.settings: dict[str, Any] = {}
        self.evaluator = evaluator
        self.summary_writer = summary_writer
        self.identity = identity or RunIdentity(settings, counts=counts, evaluator=evaluator)
        self._start = 0.0
        self._origin: dict[str, Any] = {}
        self._stays = False

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._started)
        engine.add_event_handler(Events.COMPLETED, self._completed)

    def _started(self, engine: Engine) -> None:
        of_run = {"max_epochs": engine.state.max_epochs}
        if isinstance(network := getattr(engine, "network", None), nn.Module):
            of_run["parameters"] = sum(parameter.numel() for parameter in network.parameters())
        run = self.identity.describe(engine)
        self.settings = run.settings | of_run | self.identity.settings.further
        self._stays = engine.state.epoch >= engine.state.max_epochs and self._is_finished()
        if is_main_process():
            self._origin = self._find_origin(engine, run)
        self._start = time.perf_counter()
        self._write({"status": "started", "epoch": engine.state.epoch})

    def _completed(self, engine: Engine) -> None:
        result: dict[str, float] = {"epoch": engine.state.epoch}
        if self.evaluator is not None:
            state = self.evaluator.state
            result |= {f"best_{state.key_metric_name}": state.best_metric, "best_epoch": state.best_metric_epoch}
        self._write({"status": "finished", **result, "seconds": round(time.perf_counter() - self._start, 1)})
        if self.summary_writer is not None:
            numbers = {f"result/{name}": value for name, value in result.items() if isinstance(value, (int, float))}
            words = {k: " ".join(map(str, v)) if isinstance(v, (list, tuple)) else v for k, v in self.settings.items()}
            known = {k: v for k, v in words.items() if isinstance(v, (bool, int, float, str))}
            file: Any = self.summary_writer.file_writer
            for summary in hparams(known, numbers):
                file.add_summary(summary)
            for name, value in numbers.items():
                self.summary_writer.add_scalar(name, value, step_of(engine))
            self.summary_writer.flush()

    def _write(self, result: Mapping[str, Any]) -> None:
        if not is_main_process() or self._stays:
            return
        record = {**result, "settings": self.settings, **self._origin}
        write_record(self.path, record)

    def _is_finished(self) -> bool:
        run = read_trained_run(self.path)
        return run is not None and run.status == "finished"

    def _find_origin(self, engine: Engine, run: TrainedRun) -> dict[str, Any]:
        identity = {name: value for name, value in msgspec.to_builtins(run).items() if name in OF_IDENTITY}
        return identity | {
            "seed": torch.initial_seed(),
            "data": {"train": provenance.data_of(engine), "validate": provenance.data_of(self.evaluator)},
            "versions": provenance.package_versions(),
            "git": provenance.git_revision(),
            "environment": provenance.environment(),
            "origin": provenance.command(),
        }
