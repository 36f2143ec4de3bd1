"""`score`: predictions against several raters, case by case, with bootstrap intervals over cases."""

from __future__ import annotations

import logging
import math
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from monai_ext import __version__
from monai_ext.commands.command_line import Computed
from monai_ext.commands.datasets.copies import readable_copy
from monai_ext.commands.datasets.layout_names import LayoutName
from monai_ext.commands.html import markdown_page
from monai_ext.commands.scoring.case_scores import HEAD_SCORES, MAP_SCORES, SET_SCORES, rater_case_scores
from monai_ext.commands.scoring.rater_choice import RaterChoice
from monai_ext.commands.scoring.records import Scores
from monai_ext.commands.scoring.summaries import (
    Bootstrap,
    ScoredCase,
    applicable_scores,
    group_labels,
    summary_over_tasks,
    task_summary,
)
from monai_ext.commands.scoring.tables import score_blocks, text_page
from monai_ext.commands.scoring.turns import turned_dice
from monai_ext.data.first_look import review_masks
from monai_ext.data.item_numbers import MaskNumbers, mask_numbers
from monai_ext.data.raters.cases import read_rater_case
from monai_ext.data.raters.predictions import PredictionKinds, RaterPredictions, rater_predictions
from monai_ext.data.raters.structures import column_names
from monai_ext.metrics import BOUNDARY_DISTANCES, BOUNDARY_TOLERANCE, image_diagonal
from monai_ext.runtime.command_lines import shell_line
from monai_ext.runtime.errors import some_of
from monai_ext.runtime.run_log import progress, tell
from monai_ext.runtime.threads import map_in_threads
from monai_ext.storage.files import write_table, write_text
from monai_ext.storage.records import read_record, write_record

__all__ = ["MissingPredictionError", "ScoreOptions", "run", "score"]

_logger = logging.getLogger(__name__)

SCORES = MAP_SCORES | SET_SCORES | HEAD_SCORES
NOT_SETTINGS = ("predictions", "targets", "layout", "output_dir", "jobs")  # options that change no number
PACKAGES = ("monai", "torch", "numpy", "scipy", "nibabel", "pillow")


class MissingPredictionError(ValueError):
    """Cases of the data set have no complete prediction."""


@dataclass(frozen=True)
class ScoreFolders:
    """Predictions, the data set, and a folder for the scores."""

    predictions: Path
    """folder of predictions, one folder a case, named as in --targets"""
    targets: Path
    """the data set: <region>/<part>/<case>/task01_seg01.nii.gz, ..."""
    output_dir: Computed[Path | None] = None
    """for cases.csv, scores.json, scores.md (PREDICTIONS/scores)"""


