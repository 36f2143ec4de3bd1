"""Write files whole or not at all, remove what killed writers left, and read tables with errors that name the place."""

from __future__ import annotations

import csv
import errno
import glob
import math
import os
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from filelock import lock_descriptor

from monai_ext.runtime.errors import one_line

__all__ = [
    "WriteError",
    "atomic_path",
    "inside",
    "make_folder",
    "remove_leftovers",
    "scratch_path",
    "table_reader",
    "table_rows",
    "write_table",
    "write_text",
    "writing",
]

LOCKS = os.name == "posix"  # elsewhere a locked file cannot be renamed, and leftovers of killed processes stay
MARK = ".part"  # in the names of temporary files
LONGEST_STEM = 48  # characters of the final name in them, so that they are never too long
PROBE = 2**20  # bytes that are written to find out whether there is room
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
NOT_WRITABLE = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG}
)

_umask_lock = threading.Lock()
_tidied: set[str] = set()  # folders that this process has looked through for leftovers


class WriteError(OSError):
    """A file or a folder cannot be written; the message names it, the reason and the remedy."""


@contextmanager
def atomic_path(path: str | Path, *, previous: str | Path | None = None) -> Iterator[Path]:
    """A temporary path beside `path` to write to; on leaving the block it is flushed to disk and takes the final name.

    If the block raises, the temporary file is removed and whatever lay at `path` stays as it was. The parent folder is
    made if need be. The suffix is kept, since many writers choose the format by it. A process that is killed leaves its
    temporary file behind; the next one that writes into the folder removes it, see `remove_leftovers`.

    Args:
        previous: what lay at `path` gets this name, at the moment when the new file is complete.

    Raises:
        WriteError: the folder cannot be made or written to, or there is no room. Many writers report a full disk by
            an error of another kind; the disk is probed then.
    """
    path = Path(path)
    with scratch_path(path) as temporary:
        try:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.chmod(0o666 & ~_umask())
            if previous is not None:
                _keep(path, Path(previous))
            temporary.replace(path)
        except BaseException as error:
            if (refusal := _refusal(temporary, error)) is not None:
                raise refusal from None  # explain() would report the writer's error instead
            raise


@contextmanager
def scratch_path(path: str | Path) -> Iterator[Path]:
    """A temporary file beside `path` that is removed on leaving the block, or, after a kill, as that of `atomic_path`.

    Raises:
        WriteError: the folder cannot be made or written to, or there is no room.
    """
    path = Path(path)
    make_folder(path.parent)
    with writing(path):
        _tidy_once(path.parent)
        handle, temporary = _temporary(path)
        try:
            yield temporary
        finally:
            with suppress(OSError):
                if temporary.exists():  # not under its final name
                    temporary.unlink()
            os.close(handle)


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """A full disk or a missing right becomes a `WriteError` that names `path`, for which the block writes."""
    try:
        yield
    except OSError as error:
        if not _concerns(error, Path(path)):
            raise
        if error.errno in NO_ROOM:
            raise WriteError(
                f"there is no room for '{path}' ({error.strerror}): make room on the disk, then give the same command "
                "again; what was there before is untouched."
            ) from error
        raise WriteError(
            f"'{path}' cannot be written ({error.strerror}): choose a folder that can be written to, and where no file "
            "is in the way."
        ) from error


