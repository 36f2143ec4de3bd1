"""What the annotators score against each other, from a scores.json of `score`, as a row beside a table's methods."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from monai_ext.commands.comparison.results import ResultsError
from monai_ext.runtime.errors import one_line
from monai_ext.storage.files import read_json

__all__ = ["RaterRow", "rater_row"]

# What depends on the number of masks in a set, and on the estimator.
OF_A_SET = {"generalized_energy_distance": "Energy distance²", "sample_diversity": "Diversity"}
LONGEST = 80  # characters of a list of tasks in a message


@dataclass(frozen=True)
class RaterRow:
    """What the annotators score against each other: score -> mean, low, high; and what is to be said of it."""

    scores: Mapping[str, Mapping]
    cases: int | None  # behind the mean QUBIQ score, None where the file does not say
    notes: tuple[str, ...]


def rater_row(path: Path, *, task: int | None, samples: int, cases: int) -> RaterRow:
    """The annotators' scores of one task in a scores.json, without those of sets that differ from the methods'.

    Args:
        task: of the runs; None, where they do not say: the only one there is.
        samples, cases: of the methods, to be compared.

    Raises:
        ResultsError: there is no such file, it is damaged, or it has not this task.
    """
    if not path.is_file():
        raise ResultsError(f"{path} is no scores.json that `score` wrote: there is no such file.")
    content = read_json(path, expected=dict, error=ResultsError, way_out="give the scores.json that `score` wrote")
    try:
        tasks = {entry["task"]: entry for entry in content["tasks"]}
        chosen = next(iter(tasks), None) if task is None and len(tasks) == 1 else task
        if chosen in tasks:
            return _human_of_task(path, tasks[chosen], _estimator(content), samples=samples, cases=cases)
    except (LookupError, TypeError, AttributeError) as error:
        raise ResultsError(f"{path} is no scores.json that `score` wrote ({one_line(error)}).") from None
    there = textwrap.shorten(", ".join(sorted(map(str, tasks))), LONGEST, placeholder=" ...")
    raise ResultsError(
        f"{path} has no scores of task {task}, which the runs are of, only of {there}: run `score` with --tasks {task}."
    )


def _human_of_task(path: Path, entry: Mapping, estimator: str, *, samples: int, cases: int) -> RaterRow:
    human = {name: values["human"] for name, values in entry["scores"].items() if values.get("human")}
    values = [scores.get(name) for scores in human.values() for name in ("mean", "low", "high")]
    if not all(value is None or type(value) in (int, float) for value in values):
        raise TypeError("a value that is no number")
    scored, size = human.get("qubiq_score", {}).get("cases", entry.get("scored")), _set_size(entry)
    scored = scored if type(scored) is int else None
    notes = []
    if scored not in (None, cases):
        notes.append(f"The row of one more annotator is over {scored} cases ({path}), the methods are over {cases}.")
    left_out = [name for name in OF_A_SET if name in human and (size, estimator) != (samples, "V")]
    if left_out:
        titles = " and ".join(OF_A_SET[name] for name in left_out)
        theirs = "of unknown size" if size is None else f"of {size} masks"
        notes.append(
            f"{titles} of one more annotator are left out: they depend on the size of a set and on the estimator, and "
            f"{path} has sets {theirs} under the {estimator}-statistic, the methods sets of {samples} under V. To get "
            f"them, run evaluate.json with --write_samples true, then `score` with --samples {samples}."
        )
    return RaterRow({name: scores for name, scores in human.items() if name not in left_out}, scored, tuple(notes))


def _set_size(entry: Mapping) -> int | None:
    """Number of masks M in the sets that `score` took, from the numbers of samples or, without any, of heads."""
    predicted = entry.get("predicted")
    if predicted is None:
        return None
    samples, heads = (list(predicted[kind]) for kind in ("samples", "raters"))
    return len(samples or heads)


def _estimator(content: Mapping) -> str:
    return str((content.get("settings") or {}).get("estimator", "V"))
