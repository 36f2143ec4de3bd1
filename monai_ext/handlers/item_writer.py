"""Base of handlers that write files for every evaluated item, with one line in the log at the end.

Files of an earlier run that stay among the new ones are counted, so that nobody takes all of them for one result.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path

from ignite.engine import Events

from monai_ext.handlers.engine import Engine
from monai_ext.handlers.finite import refuse_non_finite_predictions
from monai_ext.storage.folders import files_below

__all__ = ["ItemWriter"]

PREDICTIONS = (".png", ".tif", ".nii.gz")

_logger = logging.getLogger(__name__)


class ItemWriter:
    """Calls `write` for each batch, whose predictions are finite, and logs at the end how many items were `written`.

    Args:
        folder: where to write.
        what: the last line is "wrote WHAT to 'FOLDER'"; `{}` in it stands for their number.
    """

    def __init__(self, folder: str | Path, *, what: str):
        self.folder = Path(folder)
        self.what = what
        self.written = 0
        self._before: dict[Path, int] = {}

    def attach(self, engine: Engine) -> None:
        refuse_non_finite_predictions(engine)
        engine.add_event_handler(Events.STARTED, self._look_before)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.write)
        engine.add_event_handler(Events.COMPLETED, self._log_count)

    def write(self, engine: Engine) -> None:
        """Write the files of the engine's batch and count them in `written`."""
        raise NotImplementedError

    def _log_count(self, engine: Engine) -> None:
        _logger.info(f"wrote {self.what.format(self.written)} to '{self.folder}'")
        old = [path for path, file in self._predictions().items() if self._before.get(path) == file]
        if old:
            _logger.warning(
                f"'{self.folder}' also holds {len(old)} files of an earlier run, such as "
                f"{min(old).relative_to(self.folder)}: remove them, or choose another --output_dir"
            )

    def _look_before(self, engine: Engine) -> None:
        self._before = self._predictions()

    def _predictions(self) -> dict[Path, int]:
        """Pictures and volumes below the folder, each with the number that a new file of its name does not have."""
        found = {}
        with suppress(OSError):  # there is no folder yet
            for path in files_below(self.folder):
                if path.name.endswith(PREDICTIONS):
                    status = os.stat(path)
                    found[path] = status.st_ino ^ status.st_mtime_ns
        return found
