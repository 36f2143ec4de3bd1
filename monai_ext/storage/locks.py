"""Locks on files and folders, so that one run works in a folder at a time and no kill leaves it locked."""

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

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout, lock_descriptor

from monai_ext.storage.files import make_folder, writing

__all__ = ["FolderBusyError", "FolderLock", "holder_in", "try_lock", "write_holder"]

LOCK_FILE = ".run.lock"
SOFT_TIMEOUT_S = 0.2  # four attempts
NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})

_logger = logging.getLogger(__name__)


class FolderBusyError(ValueError):
    """Another run works in the folder."""


class FolderLock:
    """The right to work in `folder`, from `acquire` to `release` or the end of the process.

    The file `.run.lock` names the process and machine that hold it. The lock itself is the kernel's, which drops it
    with the process: what a killed run leaves is a file without a lock, which the next run takes over and reports.
    Forked children do not inherit it. Locks of one folder in one process are one lock, and the first release ends it.
    Where the file system has no locks the file itself is the lock: one of a dead process of this machine is taken over.

    Args:
        folder: made if need be.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.path = self.folder.absolute() / LOCK_FILE
        self._lock: BaseFileLock | None = None

    def acquire(self) -> None:
        """Take the folder.

        Raises:
            FolderBusyError: another run has it; names its process.
            WriteError: the folder cannot be written to.
        """
        make_folder(self.folder)
        before = self._holder()
        with writing(self.path):
            try:
                self._lock = self._take(FileLock)
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
                if self.path.is_file() and not self.path.stat().st_size:  # made by that attempt
                    self.path.unlink()
                self._lock = self._take(SoftFileLock)
            if self._lock.lock_counter > 1:  # taken in this process before
                return
            if not isinstance(self._lock, SoftFileLock):  # which has written its own name
                with self.path.open("w", encoding="utf-8") as file:
                    write_holder(file)
        atexit.register(self.release)
        if before:
            _logger.warning(f"the run in '{self.folder}' by {before} was killed; this one takes over the folder")

    def release(self) -> None:
        """Let the folder go; nothing happens where this process does not hold it."""
        if self._lock is None or not self._lock.is_locked:
            return
        atexit.unregister(self.release)
        if not isinstance(self._lock, SoftFileLock):
            with suppress(OSError):
                self.path.unlink()
        self._lock.release(force=True)

    def _take(self, kind: type[BaseFileLock]) -> BaseFileLock:
        # Some versions of filelock remove the file of a dead process in one attempt, and lock in the next.
        timeout = SOFT_TIMEOUT_S if kind is SoftFileLock else 0
        lock = kind(self.path, timeout=timeout, thread_local=False, is_singleton=True)
        try:
            lock.acquire()
        except Timeout:
            remedy = f"; if it does not run any more, remove '{self.path}'" if kind is SoftFileLock else ""
            raise FolderBusyError(
                f"another run ({self._holder() or 'just starting'}) works in '{self.folder}': wait for it or end it, "
                f"or choose another --output_dir{remedy}."
            ) from None
        return lock

    def _holder(self) -> str:
        try:
            with self.path.open(encoding="utf-8", errors="replace") as file:
                return holder_in(file)
        except OSError:
            return ""


def try_lock(file: IO, *, shared: bool = False) -> bool:
    """Lock an open file without waiting; False where another process has locked it.

    The lock lasts until the file is closed, here and in all processes that have inherited it.

    Args:
        shared: several processes may hold it at a time, if all of them share it.
    """
    if not shared:
        return lock_descriptor(file.fileno(), blocking=False)
    import fcntl  # POSIX only; filelock has no shared locks on open files

    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def write_holder(file: IO[str]) -> None:
    """Name this process as the holder of a lock file, open for writing."""
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()


def holder_in(file: IO[str]) -> str:
    """The last holder that an open lock file names, or ""."""
    file.seek(0)
    text = " ".join(file.read(200).split())
    marker = re.match(r"(\d+) (\S+)", text)  # of filelock's soft locks
    return f"process {marker[1]} on {marker[2]}" if marker else text
