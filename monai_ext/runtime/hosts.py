"""Who runs a bundle: a command of its own, or another program that calls MONAI, such as a MONAI Label server."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["has_own_process", "in_monai_label", "put_aside"]

OWN_PROGRAMS = (("monai", "bundle", "__main__.py"), ("monai_ext", "__main__.py"))


def has_own_process(arguments: Sequence[str] | None = None) -> bool:
    """Whether the command line (`sys.argv`) is that of `python -m monai.bundle` or `monai_ext`.

    Otherwise a program or a notebook has called `monai.bundle.run`, and what belongs to the process is its own.

    >>> has_own_process(["/usr/lib/python3/monai/bundle/__main__.py", "run"]), has_own_process(["server.py"])
    (True, False)
    """
    parts = Path((sys.argv if arguments is None else arguments)[0]).parts
    return parts[-1:] == ("monai_ext",) or any(parts[-len(program) :] == program for program in OWN_PROGRAMS)


def in_monai_label() -> bool:
    """Whether MONAI Label runs the bundle: a server, or the process that it starts for a training."""
    return "monailabel" in sys.modules


def put_aside(folder: str | os.PathLike) -> Path | None:
    """Rename a folder with an earlier run to `<folder>-1`, or the first number that is free; None where there is none.

    A server trains again and again with the same settings, and nobody is there to choose another folder.
    """
    folder = Path(folder)
    if not (folder / "run.json").exists():
        return None
    number = 1
    while (aside := folder.with_name(f"{folder.name}-{number}")).exists():
        number += 1
    return folder.rename(aside)
