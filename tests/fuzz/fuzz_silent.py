"""Flipped bits in every kind of file that is read: an error, or the same result, but no other result without a word.

    python tests/fuzz/fuzz_silent.py --count 20000 --seed 0

Files with checksums over all they hold (PNG, .nii.gz, .pt, .npz, decoded sets, zips, records of our own) must notice
every change: a result that differs from that of the whole file is a fault. Others (JPEG, TIFF, .nii, tables, JSON of
others ...) have nothing to check a file by; changed results are counted for them, as a measure of what only a record of
their content would notice. Each input depends on the seed and its number alone: `--first NUMBER --count 1` repeats one.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path

import msgspec
import numpy as np
import torch
from fuzz_readers import targets
from fuzz_targets import Target
from mutations import flip_bits

from monai_ext.storage.records import write_record

SEALED = (".png", ".nii.gz", ".pt", ".npz", ".safetensors", ".zip", "record")
RECORDS = (
    "attribution", "best", "calibration", "finished", "index", "pixel_scale", "plan", "run", "scores", "started",
    "summary", ".rows.png.partial",
)  # fmt: skip


def same(one: object, other: object) -> bool:
    """Whether two results of a reader hold equal values, NaN being equal to NaN; what is neither data nor text counts
    by its type."""
    if isinstance(one, Exception) or isinstance(other, Exception):
        return type(one) is type(other)
    if isinstance(one, torch.Tensor | np.ndarray | np.generic | float):
        if type(one) is not type(other):
            return False
        first, second = np.asarray(one), np.asarray(other)
        return first.dtype == second.dtype and np.array_equal(first, second, equal_nan=first.dtype.kind in "fc")
    if isinstance(one, torch.nn.Module):
        return isinstance(other, torch.nn.Module) and same(one.state_dict(), other.state_dict())
    if isinstance(one, msgspec.Struct) or is_dataclass(one):
        names = one.__struct_fields__ if isinstance(one, msgspec.Struct) else [field.name for field in fields(one)]
        return type(one) is type(other) and all(same(getattr(one, name), getattr(other, name)) for name in names)
    if isinstance(one, Mapping):
        return isinstance(other, Mapping) and list(one) == list(other) and all(same(one[k], other[k]) for k in one)
    if isinstance(one, Sequence) and not isinstance(one, str | bytes):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    if one is None or isinstance(one, str | bytes | int | Path):
        return one == other
    return type(one) is type(other)


def results(aim: Target) -> list[object]:
    """What each reader makes of the file; errors in their place."""
    found: list[object] = []
    for call in aim.calls:
        try:
            found.append(call())
        except Exception as error:  # of any kind: fuzz_readers.py judges which
            found.append(error)
    return found


def sealed(aim: Target) -> Target:
    """Records as the package writes them, with a checksum; other files as they are."""
    if aim.path.suffix != ".json" or aim.path.stem not in RECORDS:
        return aim
    seeds = []
    for seed in aim.seeds:
        if isinstance(content := json.loads(seed), dict):
            write_record(aim.path, content)
            seed = aim.path.read_bytes()
        seeds.append(seed)
    aim.path.write_bytes(seeds[0])
    return aim._replace(seeds=seeds)


def fuzz(
    count: int, seed: int, folder: Path, *, first: int = 0, only: str = ""
) -> tuple[dict[str, Counter[str]], list[str]]:
    """Outcomes by suffix of file, and the faults."""
    logging.disable(logging.CRITICAL)
    counts: dict[str, Counter[str]] = {}
    faults: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        aims = [sealed(aim) for aim in targets(folder) if aim.path.name.endswith(only)]
        whole: dict[tuple[int, int], list[object]] = {}
        for number in range(first, first + count):
            at = number % len(aims)
            aim, rng = aims[at], random.Random(f"{seed}:{number}")
            which = rng.randrange(len(aim.seeds))
            if (at, which) not in whole:
                aim.path.write_bytes(aim.seeds[which])
                whole[at, which] = results(aim)
            aim.path.write_bytes(flip_bits(rng, aim.seeds[which]))
            name = aim.path.relative_to(folder).as_posix()
            suffix = next((each for each in SEALED if name.endswith(each)), aim.path.suffix)
            if b'"checksum": "crc32:' in aim.seeds[which]:
                suffix = "record"
            if suffix == ".pt" and not aim.seeds[which].startswith(b"PK"):
                suffix = ".pt (old)"  # PyTorch's format before zips
            tally = counts.setdefault(suffix, Counter())
            for reader, (before, after) in enumerate(zip(whole[at, which], results(aim), strict=True)):
                if before is None or isinstance(before, Exception):
                    continue
                refused = after is None or isinstance(after, Exception)  # None: a kept file that is made anew
                outcome = "refused" if refused else "same" if same(before, after) else "changed"
                tally[outcome] += 1
                if outcome == "changed" and suffix in SEALED:
                    faults.append(f"input {number}: reader {reader} of {name}, seed {which}")
            aim.path.write_bytes(aim.seeds[0])
    logging.disable(logging.NOTSET)
    return counts, faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000, help="inputs, over all kinds of files (20000)")
    parser.add_argument("--seed", type=int, default=0, help="of the flips (0)")
    parser.add_argument("--first", type=int, default=0, help="number of the first input (0)")
    parser.add_argument("--only", default="", help="kinds of files whose names end so, such as .png")
    args = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        counts, faults = fuzz(args.count, args.seed, Path(folder), first=args.first, only=args.only)
    sys.stdout.write(f"{'kind':>14}  checked  refused     same  changed   (results of readers)\n")
    for suffix, tally in sorted(counts.items(), key=lambda item: (item[0] not in SEALED, item[0])):
        sealed = "yes" if suffix in SEALED else "no"
        columns = "".join(f"{tally[each]:9d}" for each in ("refused", "same", "changed"))
        sys.stdout.write(f"{suffix:>14}  {sealed:>7}{columns}\n")
    for fault in faults[:50]:
        sys.stdout.write(f"FAULT {fault}\n")
    sys.stdout.write(f"{args.count} inputs, {len(faults)} faults, {time.perf_counter() - start:.0f} s\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
