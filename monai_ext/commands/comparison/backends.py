"""Where the runs of a comparison execute, as options of a command."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from monai_ext.commands.comparison.ray_backend import RayBackend
from monai_ext.commands.comparison.runs import Backend

__all__ = ["add_backend_arguments", "backend_of", "part_of_all"]

OF_RAY = {"gpus_per_run": None, "cpus_per_run": 1.0, "address": None, "retries": 3}  # and their defaults


def part_of_all(text: str) -> tuple[int, int]:
    """ "I/N", such as an array job's number and count, as (I, N).

    >>> part_of_all("2/5")
    (2, 5)

    Raises:
        argparse.ArgumentTypeError: it is something else, or I is not in 1 ... N.
    """
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise argparse.ArgumentTypeError(f"{text!r} is no part: write I/N with I from 1 to N, such as 2/5")
    return int(number), int(count)


def add_backend_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that `backend_of` reads, and `--jobs` and `--part`."""
    parser.add_argument("--jobs", type=int, help="runs at a time (local: 1; ray: as many as the cluster has room for)")
    parser.add_argument("--part", type=part_of_all, metavar="I/N", help="only every N-th run, from the I-th; no report")
    parser.add_argument("--backend", choices=("local", "ray"), default="local", help="where runs execute (local)")
    group = parser.add_argument_group("with --backend ray, whose workers must share the folders' storage")
    group.add_argument("--gpus_per_run", type=float, help="GPUs of a run, 0.5 lets two share one (1 if there are any)")
    group.add_argument("--cpus_per_run", type=float, help="CPUs of a run, and its threads (1)")
    group.add_argument("--address", help="HOST:PORT of a cluster, auto, or local to start one here (auto, else local)")
    group.add_argument("--retries", type=int, help="how often a run whose worker was lost is started again (3)")


def backend_of(args: argparse.Namespace, *, needed: Sequence[Path]) -> Backend | None:
    """The backend that the options ask for, None for the local one.

    Args:
        needed: files and folders that every worker must see.

    Raises:
        ValueError: an option of another backend than the one chosen, or Ray is not installed.
    """
    given = {name: getattr(args, name) for name in OF_RAY}
    if args.backend == "ray":
        chosen = {name: OF_RAY[name] if value is None else value for name, value in given.items()}
        return RayBackend(jobs=args.jobs, needed=needed, **chosen)
    for name, value in given.items():
        if value is not None:
            raise ValueError(f"--{name} {value} is an option of --backend ray: add that, or leave it out.")
    return None
