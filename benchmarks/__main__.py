"""`python -m benchmarks`: runs the questions, prints Markdown tables and, last, which goals are met."""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks import (
    cache_file,
    data_path,
    engine_overhead,
    goals,
    host_cost,
    scaling,
    train_step,
    validation_overhead,
    whole_epoch,
)
from benchmarks.report import Result, machine, write_record
from benchmarks.workbench import BATCH_SIZE, Bench

QUESTIONS: dict[str, Callable[[Bench], Result]] = {
    "data": data_path.run,
    "host": host_cost.run,
    "step": train_step.run,
    "engine": engine_overhead.run,
    "validation": validation_overhead.run,
    "epoch": whole_epoch.run,
    "cache": cache_file.run,
    "scaling": scaling.run,
}


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parse(arguments)
    _be_quiet()
    if options.threads:
        torch.set_num_threads(options.threads)
    where = nullcontext(options.folder) if options.folder else TemporaryDirectory()
    with where as folder:
        bench = Bench(
            torch.device(options.device),
            Path(folder),
            images=options.images,
            rounds=options.rounds or (2 if options.quick else 7),
            workers=options.workers,
            quick=options.quick,
        )
        described = machine(bench.device)
        print(
            "# Benchmarks\n\n" + ", ".join(f"{name} {value}" for name, value in described.items() if value is not None)
        )
        if options.quick:
            print("\n*Quick run: shows that everything runs; its numbers mean little.*")
        results = {}
        for name in options.only:
            results[name] = QUESTIONS[name](bench)
            print(f"\n{results[name]}", flush=True)
    values = {key: value for result in results.values() for key, value in result.values.items()}
    rows = goals.judge(goals.with_shares(values, BATCH_SIZE), bench.device.type)
    print(f"\n## Goals\n{goals.table(rows)}")
    if options.output:
        settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
        write_record(options.output, described, settings, results, rows)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", type=_names, default=list(QUESTIONS), help=f"questions, of {','.join(QUESTIONS)}")
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes; the numbers mean little")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:1 (default: cpu)")
    parser.add_argument("--threads", type=int, help="torch's threads (default: torch's own choice)")
    parser.add_argument("--workers", type=int, default=2, help="processes of each DataLoader (default: 2)")
    parser.add_argument("--rounds", type=int, help="times that each variant is measured (default: 7)")
    parser.add_argument("--images", type=int, default=192, help="photographs, a multiple of 16 (default: 192)")
    parser.add_argument("--folder", type=Path, help="keep the drawn photographs there (default: a temporary folder)")
    parser.add_argument("--output", type=Path, help="JSON file for numbers, machine and versions")
    return parser.parse_args(arguments)


def _names(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in QUESTIONS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is no question: choose of {','.join(QUESTIONS)}")
    return names


def _be_quiet() -> None:
    """What libraries say on the way would stand between the tables."""
    warnings.filterwarnings("ignore")
    for name in ("monai", "monai_ext", "ignite"):
        logging.getLogger(name).setLevel(logging.ERROR)


if __name__ == "__main__":
    sys.exit(main())
