"""`consensus`: one mask from those of several raters, for each case of a data set, in its geometry."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
import torch
from torch import Tensor

from monai_ext.commands.html import Block, Heading, Table, Text
from monai_ext.commands.scoring.rater_choice import RaterChoice, RaterFolders
from monai_ext.commands.scoring.records import Interval
from monai_ext.commands.scoring.summaries import mean_intervals
from monai_ext.commands.scoring.tables import text_page
from monai_ext.data.raters.cases import read_rater_case
from monai_ext.data.raters.writer import RaterWriter
from monai_ext.formulas.consensus import consensus_map, rater_performance
from monai_ext.metrics import pairwise_dice
from monai_ext.runtime.run_log import progress, tell
from monai_ext.storage.files import atomic_path, inside, write_table
from monai_ext.storage.records import write_record

__all__ = ["ConsensusOptions", "ConsensusRecord", "RaterPerformance", "consensus", "performance_table", "run"]

CONSENSUS_RATER = 0  # number of the file, task01_seg00: nobody's


@dataclass(frozen=True)
class ConsensusOptions(RaterChoice, RaterFolders):
    """Write one mask for each case from those of its raters, in the geometry of the case.

    <case>/task01.nii.gz is the consensus as a map in [0, 1], <case>/task01_seg00.nii.gz the mask where it is at least
    one half, rater 0. raters.csv has each rater's sensitivity and specificity with the consensus as the truth; those of
    STAPLE are its own estimates.
    """

    output_dir: Path
    """for the masks, one folder a case, raters.csv and consensus.json"""
    method: Literal["staple", "majority", "soft_vote", "union", "intersection", "log_opinion_pool"] = "staple"
    """STAPLE (Warfield et al. 2004), half of the raters, their share, any of them, all, or the mean of the log-odds
    that the distances from their boundaries give"""
    images: bool = False
    """copy the images beside the masks, so that the folder is a data set of one rater"""
    device: str = "cpu"
    """where the masks are put together"""

    def __post_init__(self) -> None:
        data, output = self.data.resolve(), self.output_dir.resolve()
        if output == data or data in output.parents:
            raise ValueError(
                f"{self.output_dir} lies in the data set {self.data}: choose another output_dir, otherwise the "
                "consensus would become one of its raters."
            )


class RaterPerformance(msgspec.Struct, frozen=True, kw_only=True):
    """Means over cases, with bootstrap intervals."""

    rater: int | None  # None: all raters alike, where they are anonymous
    sensitivity: Interval
    specificity: Interval
    dice: Interval


class ConsensusRecord(msgspec.Struct, frozen=True, kw_only=True):
    """consensus.json"""

    data: str
    method: str
    tasks: list[int]
    cases: Annotated[int, msgspec.Meta(ge=0)]
    raters: list[RaterPerformance]


def consensus(options: ConsensusOptions) -> ConsensusRecord:
    """Write the consensus of each case; returns what consensus.json holds.

    Raises:
        DatasetLayoutError: see `rater_truth`.
        ImageFileError: see `read_rater_case`.
    """
    listed = options.items(options.data)
    items = [item for of_task in listed.values() for item in of_task if any(item["label"])]
    rows: list[dict] = []
    for item in progress(items, options.method, "case"):
        rows += _of_case(item, options)
    write_table(options.output_dir / "raters.csv", rows, digits=".6f")
    record = ConsensusRecord(
        data=str(options.data),
        method=options.method,
        tasks=list(listed),
        cases=len(items),
        raters=_performances(rows, anonymous=options.anonymous),
    )
    write_record(options.output_dir / "consensus.json", record)
    return record


def _of_case(item: Mapping, options: ConsensusOptions) -> list[dict]:
    case = read_rater_case(item)
    masks, presence = case.masks[None].to(options.device), case.presence[None]
    found = consensus_map(masks, presence=presence, method=options.method)
    _write(item, found[0].cpu(), options)
    sensitivity, specificity = rater_performance(masks, found, presence=presence)
    dice = pairwise_dice((found >= 0.5)[:, None], masks)[0]
    numbers = torch.stack([sensitivity[0], specificity[0], dice[0]]).cpu().tolist()
    return [
        {"id": item["id"], "task": item["task"], "rater": number}
        | dict(zip(("sensitivity", "specificity", "dice"), values, strict=True))
        for number, here, *values in zip(item["raters"], case.presence.tolist(), *numbers, strict=True)
        if here
    ]


def _write(item: Mapping, found: Tensor, options: ConsensusOptions) -> None:
    writer = RaterWriter(options.output_dir)
    writer.write_probability(item, found[None])
    writer.write_masks(item, (found >= 0.5).to(torch.uint8)[None], raters=[CONSENSUS_RATER])
    if options.images:
        source = Path(item["image"])
        with atomic_path(inside(options.output_dir, str(item["case"])) / source.name) as temporary:
            shutil.copyfile(source, temporary)


def _performances(rows: Sequence[Mapping], *, anonymous: bool) -> list[RaterPerformance]:
    numbers = [None] if anonymous else sorted({row["rater"] for row in rows})
    found = []
    for number in numbers:
        own = [row for row in rows if number in (None, row["rater"])]
        values = np.array([[row[name] for row in own] for name in ("sensitivity", "specificity", "dice")])
        groups = [row["id"] for row in own]  # raters of one case are drawn together
        sensitivity, specificity, dice = mean_intervals(values, groups=groups)
        found.append(RaterPerformance(rater=number, sensitivity=sensitivity, specificity=specificity, dice=dice))
    return found


def performance_table(raters: Sequence[RaterPerformance], method: str) -> Table:
    """Sensitivity and specificity of each rater."""
    header = ("Rater", "Sensitivity", "Specificity", "Dice with the consensus", "Cases")
    rows = [
        (
            "all" if entry.rater is None else str(entry.rater),
            *(_cell(value) for value in (entry.sensitivity, entry.specificity, entry.dice)),
            str(entry.dice.cases),
        )
        for entry in raters
    ]
    return Table(f"Raters against the consensus ({method}): mean over cases and 95 % interval", header, rows)


def _cell(value: Interval) -> str:
    if value.mean is None or value.low is None or value.high is None:
        return "-"
    return f"{value.mean:.4f} ({value.low:.4f} to {value.high:.4f})"


def run(options: ConsensusOptions) -> int:
    """`python -m monai_ext consensus`."""
    record = consensus(options)
    blocks: list[Block] = [
        Heading(f"Consensus of {record.cases} cases", 1),
        performance_table(record.raters, record.method),
        Text("Intervals: percentile bootstrap over cases, 10,000 resamples."),
    ]
    sys.stdout.write(text_page(blocks))
    tell(f"consensus: {options.output_dir}")
    return 0
