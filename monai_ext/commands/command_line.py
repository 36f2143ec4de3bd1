"""Command lines from dataclasses of options: fields are options, their docstrings the help; parsed by tyro.

A field without a default must be given. Wrong use ends in one sentence on standard error and exit status 2.
"""

from __future__ import annotations

import inspect
import io
import os
import re
import sys
import textwrap
from collections import deque
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import MISSING, dataclass, field, fields, make_dataclass
from decimal import Decimal
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

os.environ.setdefault("PYTHON_TYRO_UTF8_BOXES", "False")  # read when tyro is imported: no frames around its texts

import tyro
from tyro.conf import Positional, Suppress, UseAppendAction, arg

__all__ = [
    "Computed",
    "Parsed",
    "Paths",
    "Positional",
    "Suppress",
    "UseAppendAction",
    "arg",
    "option_pairs",
    "parse_options",
    "wrong_use",
]

T = TypeVar("T")
Computed = Annotated[T, arg(help_behavior_hint="")]  # an option whose help describes what happens without it
Paths = Annotated[Positional[tuple[Path, ...]], arg(help_behavior_hint="(required)")]

STYLE = (
    tyro.conf.OmitArgPrefixes,
    tyro.conf.DisallowNone,
    tyro.conf.FlagCreatePairsOff,
    tyro.conf.PositionalMetavarFromFieldName,
)
QUIET = "no messages and no progress bars; results, warnings and errors remain"
RULE = re.compile(r"\s*-{3,}\s*")
NEGATIVE = re.compile(r"-(?:\d+\.?\d*|\.\d+)[eE][+-]?\d{1,3}")
NO_VALUE = re.compile(r"Missing value for argument 'options\.(\w+)'\. Expected 1 values?\.")
NO_TYPE = re.compile(r"Error parsing (\S+): no type matching (.+) could be instantiated from \[(.*?)\]\..*")


@dataclass(frozen=True)
class Parsed(Generic[T]):
    """A command line: its options, `--quiet`, and the words that no option of the command takes."""

    options: T
    quiet: bool
    further: tuple[str, ...]


def parse_options(
    kind: type[T], arguments: Sequence[str], *, prog: str = "monai_ext", examples: str = "", passes_on: bool = False
) -> Parsed[T]:
    """The options `kind` from the words of a command line.

    Args:
        examples: text below the help.
        passes_on: keep unknown options, for another program, instead of refusing them.

    Raises:
        SystemExit: after `--help` (status 0), or with one sentence on wrong use (status 2).
    """
    line = make_dataclass(
        "CommandLine",
        [
            ("options", Annotated[kind, arg(name="")]),
            ("quiet", Annotated[bool, arg(help=QUIET)], field(default=False)),
        ],
    )
    problem = io.StringIO()
    try:
        with redirect_stderr(problem):
            found: Any
            found, further = tyro.cli(
                line,
                args=[_decimal(word) for word in arguments],
                prog=prog,
                description=_wrapped(inspect.getdoc(kind) or ""),
                use_underscores=True,
                config=STYLE,
                return_unknown_args=True,
            )
    except ValueError as error:  # of the options' own checks
        raise wrong_use(prog, str(error)) from None
    except SystemExit as end:
        if end.code:
            raise wrong_use(prog, _sentence(problem.getvalue())) from None
        sys.stdout.write(f"examples:\n{examples}" if examples else "")
        raise
    if further and not passes_on:
        raise wrong_use(prog, f"unknown arguments: {' '.join(further)}")
    for each in fields(found.options):
        if each.default is MISSING and getattr(found.options, each.name) == ():
            raise wrong_use(prog, f"{each.name} are missing: give at least one")
    return Parsed(found.options, found.quiet, tuple(further))


def option_pairs(words: Sequence[str]) -> dict[str, str]:
    """Further options of a command, `--key value` or `--key=value`, which are arguments of every bundle run.

    >>> option_pairs(["--max_epochs", "10", "--fold=all"])
    {'max_epochs': '10', 'fold': 'all'}

    Raises:
        ValueError: a word is no option, or an option has no value.
    """
    pairs, parts = {}, deque(words)
    while parts:
        key, equals, value = parts.popleft().partition("=")
        if not re.fullmatch(r"--\w[\w#:.-]*", key):
            raise ValueError(f"{key!r} is no option: further arguments of the bundle are pairs --key value.")
        if not equals:
            if not parts:
                raise ValueError(f"{key} has no value: further arguments of the bundle are pairs --key value.")
            value = parts.popleft()
        pairs[key[2:]] = value
    return pairs


def _decimal(word: str) -> str:
    """A negative number without an exponent; argparse takes one with it for an option.

    >>> _decimal("-1e-05"), _decimal("-9999"), _decimal("-v")
    ('-0.00001', '-9999', '-v')
    """
    return f"{Decimal(word):f}" if NEGATIVE.fullmatch(word) else word


def wrong_use(prog: str, sentence: str) -> SystemExit:
    """What ends a command after wrong use, with exit status 2; the sentence is on standard error."""
    sys.stderr.write(f"{prog}: error: {sentence} ({prog} --help shows the options)\n")
    return SystemExit(2)


def _wrapped(text: str) -> str:
    """Paragraphs in lines of at most 79 characters; tyro keeps the breaks of lines that begin with a space."""
    return "\n\n".join(
        textwrap.fill(part, 79, initial_indent=" ", subsequent_indent=" ") for part in text.split("\n\n")
    )


def _sentence(message: str) -> str:
    """The text of a message of tyro between its title and the next rule, on one line."""
    _, _, *lines = message.splitlines()
    text = " ".join(" ".join(takewhile(lambda line: not RULE.fullmatch(line), lines)).split())
    text = NO_VALUE.sub(lambda found: f"{found[1].upper()} is missing", text)
    return NO_TYPE.sub(r"\1 takes \2, not \3", text)
