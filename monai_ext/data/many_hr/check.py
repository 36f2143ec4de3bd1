"""Check that a one-LR-many-HR data set is whole, and that its images agree with its tables."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from monai_ext.data.many_hr.format import (
    OPERATOR_FILE,
    RECORD_FILE,
    TARGET_FILE,
    WAY_OUT,
    ManyHrError,
    RecordLine,
    TargetLine,
    file_entry,
    read_index,
    read_records,
    read_targets,
    shard_files,
)
from monai_ext.data.many_hr.measures import low_res_gaps, pairwise_rms
from monai_ext.runtime.run_log import shows_progress
from monai_ext.storage.array_files import read_array

__all__ = ["ManyHrReport", "check_many_hr"]

TOLERANCE = 1e-3  # of measures, in levels and dB: they are kept with four digits


@dataclass
class ManyHrReport:
    """What was found.

    Attributes:
        records, targets: how many were measured.
        problems: one sentence each; empty for a good data set.
        lowest_psnr: of each kind, in dB.
        largest_gap: of each kind, in levels.
        differing: low-resolution pixels of each kind that differ after rounding to 8 bits.
        nearest: least distance of two targets of a record, captures apart, in levels.
    """

    records: int = 0
    targets: int = 0
    problems: list[str] = field(default_factory=list)
    lowest_psnr: dict[str, float] = field(default_factory=dict)
    largest_gap: dict[str, float] = field(default_factory=dict)
    differing: dict[str, int] = field(default_factory=dict)
    nearest: float = float("inf")


@torch.no_grad()
def check_many_hr(folder: str | os.PathLike) -> ManyHrReport:
    """Check sums of all files, and gaps and distances of all images measured again by operator.npy.

    Args:
        folder: of the data set.

    Raises:
        ManyHrError: there is no data set, or its index or tables cannot be read.
    """
    folder = Path(folder)
    index = read_index(folder)
    report = ManyHrReport()
    needed = {RECORD_FILE, TARGET_FILE, OPERATOR_FILE}
    damaged = needed - index.files.keys()
    report.problems += [f"{name} is not in the index." for name in sorted(damaged)]
    for name, entry in index.files.items():
        if not (folder / name).is_file():
            report.problems.append(f"{name} is missing.")
        elif file_entry(folder / name) != entry:
            report.problems.append(f"{name} is not the file that was written: its sha256 differs.")
        else:
            continue
        damaged.add(name)
    if damaged & needed:
        return report
    matrix = torch.from_numpy(_array(folder / OPERATOR_FILE))
    records, targets = read_records(folder), defaultdict(list)
    for line in read_targets(folder):
        targets[line.record].append(line)
    if (len(records), sum(map(len, targets.values()))) != (index.records, index.targets):
        report.problems.append("the tables and the index count records or targets differently.")
    good = index.files.keys() - damaged
    whole = [r for r in records if {shard_files(r.shard)[key] for key in ("low_res", "high_res")} <= good]
    bar = tqdm(total=len(whole), desc="checking", unit="record", disable=not shows_progress())
    with bar:
        for record, low_res, high_res in _images(folder, whole):
            _measure(report, matrix, record, targets[record.record], low_res, high_res)
            bar.update()
    return report


_array = partial(read_array, error=ManyHrError, way_out=WAY_OUT)


def _images(folder: Path, records: Sequence[RecordLine]) -> Iterator[tuple[RecordLine, Tensor, Tensor]]:
    opened: dict[str, np.ndarray] = {}
    number = -1
    for record in records:
        if record.shard != number:
            number, names = record.shard, shard_files(record.shard)
            opened = {key: _array(folder / names[key], mapped=True) for key in ("low_res", "high_res")}
        high_res = opened["high_res"][record.high_res_row :][: record.targets + record.captures]
        low_res = opened["low_res"][record.low_res_row]
        yield record, torch.from_numpy(np.array(low_res)), torch.from_numpy(np.array(high_res))


def _measure(
    report: ManyHrReport,
    matrix: Tensor,
    record: RecordLine,
    targets: Sequence[TargetLine],
    low_res: Tensor,
    high_res: Tensor,
) -> None:
    name = record.record
    if len(targets) != len(high_res):
        report.problems.append(f"record {name} has {len(high_res)} images and {len(targets)} lines.")
        return
    report.records += 1
    report.targets += len(targets)
    for target, gap in zip(targets, low_res_gaps(matrix, high_res, low_res), strict=True):
        kind = target.kind
        report.lowest_psnr[kind] = min(gap.psnr, report.lowest_psnr.get(kind, float("inf")))
        report.largest_gap[kind] = max(gap.largest, report.largest_gap.get(kind, 0.0))
        report.differing[kind] = gap.differing + report.differing.get(kind, 0)
        stored = target.lr_max, target.lr_psnr, target.lr_differing
        if max(abs(measured - value) for measured, value in zip(gap, stored, strict=True)) > TOLERANCE:
            report.problems.append(f"record {name}, row {target.row}: the gap is {gap}, in the table {stored}.")
    distances = pairwise_rms(high_res)
    if max(abs(d - value) for d, value in zip(distances, record.distance_rms, strict=True)) > TOLERANCE:
        report.problems.append(f"record {name}: the distances of its images are not those of the table.")
    exact = pairwise_rms(high_res[: record.targets])
    report.nearest = min(report.nearest, *exact)