@dataclass(frozen=True)
class ScoreOptions(RaterChoice, ScoreFolders):
    """Score a folder of predictions against several raters, with the agreement of the raters beside them.

    The predictions lie in the layout of the QUBIQ challenge, <case>/task01.nii.gz (probability of foreground),
    <case>/task01_seg01.nii.gz ... (one mask per rater) or <case>/task01_sample01.nii.gz ... (masks in no order), as
    NIfTI or PNG. Every score that applies to what is there is computed for each case, and its mean has a bootstrap
    interval over cases.

    A map is scored by QUBIQ score, Dice and calibration; a set of masks by energy distance, Hungarian IoU and matched
    Dice as well (its mean is the map where there is no other); masks by rater also by Dice with each.
    """

    samples: Computed[int | None] = None
    """how many samples of each case to take (all)"""
    missing: Literal["error", "zero", "skip"] = "error"
    """a case without complete prediction stops the scoring, gets the worst value of every score (zero), or is left out
    of all means (skip)"""
    strict: bool = False
    """> in place of >= where shares of raters or probabilities meet a level"""
    estimator: Literal["V", "U"] = "V"
    """of the energy distance: with (V) or without (U) self pairs"""
    bins: int = 15
    """of calibration"""
    tolerance: float = BOUNDARY_TOLERANCE
    """of the surface Dice: mm where the files have a spacing, otherwise pixels"""
    spacing: Computed[tuple[float, ...]] = ()
    """size of a pixel along each axis, mm, for distances between boundaries (that of the files)"""
    group: Computed[str | None] = None
    """regular expression whose first group, or whole match, in a case's name is what the bootstrap draws, such as the
    patient (each case)"""
    layout: Computed[LayoutName | None] = None
    """of --targets, see docs/layouts.md; a copy in OUTPUT_DIR/copies is read then (found, where --targets are in no
    layout that is read as it is)"""
    resamples: int = 10_000
    """of the bootstrap"""
    seed: int = 0
    """of the bootstrap"""
    jobs: int = 1
    """cases at a time"""

    def __post_init__(self) -> None:
        if self.resamples < 1 or self.bins < 1:
            raise ValueError(f"resamples is {self.resamples} and bins {self.bins}: both must be at least 1.")
        if self.group is not None:
            try:
                re.compile(self.group)
            except re.error as error:
                raise ValueError(f"group is {self.group!r}, which is no regular expression: {error}.") from error
        if self.jobs < 1:
            raise ValueError(f"jobs is {self.jobs}: at least 1 is needed.")
        if self.output_dir is None and self.predictions.resolve() == self.targets.resolve():
            raise ValueError(
                f"{self.predictions} is the data set itself: give an output_dir, otherwise scores would be written "
                "into it."
            )

    @property
    def folder(self) -> Path:
        """Where the scores go."""
        return self.predictions / "scores" if self.output_dir is None else self.output_dir


def score(options: ScoreOptions, *, command: str | None = None) -> Scores:
    """Score a folder of predictions; write cases.csv, scores.json and scores.md; return what scores.json holds.

    Cases are read, scored and released one by one, `jobs` of them at a time (threads).

    Args:
        command: written into scores.json.

    Raises:
        DatasetLayoutError: see `rater_truth` and `rater_predictions`.
        ImageFileError: see `read_rater_case`.
        DataSetError: the raters' masks cannot be meant, such as all empty.
        MissingPredictionError: cases without complete prediction under missing="error".
        ValueError: an option does not fit.
    """
    given, options = options, _with_copy(options)
    listed = options.items(options.targets)
    tasks = []
    for items in listed.values():  # before the first case is scored, so that what is missing is reported at once
        marked = [item for item in items if any(item["label"])]
        found = rater_predictions(
            options.predictions, marked, region=options.region, part=options.part, samples=options.samples
        )
        _refuse_missing(found, marked, options)
        group_labels([item["case"] for item in marked], options.group)
        tasks.append((items, marked, found))
    bootstrap = Bootstrap(options.group, options.resamples, options.seed)
    cases: list[ScoredCase] = []
    summaries = []
    for items, marked, found in tasks:
        own = _scored_cases(marked, found, options)
        _look_at_targets(marked, own, options)
        summaries.append(task_summary(items, found, own, anonymous=options.anonymous, bootstrap=bootstrap))
        if summaries[-1].better_turned:
            _logger.warning(summaries[-1].better_turned)
        cases += own
    content = Scores(
        command=command,
        predictions=str(options.predictions),
        targets=str(given.targets),
        settings={name: value for name, value in asdict(given).items() if name not in NOT_SETTINGS},
        versions={"python": platform.python_version(), "monai_ext": __version__}
        | {name: version(name) for name in PACKAGES},
        tasks=summaries,
        all_tasks=summary_over_tasks(cases, bootstrap=bootstrap) if len(summaries) > 1 else None,
    )
    write_table(options.folder / "cases.csv", [case.row for case in cases])
    write_record(options.folder / "scores.json", content)
    content = read_record(options.folder / "scores.json", Scores)  # NaN is None from here on
    write_text(options.folder / "scores.md", markdown_page(score_blocks(content)))
    return content


def _with_copy(options: ScoreOptions) -> ScoreOptions:
    """The options with a copy of the targets, where these are in a layout that is not read as it is."""
    folder = options.folder / "copies" / options.targets.resolve().name
    part = options.part and options.part.lower()
    part = "test" if part == "testing" else part
    copied = readable_copy(options.targets, folder, "raters", layout=options.layout, part=part)
    return options if copied == options.targets else replace(options, targets=copied, part="Testing")


