"""The log of a run, with the error that ended it, in `run.log` in the output folder."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from monai_ext.runtime.command_lines import shell_line
from monai_ext.runtime.plain_text import without_secrets

__all__ = ["LOG_FILE", "RunLog", "keep_log", "note", "progress", "set_quiet", "shows_progress", "tell"]

LOG_FILE = "run.log"
FORMAT = "%(asctime)s - %(name)s - %(levelname)s - %(message)s"  # that of the bundles' logging.conf
MOST_WAITING = 10_000  # lines kept while the folder is not there

T = TypeVar("T")
_kept: RunLog | None = None
_quiet = False


class RunLog(logging.Handler):
    """Adds what is logged to `folder/run.log`, under a line `# command: ...`.

    The folder is not made for the log's sake: lines wait until the run makes it, and are dropped where it never does,
    so that a refused run leaves nothing. The file is opened for each line alone, so that what a killed run logged is
    there, and that two processes may add to it. A log that cannot be written (no right, no room) ends with one line on
    standard error; the run goes on. Keys and passwords in addresses are struck out, also in the command.

    Args:
        folder: of the run.
        rank: of several processes; those other than 0 add errors alone.
    """

    def __init__(self, folder: str | Path, *, rank: int | str = 0):
        is_first = str(rank) == "0"
        super().__init__(logging.INFO if is_first else logging.ERROR)
        self.setFormatter(logging.Formatter(FORMAT if is_first else FORMAT.replace("(name)s", f"(name)s@rank{rank}")))
        self.path = Path(folder) / LOG_FILE
        self._waiting = [f"\n# command: {shell_line(sys.orig_argv)}\n"] if is_first else []
        self._given_up = False

    def emit(self, record: logging.LogRecord) -> None:
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append(f"{self.format(record)}\n")
        self.flush()

    def flush(self) -> None:
        if self._given_up or not self._waiting or not os.path.isdir(self.path.parent):
            return
        try:
            with self.path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(without_secrets("".join(self._waiting)))
        except OSError as error:
            self._given_up = True
            sys.stderr.write(f"no log from here on: '{self.path}' cannot be written ({error.strerror}).\n")
        self._waiting.clear()


def keep_log(folder: str | Path | None) -> RunLog | None:
    """From now on this process adds what it logs to `folder/run.log`; an earlier log of the process ends.

    Of several processes that torchrun has started, rank 0 logs and the others add errors alone. Where the process's
    output is redirected to that very file there is nothing to add, and None is returned.

    Args:
        folder: of the run, made by the run itself; None ends the log.
    """
    global _kept
    root = logging.getLogger()
    if _kept is not None:
        root.removeHandler(_kept)
        _kept = None
    if folder is None or _is_output(Path(folder) / LOG_FILE):
        return None
    _kept = RunLog(folder, rank=os.environ.get("RANK", "0"))
    if not root.handlers:  # a handler of ours must not silence the warnings on standard error
        root.addHandler(logging.lastResort or logging.StreamHandler())
    root.addHandler(_kept)
    package = logging.getLogger("monai_ext")
    if not package.isEnabledFor(logging.INFO):
        package.setLevel(logging.INFO)
    return _kept


def set_quiet(quiet: bool) -> None:
    """Whether messages go to the log alone, and no progress is shown."""
    global _quiet
    _quiet = quiet


def shows_progress() -> bool:
    """Whether progress bars are drawn: on a terminal, unless `set_quiet`."""
    return not _quiet and sys.stderr.isatty()


def progress(items: Iterable[T], what: str, unit: str, *, total: int | None = None) -> Iterable[T]:
    """`items` with a bar of how many are done, where progress is shown.

    Args:
        total: their number, where `items` have no length.
    """
    from tqdm import tqdm  # here, since bundle runs log without it

    return tqdm(items, desc=what, total=total, unit=unit, disable=not shows_progress(), leave=False)


def tell(text: str) -> None:
    """Write a line to standard error, unless `set_quiet`, and to the log if one is kept."""
    if not _quiet:
        sys.stderr.write(f"{without_secrets(text)}\n")
    note(text.strip())


def note(text: str, level: int = logging.INFO) -> None:
    """Write a line to the log alone; nothing happens where none is kept."""
    if _kept is not None and level >= _kept.level:
        _kept.handle(logging.LogRecord("monai_ext", level, "", 0, text, None, None))


def _is_output(path: Path) -> bool:
    """Whether standard output or error is the file `path`."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # closed, replaced by something that is no file, None
            if os.path.samestat(os.fstat(stream.fileno()), path.stat()):
                return True
    return False
