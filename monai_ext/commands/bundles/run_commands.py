"""The command `python -m monai.bundle run` on a bundle: built, shown as it is typed, and executed."""

from __future__ import annotations

import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from fire.parser import DefaultParseValue

from monai_ext.runtime.bundle_options import refuse_misread_places, refuse_unknown_options
from monai_ext.runtime.command_lines import shell_line

__all__ = ["bundle_command", "check_command", "execute", "place", "run_here", "typed"]

GRACE_S = 10.0  # that an interrupted process has to end by itself
SCRIPT = "monai/bundle/__main__.py"  # as it ends in `sys.argv` of such a process


def bundle_command(config_files: Sequence[str | Path], choices: Mapping[str, object]) -> tuple[str, ...]:
    """The words after the interpreter.

    >>> bundle_command(["a.json"], {"fold": 0})
    ('-m', 'monai.bundle', 'run', '--config_file', 'a.json', '--fold', '0')
    """
    files = [str(file) for file in config_files]
    options = [word for key, value in choices.items() for word in (f"--{key}", str(value))]
    return ("-m", "monai.bundle", "run", "--config_file", files[0] if len(files) == 1 else str(files), *options)


def typed(words: Sequence[str]) -> str:
    """A command of Python as one line for a shell."""
    return f"python {shell_line(words)}"


def place(path: Path) -> str:
    """A path as it is typed for MONAI, which reads `2017` as a number and `@a` as a reference.

    >>> place(Path("2017")), place(Path("runs/a"))
    ('./2017', 'runs/a')
    """
    text = str(path)
    misread = not isinstance(DefaultParseValue(text), str) or text.startswith(("@", "$", "%"))
    return f"./{text}" if misread and not path.is_absolute() else text


def check_command(words: Sequence[str]) -> None:
    """Nothing, unless a bundle run would refuse an option of this command.

    Raises:
        ValueError: the configs lack an option, and the nearest name; or MONAI misreads the name of a place.
    """
    arguments = [SCRIPT, *words[2:]]
    refuse_misread_places(arguments)
    refuse_unknown_options(arguments)


def run_here(words: Sequence[str]) -> int:
    """Execute a bundle command in this process, as a process of its own would: the same errors, log and exit status."""
    before = sys.argv
    sys.argv = [SCRIPT, *words[2:]]
    try:
        runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
    finally:
        sys.argv = before
    return 0


def execute(words: Sequence[str], *, folder: Path | None = None, variables: Mapping[str, str] | None = None) -> int:
    """Execute a command of Python in a process of its own, and return its exit status.

    After an interrupt, which a terminal sends to both, the process gets the time to end with a sentence of its own.
    """
    process = subprocess.Popen([sys.executable, *words], cwd=folder, env=variables)
    try:
        return process.wait()
    except KeyboardInterrupt:
        try:
            process.wait(timeout=GRACE_S)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            process.kill()
            process.wait()
        raise
