"""Runs of several stages: a learning rate for each, and the best weights of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
import torch
from ignite.engine import Events
from torch import nn

from monai_ext.handlers.engine import Engine
from monai_ext.handlers.training.checkpoints import BestCheckpoint
from monai_ext.runtime.ranks import is_main_process
from monai_ext.storage.records import Count, read_record, write_record

__all__ = ["SHAPES", "StageCheckpoints", "StagedLearningRate"]

LOWEST = 0.01  # share of a stage's learning rate
FALL = 0.4  # share of a stage in which "plateau" falls


def _one_cycle(share: float, warm_up: float) -> float:
    if share < warm_up:
        return _risen(share, warm_up)
    return LOWEST + (1 - LOWEST) * (1 + math.cos(math.pi * (share - warm_up) / (1 - warm_up))) / 2


def _plateau(share: float, warm_up: float) -> float:
    return min(_risen(share, warm_up) if share < warm_up else 1.0, LOWEST + (1 - LOWEST) * (1 - share) / FALL)


def _risen(share: float, warm_up: float) -> float:
    return LOWEST + (1 - LOWEST) * share / warm_up


SHAPES: dict[str, Callable[[float, float], float]] = {
    "one_cycle": _one_cycle,  # up in the warm-up, down along half a cosine (Smith & Topin 2019)
    "plateau": _plateau,  # up in the warm-up, down in the last two fifths
    "constant": lambda share, warm_up: 1.0,
    "drop": lambda share, warm_up: 1.0 if share < 0.5 else 0.1,  # Ledig et al. 2017: ten times lower in the second half
}


class Stage(NamedTuple):
    """Some epochs with a learning rate that follows one of `SHAPES`."""

    epochs: int
    learning_rate: float
    shape: str


class StagedLearningRate:
    """Sets the learning rate of an optimiser by the iteration alone, stage after stage; for the trainer's handlers.

    It has no state: a resumed run goes on as an uninterrupted one, also if it was given more epochs. An optimiser that
    rests in a stage gets the rate 0 for it. After the last stage its last rate stays.

    Args:
        optimizer: all its parameter groups get the same rate.
        stages: (epochs, learning rate, shape) of each, with a shape of `SHAPES`: "one_cycle", "plateau", "constant" or
            "drop".
        warm_up: share of each stage in which the first two shapes rise from a hundredth of the rate.

    Raises:
        ValueError: no stage, negative numbers, another shape, or a warm-up of a whole stage or more.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, stages: Sequence[Sequence], *, warm_up: float = 0.1):
        if not 0 <= warm_up < 1:
            raise ValueError(f"warm_up={warm_up} is a share of a stage: choose 0 or more, below 1.")
        self.optimizer, self.warm_up = optimizer, warm_up
        self.stages = [Stage(*stage) for stage in stages]
        for stage in self.stages:
            if stage.epochs < 0 or stage.learning_rate < 0 or stage.shape not in SHAPES:
                raise ValueError(
                    f"stage {list(stage)}: give epochs and learning rate, not negative, and one of {', '.join(SHAPES)}."
                )
        if not any(stage.epochs for stage in self.stages):
            raise ValueError(f"stages={list(map(list, self.stages))} have no epoch: at least one is needed.")

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_STARTED, self._set)

    def rate(self, epochs: float) -> float:
        """The learning rate after so many epochs, which need not be whole.

        >>> plan = StagedLearningRate(torch.optim.SGD([torch.zeros(1)]), [(2, 0.1, "drop"), (1, 0.5, "constant")])
        >>> [plan.rate(epochs) for epochs in (0, 0.9, 1, 2, 7)]
        [0.1, 0.1, 0.010000000000000002, 0.5, 0.5]
        """
        stages = [stage for stage in self.stages if stage.epochs]
        for stage in stages:
            if epochs < stage.epochs:
                return stage.learning_rate * SHAPES[stage.shape](epochs / stage.epochs, self.warm_up)
            epochs -= stage.epochs
        return stages[-1].learning_rate * SHAPES[stages[-1].shape](1.0, self.warm_up)

    def _set(self, engine: Engine) -> None:
        done = engine.state.iteration - 1  # Ignite counts the iteration that begins
        rate = self.rate(done / engine.state.epoch_length)
        for group in self.optimizer.param_groups:
            group["lr"] = rate


class BestEpoch(msgspec.Struct, frozen=True):
    """The best epoch of a stage: its number, the name of its score, and the value."""

    epoch: Count
    score: str = ""
    value: float | None = None


class StageCheckpoints:
    """The best weights of a generator in each of its two stages; for the evaluator's handlers.

    A generator is best in stage one where its PSNR is highest, in stage two where its perceptual distance is lowest:
    adversarial training lowers PSNR, so one score cannot judge both. Files in `folder`, each replaced at once:

    * `pretrained.pt`: the best of stage one;
    * `model.pt`: the best of the present stage, for inference. In stage two without a perceptual score, the latest;
    * `best.json`: epoch and score of both, which a resumed run has to beat.

    Args:
        network: whose state dict is saved.
        folder: where.
        pretrain_epochs: epochs of stage one.
        pretrained_score: the evaluator's metric of stage one, higher is better.
        adversarial_score: that of stage two, lower is better.

    Raises (when a resumed run judges its first epoch):
        ValueError: best.json is damaged.
    """

    def __init__(
        self,
        network: nn.Module,
        folder: str | Path,
        *,
        pretrain_epochs: int,
        pretrained_score: str = "val_psnr",
        adversarial_score: str = "val_perceptual",
    ):
        self.record = Path(folder) / "best.json"
        self.model = BestCheckpoint(network, Path(folder) / "model.pt")
        self.pretrained = BestCheckpoint(network, Path(folder) / "pretrained.pt")
        self.pretrain_epochs = pretrain_epochs
        self.scores = {"pretrained": pretrained_score, "adversarial": adversarial_score}
        self._best: dict[str, BestEpoch] | None = None

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._judge)

    def _judge(self, engine: Engine) -> None:
        epoch = engine.state.epoch
        if self._best is None:
            self._best = self._before(epoch)
        stage = "pretrained" if epoch <= self.pretrain_epochs else "adversarial"
        if any(math.isnan(engine.state.metrics.get(name, 0.0)) for name in self.scores.values()):
            return
        score = engine.state.metrics.get(self.scores[stage])
        if not _is_best(stage, score, self._best.get(stage, BestEpoch(0)).value):
            return
        if stage == "pretrained":
            self.pretrained.save()
        self.model.save()
        self._best[stage] = BestEpoch(epoch, self.scores[stage], score)
        if is_main_process():
            write_record(self.record, self._best)

    def _before(self, epoch: int) -> dict[str, BestEpoch]:
        """What earlier epochs of this run recorded: later ones are of a run that was abandoned, or are repeated now."""
        if not self.record.is_file():
            return {}
        way_out = "remove it, then the next epoch counts as the best"
        recorded = read_record(self.record, dict[Literal["pretrained", "adversarial"], BestEpoch], way_out=way_out)
        return {stage: best for stage, best in recorded.items() if best.epoch < epoch}


def _is_best(stage: str, score: float | None, best: float | None) -> bool:
    if score is not None and math.isnan(score):
        return False
    if score is None or best is None:
        return stage == "adversarial" or score is not None
    return score > best if stage == "pretrained" else score < best
