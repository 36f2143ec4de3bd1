"""`agreement`: how well the raters of a data set agree, and each one's habits, as a page, tables and figures."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from monai_ext.commands.agreement.measures import HABITS, PAIR_SCORES, measure_case
from monai_ext.commands.agreement.page import agreement_blocks
from monai_ext.commands.agreement.pictures import draw_figures
from monai_ext.commands.agreement.records import (
    Agreement,
    StructureAgreement,
)
from monai_ext.commands.agreement.study import study_size
from monai_ext.commands.agreement.summaries import (
    Measured,
    beyond_chance,
    case_means,
    design_effect,
    known_quantiles,
    left_out,
    ordered_cases,
    pair_agreements,
    rater_habits,
    sizes_differ,
)
from monai_ext.commands.agreement.suspects import suspect_masks
from monai_ext.commands.command_line import Computed
from monai_ext.commands.html import html_page, markdown_page
from monai_ext.commands.scoring.rater_choice import RaterChoice, RaterFolders
from monai_ext.commands.scoring.summaries import distance_unit, group_labels, mean_intervals
from monai_ext.commands.scoring.tables import text_page
from monai_ext.data.first_look import review_masks
from monai_ext.data.item_numbers import MaskNumbers, mask_numbers
from monai_ext.data.raters.cases import read_rater_case
from monai_ext.data.raters.structures import column_names
from monai_ext.metrics import BOUNDARY_TOLERANCE
from monai_ext.runtime.run_log import progress, tell
from monai_ext.runtime.threads import map_in_threads
from monai_ext.storage.files import write_table, write_text
from monai_ext.storage.records import write_record

__all__ = ["AgreementOptions", "agreement", "run"]

MOST_DISAGREEING = 20  # cases in the record


@dataclass(frozen=True)
class AgreementOptions(RaterChoice, RaterFolders):
    """Show how well the raters of a data set agree, who draws how, and which masks are likely wrong.

    A page (agreement.html, .md), figures, tables (cases.csv, pairs.csv, raters.csv, suspects.csv) and agreement.json,
    for images or volumes, each task as a structure of its own.
    """

    output_dir: Path
    """for the page, figures and tables"""
    group: Computed[str | None] = None
    """regular expression whose first group, or whole match, in a case's name is what the bootstrap draws, such as the
    patient (each case)"""
    tolerance: float = BOUNDARY_TOLERANCE
    """of the surface Dice: mm where the files have a spacing, otherwise pixels"""
    spacing: Computed[tuple[float, ...]] = ()
    """size of a pixel along each axis, mm (that of the files)"""
    width: float = 0.02
    """of the 95 % interval of the mean Dice that a study is to reach, as a share"""
    area_error: float = 0.1
    """half of the 95 % interval of a case's mean area that a study is to reach, as a share of it"""
    shown: int = 8
    """cases in each picture"""
    pdf: bool = False
    """write each figure as PDF too, for print"""
    resamples: int = 10_000
    """of the bootstrap"""
    seed: int = 0
    """of the bootstrap"""
    jobs: int = 1
    """cases at a time"""

    def __post_init__(self) -> None:
        for name in ("width", "area_error"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: give a share between 0 and 1.")
        if min(self.shown, self.resamples, self.jobs) < 1:
            raise ValueError(
                f"shown is {self.shown}, resamples {self.resamples}, jobs {self.jobs}: each must be at least 1."
            )


def agreement(options: AgreementOptions) -> Agreement:
    """Write page, figures and tables; returns what agreement.json holds.

    Cases are read and let go one by one, `jobs` of them at a time (threads).

    Raises:
        DatasetLayoutError: see `rater_truth`.
        ImageFileError: see `read_rater_case`.
        ValueError: a structure that no case has two raters of, or a case's name that does not match `group`.
    """
    listed = options.items(options.data)
    structures, tables = [], {name: [] for name in ("cases", "pairs", "raters", "suspects")}  # type: ignore[var-annotated]
    for task, items in listed.items():
        marked = [item for item in items if sum(path is not None for path in item["label"]) > 1]
        if not marked:
            raise ValueError(f"no case of task {task} in {options.data} has two raters: agreement needs two at least.")
        groups = group_labels([item["case"] for item in marked], options.group)
        measured = list(_measured(marked, options))
        structure = _structure(task, items, measured, groups, options)
        for name, rows in _tables(structure, measured).items():
            tables[name] += rows
        structures.append(structure)
    content = Agreement(
        data=str(options.data),
        anonymous=options.anonymous,
        tolerance=options.tolerance,
        group=options.group,
        resamples=options.resamples,
        seed=options.seed,
        structures=structures,
    )
    pictures = {
        structure.task: draw_figures(
            structure, listed[structure.task], options.output_dir, shown=options.shown, pdf=options.pdf
        )
        for structure in structures
    }
    for name, rows in tables.items():
        write_table(options.output_dir / f"{name}.csv", rows, digits=".6f")
    write_record(options.output_dir / "agreement.json", content)
    blocks = agreement_blocks(content, pictures)
    write_text(options.output_dir / "agreement.md", markdown_page(blocks))
    write_text(
        options.output_dir / "agreement.html", html_page(blocks, title=f"Agreement of raters: {options.data.name}")
    )
    return content


def _measured(items: Sequence[Mapping], options: AgreementOptions) -> Iterator[Measured]:
    def measure(item: Mapping) -> Measured:
        case = read_rater_case(item)
        spacing = options.spacing or case.spacing
        measures = measure_case(case, spacing=spacing, tolerance=options.tolerance)
        look = tuple(
            mask_numbers(mask.numpy()) if here else MaskNumbers()
            for mask, here in zip(case.masks, case.presence, strict=True)
        )
        suspects = suspect_masks(case, measures, name=item["id"], raters=item["raters"])
        return Measured(item, measures, suspects, look, spacing)

    found = map_in_threads(measure, items, options.jobs)
    yield from progress(found, f"task {items[0]['task']}", "case", total=len(items))


def _structure(
    task: int,
    items: Sequence[Mapping],
    measured: Sequence[Measured],
    groups: list[str] | None,
    options: AgreementOptions,
) -> StructureAgreement:
    raters = list(measured[0].item["raters"])
    dice = np.stack([case.measures.pairs["dice"] for case in measured])
    areas = np.stack([case.measures.areas for case in measured])
    present = ~np.isnan(areas)
    draw: dict[str, Any] = {"groups": groups, "resamples": options.resamples, "seed": options.seed}
    by_case = {name: case_means(measured, name) for name in PAIR_SCORES}
    means = dict(zip(by_case, mean_intervals(list(by_case.values()), **draw), strict=True))
    chance = beyond_chance(measured, areas, draw, anonymous=options.anonymous)
    look = review_masks(
        [case.item["id"] for case in measured],
        [case.look for case in measured],
        column_names(measured[0].item),
        labelled=bool(options.labels),
    )
    complete = np.asarray(present.all(1))
    reliability = next(
        (entry.value for entry in chance if entry.name == "ICC(1)" and entry.value is not None), math.nan
    )
    study = study_size(
        dice[complete],
        areas[complete],
        reliability=reliability,
        width=options.width,
        area_error=options.area_error,
        design_effect=design_effect(by_case["dice"], draw),
    )
    return StructureAgreement(
        task=task,
        cases=len(measured),
        alone=len(items) - len(measured),
        raters=raters,
        marked={str(number): int(count) for number, count in zip(raters, present.sum(0), strict=True)},
        unit=distance_unit([case.spacing for case in measured]),
        scores=means,
        quantiles={name: known_quantiles(values) for name, values in by_case.items()},
        chance=chance,
        pairs=[] if options.anonymous else pair_agreements(measured, raters, draw),
        habits=[] if options.anonymous else rater_habits(measured, raters, draw),
        same_sizes=sizes_differ(areas, groups),
        disagreement=ordered_cases(measured, by_case),
        suspects=[suspect for case in measured for suspect in case.suspects],
        study=study,
        doubtful=[*look.refused, *look.doubtful],
        left_out=left_out(raters, complete, study, anonymous=options.anonymous),
    )


def _tables(structure: StructureAgreement, measured: Sequence[Measured]) -> dict[str, list[dict]]:
    task, raters = structure.task, structure.raters
    cases = [
        {"id": entry.case, "task": task, "raters": entry.raters, **entry.scores, "area": entry.area,
         "smallest": entry.smallest, "largest": entry.largest, "share": entry.share}
        for entry in sorted(structure.disagreement, key=lambda entry: entry.case)
    ]  # fmt: skip
    pairs, own = [], []
    for case in measured:
        name = case.item["id"]
        for i, j in zip(*np.triu_indices(len(raters), 1), strict=True):
            if not np.isnan(case.measures.pairs["dice"][i, j]):
                scores = {score: float(case.measures.pairs[score][i, j]) for score in PAIR_SCORES}
                pairs.append({"id": name, "task": task, "first": raters[i], "second": raters[j], **scores})
        for r, number in enumerate(raters):
            if not np.isnan(case.measures.areas[r]):
                values = case.measures.habits[r].tolist()
                shift = {f"shift_{axis + 1}": value for axis, value in enumerate(values[len(HABITS) :])}
                habits = dict(zip(("log_size", *HABITS[1:]), values, strict=False))
                own.append({"id": name, "task": task, "rater": number, "area": float(case.measures.areas[r]), **habits,
                            **shift})  # fmt: skip
    suspects = [
        {"id": entry.case, "task": task, "rater": entry.rater, "reason": entry.reason, "dice": entry.dice}
        for entry in structure.suspects
    ]
    return {"cases": cases, "pairs": pairs, "raters": own, "suspects": suspects}


def run(options: AgreementOptions) -> int:
    """`python -m monai_ext agreement`."""
    content = agreement(options)
    sys.stdout.write(text_page([block for block in agreement_blocks(content, {}) if not hasattr(block, "path")]))
    tell(f"agreement: {options.output_dir / 'agreement.html'}")
    return 0
