"""Scores of a folder of predictions against several annotators, with the human ceiling beside them.

The predictions lie in the layout of the QUBIQ challenge, <case>/task01.nii.gz (probability of foreground),
<case>/task01_seg01.nii.gz ... (one mask per annotator) or <case>/task01_sample01.nii.gz ... (masks in no order), as
NIfTI or PNG. Every score that applies to what is there is computed for each case, its mean has a bootstrap interval
over cases, and beside it stands what the annotators score against each other.

A map is scored by QUBIQ score, Dice and calibration; a set of masks by energy distance, Hungarian IoU and matched Dice
as well (its mean is the map where there is no other); masks by annotator also by Dice with each.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
import platform
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from tqdm import tqdm

from monai_ext import __version__
from monai_ext.commands.html import markdown_page
from monai_ext.commands.scoring.case_scores import HEAD_SCORES, MAP_SCORES, SET_SCORES, rater_case_scores
from monai_ext.commands.scoring.summaries import (
    Bootstrap,
    ScoredCase,
    applicable_scores,
    group_labels,
    summary_over_tasks,
    task_summary,
)
from monai_ext.commands.scoring.tables import score_blocks, text_page
from monai_ext.data.raters.cases import read_rater_case
from monai_ext.data.raters.predictions import PredictionKinds, RaterPredictions, rater_predictions, rater_truth
from monai_ext.data.raters.qubiq import NAMED_AT_MOST
from monai_ext.storage.files import write_text

__all__ = ["MissingPredictionError", "ScoreOptions", "add_arguments", "run", "score"]

SCORES = MAP_SCORES | SET_SCORES | HEAD_SCORES
PACKAGES = ("monai", "torch", "numpy", "scipy", "nibabel", "pillow")
MISSING = ("error", "zero", "skip")


class MissingPredictionError(ValueError):
    """Cases of the truth have no complete prediction."""


@dataclass(frozen=True)
class ScoreOptions:
    """Everything that changes a number, for `score`.

    Args:
        region, part, tasks, raters, anonymous: of the truth, see `rater_truth`; no raters are all of them.
        samples: how many samples to take, None for all.
        strict: `>` in place of `>=` where shares of annotators or probabilities meet a level.
        estimator: of the energy distance, "V" (self pairs in) or "U".
        bins: of calibration.
        missing: a case without complete prediction is an "error", gets the worst value of every score ("zero": 0
            where higher is better, the largest where lower is), or is left out of all means ("skip").
        group: regular expression whose first group (or whole match) in a case's name is what the bootstrap draws, such
            as the patient; None draws cases.
        resamples, seed: of the bootstrap.
    """

    region: str | None = None
    part: str | None = None
    tasks: tuple[int, ...] = ()
    raters: tuple[int, ...] = ()
    anonymous: bool = False
    samples: int | None = None
    strict: bool = False
    estimator: str = "V"
    bins: int = 15
    missing: str = "error"
    group: str | None = None
    resamples: int = 10_000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.missing not in MISSING:
            raise ValueError(f"missing is {self.missing!r}: choose one of {', '.join(MISSING)}.")
        if self.resamples < 1 or self.bins < 1:
            raise ValueError(f"resamples is {self.resamples} and bins {self.bins}: both must be at least 1.")
        if self.estimator not in ("V", "U"):
            raise ValueError(f"estimator is {self.estimator!r}: choose 'V' (self pairs in) or 'U' (self pairs out).")
        if self.group is not None:
            try:
                re.compile(self.group)
            except re.error as error:
                raise ValueError(f"group is {self.group!r}, which is no regular expression: {error}.") from error


def score(
    predictions: str | Path,
    truth: str | Path,
    *,
    output_dir: str | Path | None = None,
    options: ScoreOptions | None = None,
    workers: int = 1,
    command: str | None = None,
) -> dict:
    """Score a folder of predictions; write cases.csv, scores.json and scores.md; return the content of scores.json.

    Cases are read, scored and forgotten one by one, `workers` of them at a time (threads).

    Args:
        predictions: see `rater_predictions`.
        truth: see `rater_truth`.
        output_dir: default `predictions/scores`, which must not lie among the cases of the truth.
        command: written into scores.json.

    Raises:
        DatasetLayoutError: see `rater_truth` and `rater_predictions`.
        ImageFileError: see `read_rater_case`.
        MissingPredictionError: cases without complete prediction under missing="error".
        ValueError: an option does not fit.
    """
    options = ScoreOptions() if options is None else options
    if workers < 1:
        raise ValueError(f"workers is {workers}: at least 1 is needed.")
    predictions = Path(predictions)
    if output_dir is None and predictions.resolve() == Path(truth).resolve():
        raise ValueError(
            f"{predictions} is the truth itself: give an output_dir, lest its cases be joined by the scores."
        )
    output_dir = predictions / "scores" if output_dir is None else Path(output_dir)
    choice = {"region": options.region, "part": options.part}
    listed = rater_truth(
        truth, **choice, tasks=options.tasks, raters=options.raters or None, anonymous=options.anonymous
    )
    tasks = []
    for items in listed.values():  # all are listed before the first is scored, so that what is missing is told at once
        marked = [item for item in items if any(item["label"])]
        found = rater_predictions(predictions, marked, **choice, samples=options.samples)
        _refuse_missing(found, marked, options)
        group_labels([item["case"] for item in marked], options.group)
        tasks.append((items, marked, found))
    bootstrap = Bootstrap(options.group, options.resamples, options.seed)
    cases: list[ScoredCase] = []
    summaries = []
    for items, marked, found in tasks:
        own = _scored_cases(marked, found, options, workers)
        summaries.append(task_summary(items, found, own, anonymous=options.anonymous, bootstrap=bootstrap))
        cases += own
    content = {
        "command": command,
        "predictions": str(predictions),
        "truth": str(truth),
        "settings": asdict(options),
        "versions": {"python": platform.python_version(), "monai_ext": __version__}
        | {name: version(name) for name in PACKAGES},
        "tasks": summaries,
        "all_tasks": summary_over_tasks(cases, bootstrap=bootstrap) if len(summaries) > 1 else None,
    }
    write_text(output_dir / "cases.csv", _csv([case.row for case in cases]))
    content = _nan_as_null(content)
    write_text(output_dir / "scores.json", json.dumps(content, indent=1, allow_nan=False) + "\n")
    write_text(output_dir / "scores.md", markdown_page(score_blocks(content)))
    return content


def _refuse_missing(found: RaterPredictions, items: Sequence[Mapping], options: ScoreOptions) -> None:
    if options.missing != "error" or not found.missing:
        return
    reasons = list(found.missing.values())
    more = len(reasons) - NAMED_AT_MOST
    raise MissingPredictionError(
        f"{len(reasons)} of {len(items)} cases have no complete prediction of task {items[0]['task']}: "
        f"{'; '.join(reasons[:NAMED_AT_MOST])}{f'; and {more} more' if more > 0 else ''}. Complete them, or choose "
        "missing zero (they get the worst scores) or skip (they are left out)."
    )


def _scored_cases(
    items: Sequence[Mapping], found: RaterPredictions, options: ScoreOptions, workers: int
) -> list[ScoredCase]:
    label, cases = f"scoring task {items[0]['task']}", []
    with tqdm(total=len(items), desc=label, unit="case", disable=not sys.stderr.isatty(), leave=False) as bar:
        for case in _mapped(lambda item: _scored(item, found, options), items, workers):
            cases.append(case)
            bar.update()
    return cases


def _mapped(function: Callable[[Mapping], ScoredCase], items: Iterable[Mapping], workers: int) -> Iterator[ScoredCase]:
    """`map` by threads, in order; after an error nothing further is begun."""
    if workers == 1:
        yield from map(function, items)
        return
    pool = ThreadPoolExecutor(workers)
    try:
        yield from pool.map(function, items)
    finally:
        pool.shutdown(cancel_futures=True)


def _scored(item: Mapping, found: RaterPredictions, options: ScoreOptions) -> ScoredCase:
    files = found.files.get(item["id"])
    row = {"id": item["id"], "case": item["case"], "task": item["task"]}
    row["status"] = "missing" if files is None else "scored"
    row["annotators"] = sum(path is not None for path in item["label"])
    if files is None and options.missing == "skip":
        return ScoredCase(row, counted=False, heads=None, elsewhere=None)
    case = read_rater_case(item, files, found.kinds)
    scores, human, heads = rater_case_scores(
        case,
        raters=item["raters"],
        heads=() if options.anonymous else found.kinds.raters,
        set_size=len(found.kinds.samples or found.kinds.raters),
        strict=options.strict,
        estimator=options.estimator,
        bins=options.bins,
    )
    names = applicable_scores(found.kinds, item["raters"], anonymous=options.anonymous)
    if files is None:
        scores = {name: _worst(name, item, found.kinds) for name in names}
    row |= {name: scores[name] for name in names}
    row |= {f"human_{name}": human.get(name, math.nan) for name in names}
    row["rater_agreement"] = human.get("rater_agreement", math.nan)
    return ScoredCase(row, counted=True, heads=heads, elsewhere=case.elsewhere)


def _worst(name: str, item: Mapping, kinds: PredictionKinds) -> float:
    """What a missing prediction scores; nothing with an annotator who is missing as well."""
    marked = [number for number, path in zip(item["raters"], item["label"], strict=True) if path is not None]
    if name in HEAD_SCORES:
        return HEAD_SCORES[name].worst if set(marked) & set(kinds.raters) else math.nan
    if name in SCORES:
        return SCORES[name].worst
    return 0.0 if int(name.rpartition("_rater")[2]) in marked else math.nan


def _csv(rows: Sequence[Mapping]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows({k: "" if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()} for row in rows)
    return text.getvalue()


def _nan_as_null(value: object) -> object:
    if isinstance(value, dict):
        return {key: _nan_as_null(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_nan_as_null(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(",") if part)


_numbers.__name__ = "comma-separated integers"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m monai_ext score`."""
    default = ScoreOptions()
    add = parser.add_argument
    add("--predictions", required=True, type=Path, help="folder of predictions, one folder a case, named as in --truth")
    add("--truth", required=True, type=Path, help="the data set: <region>/<part>/<case>/task01_seg01.nii.gz, ...")
    add("--output_dir", type=Path, help="for cases.csv, scores.json, scores.md (PREDICTIONS/scores)")
    add("--region", help="organ, where the data set has several")
    add("--part", help="Training, Validation or Testing (the only one there is)")
    add("--task", type=_numbers, default=(), dest="tasks", metavar="T,T,...", help="tasks to score (all)")
    add("--raters", type=_numbers, default=(), metavar="R,R,...", help="annotators to score against (all)")
    add("--anonymous", action="store_true", help="seg01 of two cases are two persons: no scores of single annotators")
    add("--samples", type=int, help="how many samples of each case to take (all)")
    add(
        "--missing",
        choices=MISSING,
        default=default.missing,
        help="cases without prediction: stop, worst score, leave out (%(default)s)",
    )
    add("--strict", action="store_true", help="> in place of >= at the levels of shares and probabilities")
    add(
        "--estimator",
        choices=("V", "U"),
        default=default.estimator,
        help="energy distance with (V) or without self pairs",
    )
    add("--bins", type=int, default=default.bins, help="of calibration (15)")
    add("--group", help="regular expression: cases with the same match are drawn together (patient)")
    add("--resamples", type=int, default=default.resamples, help="bootstrap draws (10000)")
    add("--seed", type=int, default=default.seed, help="of the bootstrap (0)")
    add("--workers", type=int, default=1, help="cases at a time (1)")


def run(args: argparse.Namespace) -> int:
    """`python -m monai_ext score`: print the tables, write the files and say where they lie."""
    options = ScoreOptions(**{name: getattr(args, name) for name in ScoreOptions.__dataclass_fields__})
    typed = shlex.join(["python", "-m", "monai_ext", *sys.argv[1:]])
    content = score(
        args.predictions, args.truth, output_dir=args.output_dir, options=options, workers=args.workers, command=typed
    )
    sys.stdout.write(text_page(score_blocks(content)))
    sys.stderr.write(f"scores: {args.output_dir or args.predictions / 'scores'}\n")
    return 0
