"""Record of an evaluation: which cases were scored with which weights, and whether that still fits the run."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import msgspec
from ignite.engine import Events

from monai_ext.data.run_cases import LEARNT, RUN_FILE, CaseDigests, RunCases, case_digests, read_trained_run
from monai_ext.handlers.engine import Engine
from monai_ext.handlers.training.identity import same_value, shown
from monai_ext.runtime.errors import some_of
from monai_ext.runtime.ranks import is_main_process
from monai_ext.storage.fingerprint import file_sha256
from monai_ext.storage.records import read_record, write_record

__all__ = ["Evaluation", "EvaluationRecord", "check_evaluation"]

FILE = "evaluation.json"
WAY_OUT = "run evaluate.json again"


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """evaluation.json: the cases that were scored, where they come from, and the digests of the files of weights."""

    cases: CaseDigests
    origin: str
    weights: dict[str, str]


class EvaluationRecord:
    """Writes `evaluation.json` in `folder` when an evaluation is complete, see `Evaluation`.

    Args:
        folder: of the evaluation.
        items: the cases that are scored.
        recorded: of the run, by which they were chosen.
    """

    def __init__(self, folder: str | Path, items: Sequence[Mapping], *, recorded: RunCases):
        self.path = Path(folder) / FILE
        self.items, self.recorded = items, recorded

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _write(self, engine: Engine) -> None:
        if is_main_process():
            weights = {str(path): _digest(path) for path in self.recorded.checkpoints if path.is_file()}
            cases = case_digests(self.items)
            write_record(self.path, Evaluation(cases=cases, origin=self.recorded.origin, weights=weights))


def check_evaluation(
    folder: Path, ids: Collection[str], settings: Mapping[str, object], *, error: type[ValueError] = ValueError
) -> None:
    """Compare the evaluation in a run's `folder`/evaluation with the run; what neither records is not compared.

    Args:
        ids: of the cases in its table.
        settings: that it is said to be of.
        error: class of the errors.

    Raises:
        ValueError: settings or weights are no longer those of the run, the table holds other cases than were scored, or
            cases that were trained on; names both sides and the way out.
    """
    run = read_trained_run(folder)
    if run is None:
        return
    place = folder / "evaluation"
    for name in sorted(settings.keys() & run.settings.keys()):
        if not same_value(settings[name], run.settings[name]):
            raise error(
                f"the evaluation in {place} has {name} = {shown(settings[name])}, the {RUN_FILE} of its run has "
                f"{shown(run.settings[name])}: {WAY_OUT}, or take the folder out."
            )
    cases = run.cases or {}
    learnt = dict(cases.get(LEARNT, {}))
    if run.init_weights is not None:
        learnt |= run.init_weights.training or {}
    if not (place / FILE).is_file():
        seen = [name for name in ids if name in learnt] if set(ids) <= set().union(*cases.values(), []) else []
    else:
        scored = read_record(place / FILE, Evaluation, way_out=WAY_OUT, error=error)
        if odd := sorted(scored.cases.keys() ^ set(ids)):
            raise error(f"{place / FILE} and the table beside it are of other cases ({some_of(odd)}): {WAY_OUT}.")
        images = set(learnt.values()) - {""}
        seen = [name for name, digest in scored.cases.items() if digest in images]
        for path, digest in scored.weights.items():
            here = folder / Path(path).name
            if os.path.isfile(here) and Path(path).parent.name == folder.name and _digest(here) != digest:
                raise error(
                    f"the evaluation in {place} is of other weights than {here} now holds ({digest}, now "
                    f"{_digest(here)}): {WAY_OUT}."
                )
    if seen:
        named = some_of(sorted(seen))
        raise error(f"{len(seen)} of the {len(ids)} cases scored in {place} were trained on ({named}): {WAY_OUT}.")


def _digest(path: Path) -> str:
    return file_sha256(path)[:16]