def _refuse_missing(found: RaterPredictions, items: Sequence[Mapping], options: ScoreOptions) -> None:
    if options.missing != "error" or not found.missing:
        return
    reasons = list(found.missing.values())
    raise MissingPredictionError(
        f"{len(reasons)} of {len(items)} cases have no complete prediction of task {items[0]['task']}: "
        f"{some_of(reasons, separator='; ')}. Complete them, or choose "
        "missing zero (they get the worst scores) or skip (they are left out)."
    )


def _scored_cases(items: Sequence[Mapping], found: RaterPredictions, options: ScoreOptions) -> list[ScoredCase]:
    cases = map_in_threads(lambda item: _scored(item, found, options), items, options.jobs)
    return list(progress(cases, f"scoring task {items[0]['task']}", "case", total=len(items)))


def _scored(item: Mapping, found: RaterPredictions, options: ScoreOptions) -> ScoredCase:
    files = found.files.get(item["id"])
    row = {"id": item["id"], "case": item["case"], "task": item["task"]}
    row["status"] = "missing" if files is None else "scored"
    row["raters"] = sum(path is not None for path in item["label"])
    if files is None and options.missing == "skip":
        return ScoredCase(row, counted=False, heads=None, elsewhere=None)
    case = read_rater_case(item, files, found.kinds)
    scores, ceiling, heads = rater_case_scores(
        case,
        raters=item["raters"],
        heads=() if options.anonymous else found.kinds.raters,
        set_size=len(found.kinds.samples or found.kinds.raters),
        strict=options.strict,
        estimator=options.estimator,
        bins=options.bins,
        spacing=options.spacing or case.spacing,
        tolerance=options.tolerance,
    )
    names = applicable_scores(found.kinds, item["raters"], anonymous=options.anonymous)
    if files is None:
        farthest = image_diagonal(case.masks.shape[1:], options.spacing or case.spacing)
        scores = {name: _worst(name, item, found.kinds, farthest) for name in names}
    row |= {name: scores[name] for name in names}
    row |= {f"raters_{name}": ceiling.get(name, math.nan) for name in names}
    row["rater_agreement"] = ceiling.get("rater_agreement", math.nan)
    look = tuple(
        mask_numbers(mask.numpy()) if present else MaskNumbers()
        for mask, present in zip(case.masks, case.presence, strict=True)
    )
    return ScoredCase(row, True, heads, case.elsewhere, turned_dice(case), look, options.spacing or case.spacing)


def _look_at_targets(items: Sequence[Mapping], cases: Sequence[ScoredCase], options: ScoreOptions) -> None:
    """Log what the raters' masks show as a set, or refuse it."""
    seen = [case for case in cases if case.look]
    names, masks = [str(case.row["id"]) for case in seen], [case.look for case in seen]
    review_masks(names, masks, column_names(items[0]), labelled=bool(options.labels)).log()


def _worst(name: str, item: Mapping, kinds: PredictionKinds, farthest: float) -> float:
    """What a missing prediction scores; nothing with a rater who is missing as well."""
    worst = farthest if name.startswith(BOUNDARY_DISTANCES) else 0.0
    marked = [number for number, path in zip(item["raters"], item["label"], strict=True) if path is not None]
    if name in HEAD_SCORES:
        return worst if set(marked) & set(kinds.raters) else math.nan
    if name in SCORES:
        return min(SCORES[name].worst, farthest) if worst else SCORES[name].worst
    return worst if int(name.rpartition("_rater")[2]) in marked else math.nan


def run(options: ScoreOptions) -> int:
    """`python -m monai_ext score`."""
    typed = shell_line(["python", "-m", "monai_ext", *sys.argv[1:]])
    content = score(options, command=typed)
    sys.stdout.write(text_page(score_blocks(content)))
    tell(f"scores: {options.folder}")
    return 0
