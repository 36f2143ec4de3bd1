"""Base of handlers that write files for every evaluated item, with one line in the log at the end."""

from __future__ import annotations

import logging
from pathlib import Path

from ignite.engine import Events

from monai_ext.handlers.engine import Engine

__all__ = ["ItemWriter"]

_logger = logging.getLogger(__name__)


class ItemWriter:
    """Calls `write` for each batch and logs at the end how many items were `written`, which `write` counts.

    Args:
        folder: where to write.
        what: the last line is "wrote WHAT to 'FOLDER'"; `{}` in it stands for their number.
    """

    def __init__(self, folder: str | Path, *, what: str):
        self.folder = Path(folder)
        self.what = what
        self.written = 0

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.write)
        engine.add_event_handler(Events.COMPLETED, self._log_count)

    def write(self, engine: Engine) -> None:
        """Write the files of the engine's batch."""
        raise NotImplementedError

    def _log_count(self, engine: Engine) -> None:
        _logger.info(f"wrote {self.what.format(self.written)} to '{self.folder}'")
