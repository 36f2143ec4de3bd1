"""Errors as one sentence instead of a stack trace, for commands that people type."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from types import TracebackType

__all__ = ["NonFiniteLossError", "TRACEBACK_VARIABLE", "explain", "report_errors_in_one_sentence"]

TRACEBACK_VARIABLE = "MONAI_EXT_TRACEBACK"
_PACKAGE = Path(__file__).parent


class NonFiniteLossError(ArithmeticError):
    """The training loss became NaN or infinite."""


def explain(error: BaseException) -> str | None:
    """The sentence of the error that this package raised on purpose, or None where there is none.

    MONAI and Ignite wrap what happens inside a config several times, so the chain of causes is searched for a
    `ValueError`, `OSError` or `NonFiniteLossError` raised by a line of this package; the innermost one speaks.
    Anything else (a `KeyError`, an error from deep inside a library) is a defect whose stack trace is needed.
    """
    sentence = None
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        if isinstance(link, (ValueError, OSError, NonFiniteLossError)) and _raised_here(link):
            sentence = str(link)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return sentence


def _raised_here(error: BaseException) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and _PACKAGE in Path(frames[-1].filename).resolve().parents


def report_errors_in_one_sentence() -> None:
    """From now on let uncaught errors that `explain` knows end the process with their sentence and exit status 1.

    Set the environment variable MONAI_EXT_TRACEBACK=1 to see the whole stack trace as well.
    """

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        sentence = explain(error)
        if sentence is None or os.environ.get(TRACEBACK_VARIABLE):
            sys.__excepthook__(kind, error, trace)
        if sentence is not None:
            sys.stderr.write(f"\nerror: {sentence}\n")

    sys.excepthook = hook
