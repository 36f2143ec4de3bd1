"""What the raters score against each other, from their masks or a scores.json, as a row beside a table's methods."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_ext.commands.comparison.results import ResultsError
from monai_ext.commands.scoring.rater_ceiling import rater_ceiling
from monai_ext.commands.scoring.rater_methods import MethodSettings
from monai_ext.commands.scoring.records import Scores, Statistic, TaskScores
from monai_ext.data.raters.cases import read_rater_case
from monai_ext.data.raters.predictions import rater_truth
from monai_ext.metrics import BOUNDARY_SCORES, BOUNDARY_TOLERANCE
from monai_ext.runtime.errors import some_of
from monai_ext.runtime.settings import as_bool
from monai_ext.storage.records import read_record

__all__ = ["RaterRow", "ceilings", "rater_row"]

# What depends on the number of masks in a set, and on the estimator.
OF_A_SET = {"generalized_energy_distance": "Energy distance²", "sample_diversity": "Diversity"}
LONGEST = 80  # characters of a list of tasks in a message


@dataclass(frozen=True)
class RaterRow:
    """Scores of the raters among themselves, the number of cases behind the QUBIQ score, and notes on both."""

    scores: Mapping[str, Statistic]
    cases: int | None
    notes: tuple[str, ...]


def rater_row(path: Path, *, task: int | None, samples: int, cases: int, tolerance: float | None = None) -> RaterRow:
    """The raters' scores of one task in a scores.json, without those of sets that differ from the methods'.

    Args:
        task: of the runs; None, where they have none: the only one there is.
        samples, cases: of the methods, to be compared.
        tolerance: of the methods' surface Dice; None: they have none.

    Raises:
        ResultsError: there is no such file, it is damaged, or it has not this task.
    """
    if not path.is_file():
        raise ResultsError(f"{path} is no scores.json that `score` wrote: there is no such file.")
    content = read_record(path, Scores, error=ResultsError, way_out="give the scores.json that `score` wrote")
    tasks = {entry.task: entry for entry in content.tasks}
    chosen = next(iter(tasks), None) if task is None and len(tasks) == 1 else task
    if chosen is not None and chosen in tasks:
        estimator = str(content.settings.get("estimator", "V"))
        row = _row_of_task(path, tasks[chosen], estimator, samples=samples, cases=cases)
        measured = tasks[chosen].distance_unit, content.settings.get("tolerance")
        return row if measured == ("pixels", tolerance) else _without_boundaries(row, path, *measured)
    there = textwrap.shorten(", ".join(sorted(map(str, tasks))), LONGEST, placeholder=" ...")
    raise ResultsError(
        f"{path} has no scores of task {task}, which the runs are of, only of {there}: run `score` with --tasks {task}."
    )


def ceilings(
    targets: Path, cases: Sequence[str], *, settings: MethodSettings, samples: int, boundaries: bool = True
) -> list[dict[str, float]]:
    """The `rater_ceiling` of each case of a table, from the raters' masks in the data set `targets`.

    Args:
        cases: ids as in the runs' cases.csv.
        settings: of the runs: region, part, task, labels, and whether raters are anonymous.
        samples: size of the methods' sets.
        boundaries: see `rater_ceiling`.

    Raises:
        ResultsError: a case is not there; or, of a volume, a slice.
        DatasetLayoutError, ImageFileError: see `rater_truth` and `read_rater_case`.
    """
    if settings.tasks or isinstance(settings.labels, dict):
        raise ResultsError(
            "the runs predict several structures together, and one more rater is scored for one of them: leave out "
            "--targets, and give the scores.json of `score` by --rater_scores."
        )
    task = settings.task or 1
    truth = rater_truth(
        targets,
        region=settings.region,
        part=settings.part or "Training",
        tasks=[task],
        anonymous=as_bool(settings.anonymous, "anonymous"),
        labels=settings.labels,
    )
    items = {str(item["id"]): item for item in truth[task]}
    if absent := [case for case in cases if case not in items]:
        raise ResultsError(
            f"{targets} has no masks of {len(absent)} of the {len(cases)} cases of the runs ({some_of(absent)}): give "
            "the data set that they were scored on (slices of volumes have no such row)."
        )
    found = []
    for case in cases:
        read = read_rater_case(items[case])
        found.append(
            rater_ceiling(
                read.masks,
                read.presence,
                set_size=samples,
                boundaries=boundaries,
                spacing=settings.pixel_size,
                tolerance=BOUNDARY_TOLERANCE if settings.tolerance is None else settings.tolerance,
            )
        )
    return found


def _row_of_task(path: Path, entry: TaskScores, estimator: str, *, samples: int, cases: int) -> RaterRow:
    scores = {name: values.raters for name, values in entry.scores.items() if values.raters is not None}
    scored = scores["qubiq_score"].cases if "qubiq_score" in scores else entry.scored
    size = None if entry.predicted is None else len(entry.predicted.samples or entry.predicted.raters)
    notes = []
    if scored not in (None, cases):
        notes.append(f"The row of one more rater is over {scored} cases ({path}), the methods are over {cases}.")
    left_out = [name for name in OF_A_SET if name in scores and (size, estimator) != (samples, "V")]
    if left_out:
        titles = " and ".join(OF_A_SET[name] for name in left_out)
        theirs = "of unknown size" if size is None else f"of {size} masks"
        notes.append(
            f"{titles} of one more rater are left out: they depend on the size of a set and on the estimator, and "
            f"{path} has sets {theirs} under the {estimator}-statistic, the methods sets of {samples} under V. To get "
            f"them, run evaluate.json with --write_samples true, then `score` with --samples {samples}."
        )
    return RaterRow({name: values for name, values in scores.items() if name not in left_out}, scored, tuple(notes))


def _without_boundaries(row: RaterRow, path: Path, unit: str, tolerance: Any) -> RaterRow:
    """The row without scores of boundaries, which were measured in another way than the methods'."""
    kept = {name: values for name, values in row.scores.items() if not name.startswith(BOUNDARY_SCORES)}
    if len(kept) == len(row.scores):
        return row
    note = (
        f"Distances between boundaries of one more rater are left out: {path} has them in {unit} with the tolerance "
        f"{tolerance}, the methods in pixels or with another one."
    )
    return RaterRow(kept, row.cases, (*row.notes, note))
