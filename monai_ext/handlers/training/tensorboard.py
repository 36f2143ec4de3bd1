"""TensorBoard's writer for runs of several processes."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter

from monai_ext.runtime.ranks import is_main_process

__all__ = ["LAYOUT", "MainProcessWriter", "step_of", "write_validation", "writer_of"]


FLUSH_SECONDS = 2.0
# The tab "Custom scalars": a run at a glance. Names are regular expressions, which match from the start of a tag.
LAYOUT = {
    "run": {
        "loss": [
            "Multiline",
            ["train/(loss|pixel|content|consistency|adversarial|discriminator|likelihood|energy)$", "validation/loss$"],
        ],
        "validation": ["Multiline", ["validation/(mean_dice|mean_jaccard|qubiq_score|dice|psnr)$"]],
        "learning rate": ["Multiline", ["train/learning_rate.*"]],
        "health": [
            "Multiline",
            [
                "health/.*",
                "validation/(head[0-9]+_.*|samples_alike|own_head_gain)$",
                "train/(real_score|fake_score)$",
            ],
        ],
    }
}


class _NoFile:
    """Takes what `SummaryWriter` hands to its file and keeps nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None


class MainProcessWriter(SummaryWriter):
    """`SummaryWriter` that writes on rank 0 and does nothing, not even make a folder, on other ranks.

    `flush`, which MONAI's handlers call after every number and which waits for the file, does nothing when the last one
    was less than `FLUSH_SECONDS` ago; `close` writes all that is left.
    """

    file_writer: Any
    _flushed = float("-inf")

    def flush(self) -> None:
        now = time.monotonic()
        if now - self._flushed >= FLUSH_SECONDS:
            self._flushed = now
            super().flush()

    def _get_file_writer(self) -> Any:
        if is_main_process():
            return super()._get_file_writer()
        self.file_writer = self.file_writer or _NoFile()
        return self.file_writer


def step_of(engine: Any) -> int:
    """Where the curves of an engine are: the iterations of the training, which `StandardTraining` hands to its engines.

    Without a training around it: the epochs of the engine itself.
    """
    step = getattr(engine, "curve_step", None)
    return int(engine.state.epoch if step is None else step())


def write_validation(engine: Any, writer: SummaryWriter) -> None:
    """The metrics of a validation as `validation/NAME`; for MONAI's `TensorBoardStatsHandler`."""
    for name, value in engine.state.metrics.items():
        if isinstance(value, (int, float)) or (isinstance(value, torch.Tensor) and value.numel() == 1):
            writer.add_scalar(f"validation/{name.removeprefix('val_')}", float(value), step_of(engine))


def writer_of(engine: Any, given: SummaryWriter | None = None) -> SummaryWriter | None:
    """The writer that a handler was `given`, or that of the run, which `StandardTraining` hands to its engines."""
    return given if given is not None else getattr(engine, "summary_writer", None)
