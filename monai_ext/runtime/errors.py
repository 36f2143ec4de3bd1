"""Errors as one sentence instead of a stack trace, for commands that people type."""

from __future__ import annotations

import errno
import logging
import os
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from monai_ext.runtime.bundle_options import refuse_misread_places, refuse_unknown_options
from monai_ext.runtime.plain_text import printable, without_secrets
from monai_ext.runtime.run_log import keep_log, note

__all__ = [
    "NonFiniteLossError",
    "TRACEBACK_VARIABLE",
    "WAYS_ON",
    "explain",
    "network_reason",
    "one_line",
    "report_errors_in_one_sentence",
    "some_of",
    "tell_interrupted",
]

TRACEBACK_VARIABLE = "MONAI_EXT_TRACEBACK"
LONGEST_REASON = 200  # characters of a library's message inside a sentence of ours
WAYS_ON: list[str] = []  # how to go on after an interrupt, of what is running; the last one is said
# What a disk or its owner is to blame for, wherever it shows: in a curve's writer, a log, a library.
OF_THE_DISK = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST}
    | {errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP}
)
WAY_OUT = {
    errno.EISDIR: "name a file, not a folder",
    errno.ENAMETOOLONG: "choose shorter names",
    errno.ELOOP: "it is a link that leads to itself",
}
OBJECT = re.compile(r"^(.*>: |\w+\([^()]*\): )")  # of urllib3, in front of its message
_PACKAGE = Path(__file__).parents[1]


class NonFiniteLossError(ArithmeticError):
    """The training loss became NaN or infinite."""


def explain(error: BaseException) -> str | None:
    """The sentence of the error that this package raised on purpose, or None where there is none.

    MONAI and Ignite wrap what happens inside a config several times, so the chain of causes is searched for a
    `ValueError`, `OSError` or `NonFiniteLossError` raised by a line of this package; the innermost error is reported.
    Where there is none, a refusal of the operating system is reported: any that this package met, and a full disk or a
    missing right wherever it occurred. Anything else (a `KeyError`, an error from deep inside a library) is a defect
    whose stack trace is needed.
    """
    sentence = refusal = None
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        if isinstance(link, OSError) and link.errno is not None and (link.errno in OF_THE_DISK or _raised_here(link)):
            place = "the disk" if link.filename is None else f"'{link.filename}'"
            way_out = WAY_OUT.get(link.errno, "see that it is there, has room, and may be written to")
            refusal = f"cannot use {place} ({link.strerror}): {way_out}."
        elif isinstance(link, UnicodeEncodeError) and link.reason.startswith("surrogates"):
            return (
                f"a name holds letters that Python takes for {sys.getfilesystemencoding()} here and cannot write: set "
                "the environment variable PYTHONUTF8=1, or a locale such as LC_ALL=C.UTF-8."
            )
        elif isinstance(link, (ValueError, OSError, NonFiniteLossError)) and _raised_here(link):
            sentence = str(link)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return sentence or refusal


def network_reason(error: Exception) -> str:
    """The innermost cause, without the addresses and objects that requests and urllib3 name in theirs."""
    cause: BaseException = error
    while isinstance(inner := getattr(cause, "reason", None) or next(iter(cause.args), None), BaseException):
        cause = inner
    text = one_line(cause if isinstance(cause, Exception) else error)
    return without_secrets(OBJECT.sub("", text))


def one_line(error: BaseException) -> str:
    """The message of an error on one line of at most 200 characters; its type where it has none.

    >>> one_line(ValueError("bad\\n  news"))
    'bad news'
    """
    text = printable(" ".join(str(error).split())).rstrip(".") or type(error).__name__
    return text if len(text) <= LONGEST_REASON else f"{text[: LONGEST_REASON - 3]}..."


def some_of(names: Sequence[object], *, most: int = 5, separator: str = ", ") -> str:
    """The first of many names, and how many more there are.

    >>> some_of(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    more = len(names) - most
    return separator.join(map(str, names[:most])) + (f" and {more} more" if more > 0 else "")


def _raised_here(error: BaseException) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and _PACKAGE in Path(frames[-1].filename).resolve().parents


def report_errors_in_one_sentence(*, log_dir: str | Path | None = None) -> None:
    """From now on let uncaught errors that `explain` finds a sentence for end the process with it and exit status 1.

    What MONAI's handlers log of such an error on the way loses its stack trace too, and what Ignite's engines log of it
    is left out. An interrupt ends the process as it usually does, without a stack trace, and with a sentence of how to
    go on. Set the environment variable MONAI_EXT_TRACEBACK=1 to see the whole stack trace as well. In a `monai.bundle
    run`, an option that its configs do not have, or a folder's name that MONAI reads otherwise, is the first such
    error, see `bundle_options`.

    Args:
        log_dir: what is logged from now on is added to `run.log` in this folder as well, see `RunLog`, and so is the
            error, always with its stack trace. None: no log is kept.
    """
    _hide_known_traces()
    if not os.environ.get(TRACEBACK_VARIABLE):
        logging.getLogger("ignite.engine.engine").setLevel(logging.CRITICAL)

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, KeyboardInterrupt) and not os.environ.get(TRACEBACK_VARIABLE):
            tell_interrupted()
            return
        sentence = explain(error)
        whole = "".join(traceback.format_exception(kind, error, trace))
        note(whole.rstrip(), logging.ERROR)
        if sentence is None or os.environ.get(TRACEBACK_VARIABLE):
            sys.stderr.write(without_secrets(whole))
        if sentence is not None:
            note(f"error: {sentence}", logging.ERROR)
            sys.stderr.write(f"\nerror: {without_secrets(sentence)}\n")

    sys.excepthook = hook
    refuse_misread_places(sys.argv)  # before the log, whose folder may be such a name
    keep_log(log_dir)
    refuse_unknown_options(sys.argv)


def tell_interrupted() -> None:
    """Write that the process was interrupted, and how to go on if `WAYS_ON` has it, to standard error and the log."""
    sentence = ": ".join(["interrupted", *WAYS_ON[-1:]])
    note(sentence, logging.WARNING)
    sys.stderr.write(f"\n{sentence}\n")


def _hide_known_traces() -> None:
    make = logging.getLogRecordFactory()
    if getattr(make, "hides_known_traces", False):
        return

    def record(*args: Any, **kwargs: Any) -> logging.LogRecord:
        made = make(*args, **kwargs)
        error = made.exc_info[1] if isinstance(made.exc_info, tuple) else None
        if error is not None and not os.environ.get(TRACEBACK_VARIABLE) and explain(error) is not None:
            made.exc_info = None
        return made

    record.hides_known_traces = True  # type: ignore[attr-defined]  # a mark on the function, looked for above
    logging.setLogRecordFactory(record)
