"""`python -m benchmarks`: run benchmarks, print Markdown tables and, last, which goals are met."""

from __future__ import annotations

import argparse
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks import (
    adversarial_step,
    cache_file,
    cpu_augmentation,
    data_path,
    engine_overhead,
    goals,
    host_cost,
    rater_metrics,
    scaling,
    tiling,
    train_step,
    validation_overhead,
    volumes,
    whole_epoch,
)
from benchmarks.report import Result, fill, joined, load, machine, sections_of, write_record
from benchmarks.workbench import BATCH_SIZE, Bench

BENCHMARKS: dict[str, Callable[[Bench], Result]] = {
    "data": data_path.run,
    "host": host_cost.run,
    "step": train_step.run,
    "engine": engine_overhead.run,
    "validation": validation_overhead.run,
    "epoch": whole_epoch.run,
    "cache": cache_file.run,
    "scaling": scaling.run,
    "raters": rater_metrics.run,
    "adversarial": adversarial_step.run,
    "tiling": tiling.run,
    "volumes": volumes.run,
    "augment": cpu_augmentation.run,
}


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parse(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    described = machine(torch.device(options.device))
    heading = ", ".join(f"{name} {value}" for name, value in described.items() if value is not None)
    earlier = _earlier(options, heading)
    where = nullcontext(options.folder) if options.folder else TemporaryDirectory()
    with _quiet(), where as folder:
        bench = Bench(
            torch.device(options.device),
            Path(folder),
            images=options.images,
            rounds=options.rounds or (2 if options.quick else 5),
            workers=options.workers,
            quick=options.quick,
        )
        print(f"# Benchmarks\n\n{heading}")
        if options.quick:
            print("\n*Quick run: shows that everything runs; its numbers mean little.*")
        results, began = {}, time.perf_counter()
        for name in options.only:
            results[name] = _timed(BENCHMARKS[name], bench)
            print(f"\n{results[name]}", flush=True)
        print(f"\n*All of it: {(time.perf_counter() - began) / 60:.1f} minutes.*")
    values = {key: value for result in results.values() for key, value in result.values.items()}
    rows = goals.judge(goals.with_shares(values, BATCH_SIZE), bench.device.type)
    rows = goals.with_earlier(rows, earlier.get("goals", ""))
    verdicts = f"## Goals\n\n{goals.table(rows)}"
    print(f"\n{verdicts}")
    if options.output:
        settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
        write_record(options.output, described, settings, results, rows)
    if options.fill:
        sections = {"machine": heading, "goals": f"#{verdicts}"}
        sections |= {name: f"#{results[name]}" if name in results else earlier.get(name, "") for name in BENCHMARKS}
        fill(options.fill, bench.device.type, joined({name: text for name, text in sections.items() if text}))


def _timed(benchmark: Callable[[Bench], Result], bench: Bench) -> Result:
    """Its result, with a note of how long it took and of the load of the machine."""
    before, began = load(), time.perf_counter()
    result = benchmark(bench)
    return replace(result, notes=[*result.notes, f"{time.perf_counter() - began:.0f} s, begun at {before}."])


def _earlier(options: argparse.Namespace, heading: str) -> dict[str, str]:
    """The sections of the page that stay, since only some benchmarks are run again.

    Raises:
        SystemExit: they are of another machine or of other versions.
    """
    if not options.fill or set(options.only) == set(BENCHMARKS):
        return {}
    sections = sections_of(options.fill, torch.device(options.device).type)
    if sections and sections.get("machine") != heading:
        sys.exit(
            f"The tables in {options.fill} are of another machine, of other versions or of another number of threads: "
            "leave out --only, or --fill."
        )
    return sections


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", type=_names, default=list(BENCHMARKS), help=f"benchmarks, of {','.join(BENCHMARKS)}")
    parser.add_argument("--quick", action="store_true", help="a minute instead of many; the numbers mean little")
    parser.add_argument("--device", type=_device, default="cpu", help="cpu, cuda or cuda:1 (default: cpu)")
    parser.add_argument("--threads", type=int, help="torch's threads (default: torch's own choice)")
    parser.add_argument("--workers", type=int, default=2, help="processes of each DataLoader (default: 2)")
    parser.add_argument("--rounds", type=int, help="times that each variant is measured (default: 5)")
    parser.add_argument("--images", type=_photographs, default=192, help="photographs (default: 192)")
    parser.add_argument("--folder", type=Path, help="keep the photographs there (default: a temporary folder)")
    parser.add_argument("--output", type=Path, help="JSON file for numbers, machine and versions")
    parser.add_argument("--fill", type=Path, help="Markdown file that has a place for the tables, benchmarks/README.md")
    options = parser.parse_args(arguments)
    if options.fill and options.quick:
        parser.error("--fill takes numbers that mean something: leave out --quick")
    return options


def _device(text: str) -> str:
    device = torch.device(text)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise argparse.ArgumentTypeError(f"torch sees no {text} here: choose cpu")
    return text


def _names(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is no benchmark: choose from {','.join(BENCHMARKS)}")
    return names


def _photographs(text: str) -> int:
    count = int(text)
    if count < BATCH_SIZE or count % BATCH_SIZE:
        raise argparse.ArgumentTypeError(f"{count} photographs do not fill batches: choose a multiple of {BATCH_SIZE}")
    return count


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the messages of libraries, which would stand between the tables."""
    loggers = [logging.getLogger(name) for name in ("monai", "monai_ext", "ignite")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


if __name__ == "__main__":
    sys.exit(main())
