"""Folders that one run works in at a time: a lock file that names its process, and that no kill leaves locked."""

from __future__ import annotations

import atexit
import errno
import logging
import os
import re
import socket
from contextlib import suppress
from pathlib import Path
from typing import IO

from monai_ext.storage.files import make_folder, writing

try:
    import fcntl  # POSIX only; elsewhere the name in the file decides alone
except ImportError:  # pragma: no cover
    fcntl = None

__all__ = ["FolderBusyError", "FolderLock"]

LOCK_FILE = ".run.lock"
HOLDER = re.compile(r"process (\d+) on (\S+)")

_logger = logging.getLogger(__name__)
_held: dict[Path, tuple[int, IO[str]]] = {}  # lock file -> (process, open file); a process never refuses itself


class FolderBusyError(ValueError):
    """Another run works in the folder."""


class FolderLock:
    """The right to work in `folder`, from `acquire` to `release` or the end of the process.

    The file `.run.lock` says which process on which machine holds it. The lock itself is the kernel's, which drops it
    with the process: what a killed run leaves is a file without a lock, which the next run takes over and reports.
    Child processes (such as those of a data loader) do not inherit it, and within one process the last taker has it; it
    goes when that process closes any other handle of the lock file.
    Where the file system has no locks, a file that names a living process of this machine, or another machine, counts.

    Args:
        folder: made if need be.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.path = self.folder.absolute() / LOCK_FILE

    def acquire(self) -> None:
        """Take the folder.

        Raises:
            FolderBusyError: another run has it; names its process.
            WriteError: the folder cannot be written to.
        """
        if self.path in _held:
            if _held[self.path][0] == os.getpid():
                return
            _held.pop(self.path)[1].close()  # a forked child's copy; closed later it would take our own lock along
        make_folder(self.folder)
        file = self._locked_file()
        before = _holder_in(file)
        with writing(self.path):
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
        _held[self.path] = (os.getpid(), file)
        atexit.register(self.release)
        if before:
            _logger.warning(f"the run in '{self.folder}' by {before} ended without a word; this one goes on after it")

    def release(self) -> None:
        """Let the folder go; nothing happens where this process does not hold it."""
        process, file = _held.get(self.path, (None, None))
        if process != os.getpid():  # a forked child must not remove its parent's
            return
        del _held[self.path]
        atexit.unregister(self.release)
        with suppress(OSError):
            self.path.unlink()
        file.close()

    def _locked_file(self) -> IO[str]:
        while True:
            with writing(self.path):
                file = self.path.open("a+", encoding="utf-8", errors="replace")
            locked, holder, remedy = _lock(file), _holder_in(file), ""
            if locked is None:
                locked = not _may_be_alive(holder)
                remedy = f"; if it is no more, remove '{self.path}'"
            if not locked:
                file.close()
                raise FolderBusyError(
                    f"another run ({holder or 'just starting'}) works in '{self.folder}': wait for it or end it, or "
                    f"choose another --output_dir{remedy}."
                )
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), self.path.stat()):
                    return file
            file.close()  # its last holder removed it while we waited: there is a new one, or none


def _lock(file: IO[str]) -> bool | None:
    """Whether the file is ours now; None where the system or the file system has no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not flock: children that outlive a killed run would keep it
    except OSError as error:
        return False if error.errno in (errno.EACCES, errno.EAGAIN) else None
    return True


def _holder_in(file: IO[str]) -> str:
    """What the file says of its last holder."""
    file.seek(0)
    return " ".join(file.read(200).split())


def _may_be_alive(holder: str) -> bool:
    match = HOLDER.fullmatch(holder)
    if match is None or int(match[1]) == os.getpid():
        return False
    if match[2] != socket.gethostname() or os.name != "posix":
        return True
    try:
        os.kill(int(match[1]), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's, so alive
        return True
    return True
