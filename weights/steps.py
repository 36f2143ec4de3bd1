"""Steps of a recipe: commands that are skipped once what they make is there, and trainings that go on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from monai_ext.runtime.command_lines import shell_line

__all__ = ["Options", "Step", "bundle_run", "evaluation", "program", "run_steps", "training"]

Options = Mapping[str, object]  # each written as it is typed


@dataclass(frozen=True)
class Step:
    """A command, and the file that is there once it has run.

    Attributes:
        name: what it does, for the log.
        words: of the command, without the Python interpreter.
        makes: its result; a step whose result is there is skipped.
        begun: a file that an interrupted run leaves; with it `--resume true` is added. None: it begins again.
    """

    name: str
    words: tuple[str, ...]
    makes: Path
    begun: Path | None = None

    def command(self) -> tuple[str, ...]:
        """The words, `python` first, with `--resume true` for a run that was interrupted."""
        resumed = ("--resume", "true") if self.begun is not None and self.begun.exists() else ()
        return ("python", *self.words, *resumed)


def bundle_run(bundle: str, configs: Sequence[str], options: Options) -> tuple[str, ...]:
    """`-m monai.bundle run` of configs of a bundle, by their names or paths, with options."""
    paths = [name if "/" in name else f"bundles/{bundle}/configs/{name}" for name in configs]
    words = ["-m", "monai.bundle", "run", "--config_file", paths[0] if len(paths) == 1 else repr(paths)]
    for name, value in {"bundle_root": f"bundles/{bundle}", **options}.items():
        words += [f"--{name}", str(value).lower() if isinstance(value, bool) else str(value)]
    return tuple(words)


def training(name: str, bundle: str, run: Path, options: Options, *, overlays: Sequence[str] = ()) -> Step:
    """A run of train.json in the folder `run`, to its final.pt."""
    words = bundle_run(bundle, ["train.json", *overlays], {"output_dir": run, **options})
    return Step(name, words, run / "final.pt", run / "last.pt")


def evaluation(name: str, bundle: str, run: Path, options: Options) -> Step:
    """A run of evaluate.json on top of train.json, to its summary.json."""
    words = bundle_run(bundle, ["train.json", "evaluate.json"], {"output_dir": run, **options})
    return Step(name, words, Path(str(options.get("evaluation_dir", run / "evaluation")), "summary.json"))


def program(name: str, module: str, *words: object, makes: Path) -> Step:
    """A module of this folder; its last word is what it makes, or the folder of that."""
    last = () if makes.parent in words else (makes,)
    return Step(name, ("-m", f"weights.{module}", *map(str, (*words, *last))), makes)


def run_steps(steps: Sequence[Step], *, dry_run: bool = False) -> None:
    """Run what is not there yet, one after the other; with `dry_run` only print the commands.

    Raises:
        subprocess.CalledProcessError: a command failed; the steps before it need not run again.
    """
    for number, step in enumerate(steps, 1):
        there = step.makes.exists()
        print(f"# {number} of {len(steps)}: {step.name}{', done' if there else ''}", flush=True)
        print(shell_line(step.command()), flush=True)
        if not there and not dry_run:
            step.makes.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run([sys.executable, *step.command()[1:]], check=True)
            if not step.makes.exists():
                raise FileNotFoundError(f"step {number}, {step.name!r}, ended without {step.makes}.")
