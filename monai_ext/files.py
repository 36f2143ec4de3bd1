"""Files that appear under their final name only when they are complete."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["atomic_path", "write_text"]

_umask_lock = threading.Lock()


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; on leaving the block it is flushed to disk and takes the final name.

    If the block raises, the temporary file is removed and whatever lay at `path` stays as it was. The parent folder is
    made if need be. The suffix is kept, since many writers choose the format by it.

    Raises:
        OSError: the folder cannot be made or written to.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise


def write_text(path: str | Path, text: str) -> None:
    """Write `text` (UTF-8) to `path` at once or not at all, see `atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _umask() -> int:
    with _umask_lock:  # it can only be read by setting it: two threads at once could leave it at 0
        current = os.umask(0o077)
        os.umask(current)
    return current
