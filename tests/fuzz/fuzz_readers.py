"""Mutated files for everything that reads one: only errors of one sentence may come out, and nothing may be written.

    python tests/fuzz/fuzz_readers.py --count 20000 --seed 0

Each input depends on the seed and its number alone: `--first NUMBER --count 1` repeats one, with its stack trace.
"""

from __future__ import annotations

import argparse
import faulthandler
import logging
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from fuzz_records import bundle_targets, many_hr_targets, reproduce_targets, run_targets, small_targets
from fuzz_targets import (
    Target,
    cache_targets,
    checkpoint_targets,
    comparison_targets,
    dicom_targets,
    nifti_targets,
    picture_targets,
    tile_targets,
)
from mutations import mutate_bytes

from monai_ext.runtime.errors import explain

MAKERS = (
    picture_targets, nifti_targets, checkpoint_targets, cache_targets, comparison_targets, tile_targets, run_targets,
    reproduce_targets, many_hr_targets, bundle_targets, small_targets, dicom_targets,
)  # fmt: skip
LONGEST_S = 20.0  # for one input through one reader
MOST_MEMORY = 2**30  # bytes that the process may grow by


class Fault(NamedTuple):
    """What came out of a reader and should not have."""

    number: int
    target: str
    reason: str
    error: BaseException | None


def targets(folder: Path) -> list[Target]:
    """All of them, the files of each kind in a folder of its own."""
    made: list[Target] = []
    for make in MAKERS:
        place = folder / make.__name__.removesuffix("_targets")
        place.mkdir()
        made += make(place)
    return made


def fuzz(
    count: int, seed: int, folder: Path, *, first: int = 0, tell: Callable[[str], object] | None = None
) -> tuple[Counter[str], list[Fault]]:
    """Hand `count` inputs, from number `first` on, in turn to the targets; counts of them, and what went wrong."""
    logging.disable(logging.CRITICAL)
    aims, counts, faults = targets(folder), Counter[str](), []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for aim in aims:  # whole files first: a reader that refuses these shows nothing
                for content in aim.seeds:
                    aim.path.write_bytes(content)
                    _judge(aim, -1, folder, counts, faults)
            before, start = _names(folder), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            for number in range(first, first + count):
                aim = aims[number % len(aims)]
                rng = random.Random(f"{seed}:{number}")
                aim.path.write_bytes(_mutated(rng, aim))
                known = len(faults)
                _judge(aim, number, folder, counts, faults)
                aim.path.write_bytes(aim.seeds[0])
                if tell is not None and (number % 1000 == 999 or len(faults) > known):
                    new = [f"; {fault.target}, input {number}: {fault.reason}" for fault in faults[known:]]
                    tell(f"{number + 1} inputs, {len(faults)} faults{''.join(new)}")
    finally:
        logging.disable(logging.NOTSET)
    if new := sorted(_names(folder) - before - {aim.path.relative_to(folder).as_posix() for aim in aims}):
        faults.append(Fault(-1, "all", f"files were left: {new[:5]}", None))
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start)
    counts["MiB of memory grown"] = grown >> 20
    if grown > MOST_MEMORY:
        faults.append(Fault(-1, "all", f"memory grew by {grown >> 20} MiB", None))
    return counts, faults


def _mutated(rng: random.Random, aim: Target) -> bytes:
    content, mutate = rng.choice(aim.seeds), rng.choice(aim.mutators)
    try:
        return mutate(rng, content)
    except (zipfile.BadZipFile, UnicodeDecodeError):  # the seed is of another kind, such as PyTorch's older format
        return mutate_bytes(rng, content)


def _judge(aim: Target, number: int, folder: Path, counts: Counter[str], faults: list[Fault]) -> None:
    name, read = aim.path.relative_to(folder).as_posix(), 0
    for call in aim.calls:
        start = time.perf_counter()
        try:
            call()
            read += 1
        except Exception as error:  # of any kind: which ones may come out is the question
            if reason := _why_wrong(error, folder):
                faults.append(Fault(number, name, reason, error))
        if (seconds := time.perf_counter() - start) > LONGEST_S:
            faults.append(Fault(number, name, f"it took {seconds:.0f} s", None))
    if number < 0 and not read:
        faults.append(Fault(number, name, "the whole file is not read", None))
    counts[f"{name} inputs"] += number >= 0
    counts[f"{name} refused"] += number >= 0 and read < len(aim.calls)


def _why_wrong(error: Exception, folder: Path) -> str | None:
    """Why this is no error of one sentence that names its file; None if it is."""
    sentence = explain(error)
    if sentence is None:
        return f"{type(error).__name__} was not raised on purpose"
    if sentence != str(error):
        return f"instead of the error's own sentence another would speak: {sentence!r}"
    if "\n" in sentence or len(sentence) > 2000:
        return "the sentence is not on one line, or very long"
    if str(folder) not in sentence:
        return f"the sentence names no file: {sentence!r}"
    return None


def _names(folder: Path) -> set[str]:
    """Everything in the folder, but for what writers put where they should."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    return {name for name in names if "written/a" not in name}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000, help="inputs, over all readers (20000)")
    parser.add_argument("--seed", type=int, default=0, help="of the mutations (0)")
    parser.add_argument("--first", type=int, default=0, help="number of the first input (0)")
    args = parser.parse_args()
    faulthandler.enable()
    torch.set_num_threads(1)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        counts, faults = fuzz(
            args.count, args.seed, Path(folder), first=args.first, tell=lambda line: sys.stderr.write(f"{line}\n")
        )
    for name, number in sorted(counts.items()):
        sys.stdout.write(f"{number:8d}  {name}\n")
    kinds = Counter((fault.target, fault.reason.split(":")[0]) for fault in faults)
    for (target, reason), number in kinds.most_common():
        first = next(f for f in faults if f.target == target and f.reason.startswith(reason))
        sys.stdout.write(f"FAULT {number} times, first in input {first.number}: {target}: {first.reason}\n")
        if first.error is not None:
            sys.stdout.write("".join(traceback.format_exception(first.error, limit=-6)))
    sys.stdout.write(f"{args.count} inputs, {len(faults)} faults, {time.perf_counter() - start:.0f} s\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
