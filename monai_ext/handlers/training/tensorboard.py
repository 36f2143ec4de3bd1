"""TensorBoard's writer for runs of several processes."""

from __future__ import annotations

import time
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from monai_ext.runtime.ranks import is_main_process

__all__ = ["MainProcessWriter", "writer_of"]


FLUSH_SECONDS = 2.0


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


def writer_of(engine: Any, given: SummaryWriter | None = None) -> SummaryWriter | None:
    """The writer that a handler was `given`, or that of the run, which `StandardTraining` hands to its engines."""
    return given if given is not None else getattr(engine, "summary_writer", None)