def write_text(path: str | Path, text: str) -> None:
    """Write `text` (UTF-8) to `path` at once or not at all, see `atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_table(
    path: str | Path, rows: Iterable[Mapping[str, Any]], columns: Iterable[str] | None = None, *, digits: str = ""
) -> None:
    """Write rows by column to a CSV file at once or not at all; NaN and what a row lacks are empty.

    Args:
        columns: None: those of all rows, in the order in which they first appear.
        digits: format of floating numbers, such as ".6f".
    """
    rows = [{name: _cell(value, digits) for name, value in row.items()} for row in rows]
    names = columns or (name for row in rows for name in row)
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(names)), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def make_folder(path: str | Path) -> Path:
    """`path`, which is a folder from now on.

    Raises:
        WriteError: it cannot be made.
    """
    with writing(path):
        Path(path).mkdir(parents=True, exist_ok=True)
    return Path(path)


def remove_leftovers(folder: str | Path, stem: str | None = None) -> None:
    """Remove the temporary files in `folder` that killed processes left; those of a living process stay.

    Args:
        stem: name without suffix of the file that they were to become; None: of any.
    """
    if not LOCKS:
        return
    wanted = "*" if stem is None else glob.escape(stem[:LONGEST_STEM])
    for file in Path(folder).glob(f".{wanted}-????????{MARK}*"):
        with suppress(OSError), file.open("r+b") as opened:
            if lock_descriptor(opened.fileno(), blocking=False):  # its writer holds this lock while it lives
                file.unlink()


def inside(folder: str | Path, name: str) -> Path:
    """`folder / name`, for a name that comes from outside and must not lead out of the folder.

    Raises:
        ValueError: it would, or it is no name at all.

    >>> inside("out", "case 1").as_posix()
    'out/case 1'
    """
    base = Path(os.path.normpath(folder))
    target = base if "\0" in name else Path(os.path.normpath(base / name))
    if target == base or not target.is_relative_to(base):
        raise ValueError(f"{name!r} cannot name a file in '{folder}': it leads out of the folder, or is no name.")
    return target


def table_reader(file: TextIO) -> csv.DictReader[str]:
    """A reader of an open table; where its first line has no comma, columns are separated by semicolons or tabs."""
    first = file.readline()
    file.seek(0)
    return csv.DictReader(file, restval="", delimiter=next((mark for mark in ",;\t" if mark in first), ","))


def table_rows(
    path: str | Path,
    *,
    needed: Sequence[str] = (),
    error: type[ValueError] = ValueError,
    way_out: str = "remove it",
) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, row by column) of a CSV file; what a row lacks is "", what it has too much is left out.

    A byte order mark, which spreadsheets write, is passed over; for their semicolons see `table_reader`.

    Args:
        needed: columns that must be there.
        error: class of the error for a damaged file; its message ends in `way_out`.

    Raises:
        OSError: it is not there, or cannot be read.
        ValueError: it is no CSV in UTF-8, or lacks a column.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            reader = table_reader(file)
            if absent := [name for name in needed if name not in (reader.fieldnames or ())]:
                raise error(f"{path} has no column {absent[0]!r}: it needs {', '.join(needed)}.")
            for row in reader:
                row.pop(None, None)
                yield reader.line_num, row
    except (csv.Error, UnicodeDecodeError) as problem:
        raise error(f"{path} is damaged ({one_line(problem)}): {way_out}.") from None


def _cell(value: Any, digits: str) -> Any:
    if not isinstance(value, float):
        return value
    return "" if math.isnan(value) else format(value, digits) if digits else value


def _tidy_once(folder: Path) -> None:
    """Remove what killed processes left in `folder`, the first time that this process writes into it."""
    name = os.path.abspath(folder)
    if name not in _tidied:
        _tidied.add(name)
        remove_leftovers(folder)


def _temporary(path: Path) -> tuple[int, Path]:
    """A new file beside `path`, open, and locked as long as it is open."""
    start, end = f".{path.stem[:LONGEST_STEM]}-", f"{MARK}{path.suffix}"
    while True:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=start, suffix=end)
        if not LOCKS:
            return handle, Path(name)
        with suppress(OSError):  # a file system without locks: leftovers are not removed there
            lock_descriptor(handle)
        if os.fstat(handle).st_nlink:
            return handle, Path(name)
        os.close(handle)  # another process took the empty file for a leftover


def _keep(path: Path, previous: Path) -> None:
    """Give what lies at `path` a second name."""
    if not path.exists():
        return
    previous.unlink(missing_ok=True)
    try:
        os.link(path, previous)
    except OSError:  # no hard links here: for a moment there is nothing at `path`
        path.replace(previous)


def _refusal(temporary: Path, error: BaseException) -> OSError | None:
    """The error of the disk where a writer failed without an errno, as NumPy, Pillow, GDAL and torch do."""
    unclear = isinstance(error, (OSError, RuntimeError, ValueError)) and not isinstance(error, WriteError)
    if not unclear or getattr(error, "errno", None) is not None:
        return None
    try:
        with temporary.open("ab") as file:
            file.write(bytes(PROBE))
            file.flush()
            os.fsync(file.fileno())
    except OSError as refusal:
        return refusal if refusal.errno in NO_ROOM else None
    return None


def _concerns(error: OSError, path: Path) -> bool:
    """Whether the disk or its owner refuses something at `path`, beside it or above it."""
    if error.errno not in NO_ROOM | NOT_WRITABLE:
        return False
    named = None if error.filename is None else Path(os.path.abspath(str(error.filename)))
    own = Path(os.path.abspath(path))
    return named is None or own.is_relative_to(named) or named.parent == own.parent


def _umask() -> int:
    with _umask_lock:  # it can only be read by setting it: two threads at once could leave it at 0
        current = os.umask(0o077)
        os.umask(current)
    return current
