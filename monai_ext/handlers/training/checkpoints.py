"""Checkpoints: the best and final weights of a run, and its whole state for resuming."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Events
from torch import nn

from monai_ext.handlers.engine import Engine
from monai_ext.handlers.training.identity import RunIdentity
from monai_ext.handlers.training.weights import load_checkpoint, not_finite
from monai_ext.runtime.errors import WAYS_ON, NonFiniteLossError, one_line
from monai_ext.runtime.ranks import is_main_process
from monai_ext.runtime.run_folders import previous_checkpoint, refuse_earlier_run
from monai_ext.runtime.settings import as_bool
from monai_ext.storage.files import WriteError, atomic_path, remove_leftovers
from monai_ext.storage.locks import FolderLock

__all__ = ["BestCheckpoint", "FinalCheckpoint", "NonFiniteLossGuard", "ResumeHandler"]

STATE_KEYS = frozenset({"objects", "epoch", "iteration", "best_metric", "best_metric_epoch", "random"})

_logger = logging.getLogger(__name__)


class NonFiniteLossGuard:
    """Stops training with a `NonFiniteLossError` when a loss is NaN or infinite, before anything of it is saved.

    The loss, and every one of "terms" in the engine's output, is added up on the device (a NaN or infinity never leaves
    a sum), and the sum is read every `interval` iterations and at the last one of each epoch.

    Args:
        interval: iterations between two readings; each one makes the host wait for the device.
    """

    def __init__(self, interval: int = 10):
        self.interval = interval
        self._sum: torch.Tensor | None = None

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._accumulate)

    def _accumulate(self, engine: Engine) -> None:
        output = engine.state.output
        for term in (output["loss"], *output.get("terms", {}).values()):
            self._sum = term.detach() if self._sum is None else self._sum + term.detach()
        if not (engine.state.iteration % self.interval and engine.state.iteration % engine.state.epoch_length):
            self._check(engine)

    def _check(self, engine: Engine) -> None:
        if self._sum is not None and not math.isfinite(self._sum.item()):
            raise NonFiniteLossError(
                f"the training loss became NaN or infinite in epoch {engine.state.epoch}, at or shortly before "
                f"iteration {engine.state.iteration}: lower --learning_rate or set --max_grad_norm 1; checkpoints "
                "written so far are of earlier epochs and intact."
            )
        self._sum = None


class _WeightsCheckpoint:
    def __init__(self, network: nn.Module, path: str | Path):
        self.network = network
        self.path = Path(path)

    def save(self) -> None:
        state = {name: value.cpu() for name, value in self.network.state_dict().items()}
        if broken := not_finite(state):
            raise NonFiniteLossError(
                f"the weights became NaN or infinite ('{broken[0]}' and {len(broken) - 1} further tensors), so "
                f"'{self.path}' is not written: lower --learning_rate or set --max_grad_norm 1."
            )
        _save(state, self.path)


class BestCheckpoint(_WeightsCheckpoint):
    """Saves the network's weights when the evaluator finds a new best key metric; for the evaluator's handlers.

    Unlike MONAI's `CheckpointSaver` it goes by `engine.state.best_metric`, which `ResumeHandler` restores, so a resumed
    run never replaces better weights by worse ones.

    Args:
        network: whose state dict is saved.
        path: the file, replaced at once or not at all.
    """

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._save_if_best)

    def _save_if_best(self, engine: Engine) -> None:
        if engine.state.best_metric_epoch == engine.state.epoch and not math.isnan(engine.state.best_metric):
            self.save()


class FinalCheckpoint(_WeightsCheckpoint):
    """Saves the network's weights when training ends: weights that the validation data had no part in choosing.

    A run interrupted before its last epoch writes none, nor does one whose validation gave NaN in all epochs.

    Args:
        network, path: as of `BestCheckpoint`.
        evaluator: the validation engine.

    Raises (when training ends):
        NonFiniteLossError: the validation score was NaN in all epochs, or the weights hold NaN.
    """

    def __init__(self, network: nn.Module, path: str | Path, *, evaluator: Engine | None = None):
        super().__init__(network, path)
        self.evaluator = evaluator

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.COMPLETED, self._save_if_done)

    def _save_if_done(self, engine: Engine) -> None:
        if engine.state.epoch != engine.state.max_epochs:
            return
        if self.evaluator is not None and math.isnan(self.evaluator.state.best_metric):
            raise NonFiniteLossError(
                f"{self.evaluator.state.key_metric_name} was NaN in all epochs, so '{self.path}' is not written: see "
                "that the network's output is finite and the score defined for the validation cases."
            )
        self.save()


class ResumeHandler:
    """Saves the whole state of a training run after each epoch and continues from it on request.

    The state is that of `objects`, of the random generators (torch, CUDA, NumPy, Python), the epoch, and the
    evaluator's best metric. Together with a loader that draws by (seed, epoch), as `BatchTrainer` sets them, a run that
    was killed at any moment ends with the weights of an uninterrupted one. List it after `ValidationHandler`.

    Until the run is complete the checkpoint before the last one is kept as `<name>.previous.pt`: should the last one be
    damaged, the run goes on from that, with a warning. The folder of `path` is locked while the run works in it, see
    `FolderLock`, and what a killed run left half-written there is removed.

    Args:
        path: the checkpoint, e.g. `<output_dir>/last.pt`; replaced at once or not at all.
        objects: name -> anything with `state_dict` and `load_state_dict`.
        evaluator: the validation engine whose best metric is kept.
        resume: continue from `path` if it is there. Otherwise the run refuses to start over an existing one.
        interval: epochs between two saves; the last epoch is always saved.
        identity: of this run, compared with that of the run in the folder of `path`, see `RunIdentity.check`.

    Raises:
        FolderBusyError: (when the run starts) another run works in the folder of `path`.
        FileExistsError: (when the run starts) `path` exists and `resume` is False.
        ValueError: (when the run starts) the checkpoint and the one before it are damaged, or it belongs to other
            objects or another run, or has more epochs than this run is to have.
        WriteError: (in the run) there is no room for a checkpoint; those before it stay.
    """

    def __init__(
        self,
        path: str | Path,
        objects: Mapping[str, Any],
        *,
        evaluator: Engine | None = None,
        resume: bool | str = False,
        interval: int = 1,
        identity: RunIdentity | None = None,
    ):
        self.identity = identity
        self.path = Path(path)
        self.previous = previous_checkpoint(self.path)
        self.objects = dict(objects)
        self.evaluator = evaluator
        self.resume = as_bool(resume, "resume")
        self.interval = interval
        self._lock = FolderLock(self.path.parent)
        self._last_is_whole = True

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._epoch_completed)

    def _start(self, engine: Engine) -> None:
        WAYS_ON.append("the same command with --resume true goes on after the last whole epoch")
        if is_main_process():
            self._lock.acquire()
            if not engine.has_event_handler(self._end):  # now, so that they come after everyone else's
                engine.add_event_handler(Events.COMPLETED, self._end)
                engine.add_event_handler(Events.EXCEPTION_RAISED, self._abandon)
            remove_leftovers(self.path.parent)
        if not (self.path.exists() or self.previous.exists()):
            return
        try:
            if not self.resume:
                refuse_earlier_run(self.path)
            state = self._read()
            if self.identity is not None:
                self.identity.check(engine, self.path.parent, epoch=state["epoch"])
            self._restore(state, engine)
        except (ValueError, FileExistsError):
            self._lock.release()
            raise
        left = engine.state.max_epochs - engine.state.epoch
        end = "" if left else ": nothing is left to train, and the run stays as it is"
        _logger.info(f"resumed from '{self.path}' after epoch {engine.state.epoch} of {engine.state.max_epochs}{end}")

    def _read(self) -> Mapping[str, Any]:
        """The last checkpoint, or the one before it if that is damaged."""
        try:
            return _load_state(self.path)
        except (ValueError, FileNotFoundError) as error:
            problem = str(error)
        if not self.previous.is_file():
            raise ValueError(f"{problem} There is none before it: remove it to begin anew.")
        try:
            state = _load_state(self.previous)
        except ValueError as error:
            raise ValueError(f"{problem} So is the one before it: {error} Remove both to begin anew.") from None
        self._last_is_whole = False
        _logger.warning(f"{problem} The run goes on from the one before it, '{self.previous}'.")
        return state

    def _restore(self, state: Mapping[str, Any], engine: Engine) -> None:
        if engine.state.max_epochs < state["epoch"]:
            raise ValueError(
                f"the run in '{self.path.parent}' has {state['epoch']} epochs, more than max_epochs "
                f"{engine.state.max_epochs}: it cannot be shortened, so set at least as many, or choose another "
                "--output_dir."
            )
        if set(state["objects"]) != set(self.objects):
            raise ValueError(
                f"checkpoint '{self.path}' holds {sorted(state['objects'])}, this run has {sorted(self.objects)}: it "
                "comes from another configuration."
            )
        try:
            for name, part in self.objects.items():
                part.load_state_dict(state["objects"][name])
            _set_random_state(state["random"])
        except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
            raise ValueError(f"checkpoint '{self.path}' does not fit this configuration: {one_line(error)}.") from error
        engine.state.epoch, engine.state.iteration = state["epoch"], state["iteration"]
        if self.evaluator is not None:
            self.evaluator.state.best_metric = state["best_metric"]
            self.evaluator.state.best_metric_epoch = state["best_metric_epoch"]

    def _end(self, engine: Engine) -> None:
        if engine.state.epoch == engine.state.max_epochs:
            self.previous.unlink(missing_ok=True)
        WAYS_ON.clear()
        self._lock.release()

    def _abandon(self, engine: Engine, error: BaseException) -> None:
        self._lock.release()
        raise error

    def _epoch_completed(self, engine: Engine) -> None:
        if engine.state.epoch % self.interval and engine.state.epoch != engine.state.max_epochs:
            return
        evaluator_state = self.evaluator.state if self.evaluator is not None else None
        state = {
            "objects": {name: part.state_dict() for name, part in self.objects.items()},
            "epoch": engine.state.epoch,
            "iteration": engine.state.iteration,
            "best_metric": getattr(evaluator_state, "best_metric", -1),
            "best_metric_epoch": getattr(evaluator_state, "best_metric_epoch", -1),
            "random": _random_state(),
        }
        _save(state, self.path, previous=self.previous if self._last_is_whole else None)
        self._last_is_whole = True


def _load_state(path: Path) -> Mapping[str, Any]:
    state = load_checkpoint(path)
    whole = isinstance(state, Mapping) and state.keys() >= STATE_KEYS and isinstance(state["objects"], Mapping)
    if not whole or not all(type(state[name]) is int for name in ("epoch", "iteration")):
        raise ValueError(f"checkpoint '{path}' is damaged: it is not the state of a run.")
    return state


def _save(state: Mapping[str, Any], path: Path, *, previous: Path | None = None) -> None:
    if not is_main_process():
        return
    try:
        with atomic_path(path, previous=previous) as temporary:
            with temporary.open("wb") as file:  # by its name torch.save would store the name, other bytes each time
                torch.save(dict(state), file)
    except RuntimeError as error:  # so torch's writer reports a disk that fails
        raise WriteError(
            f"checkpoint '{path}' cannot be written ({one_line(error)}): choose another disk, or continue with "
            "--resume true; the checkpoints before it are intact."
        ) from error


def _random_state() -> dict[str, Any]:
    """States of all generators as tensors and plain values, so that they can be read with `weights_only=True`."""
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    version, python_state, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": (name, torch.from_numpy(np.asarray(keys, np.int64)), position, has_gauss, cached),
        "python": (version, torch.tensor(python_state), gauss),  # 625 numbers: one by one they are half of a save
    }


def _set_random_state(state: Mapping[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    version, python_state, gauss = state["python"]
    random.setstate((version, tuple(torch.as_tensor(python_state).tolist()), gauss))
