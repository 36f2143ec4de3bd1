"""`compare`: one ordinary bundle run per loss x fold x seed, each in processes of its own, resumable.

`output_dir/LOSS/foldF_seedS` holds a run; it is finished when its `finished.json` exists. Runs of other settings are
never mixed, and one comparison at a time works in a folder, or several parts of one. Runs execute on this machine or as
tasks of Ray on several. The tables and figures are `monai_ext.commands.comparison.report`.
"""

from __future__ import annotations

import hashlib
import platform
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tqdm import tqdm

from monai_ext import __version__
from monai_ext.commands.bundles.run_commands import bundle_command
from monai_ext.commands.bundles.shipped import bundle_folder
from monai_ext.commands.command_line import Computed, Suppress
from monai_ext.commands.comparison.records import Finished, PlanRecord, Started
from monai_ext.commands.comparison.runs import Backend, LocalBackend, Outcome, Run
from monai_ext.runtime.command_lines import shell_line
from monai_ext.runtime.run_log import shows_progress
from monai_ext.runtime.settings import flattened
from monai_ext.storage.files import make_folder, remove_leftovers, writing
from monai_ext.storage.locks import holder_in, try_lock, write_holder
from monai_ext.storage.records import read_record, write_record

__all__ = [
    "ComparisonBusyError",
    "ComparisonError",
    "Plan",
    "bundle_commands",
    "compare",
]

LOSSES = ("bce", "dice", "tversky", "jaccard", "dice_bce")
CONFIGS = ("train.json", "evaluate.json")
FIGURE_CASES = 50  # cases whose probability maps are kept; the report shows a few of them
OURS = {"config_file", "bundle_root", "dataset_dir", "loss_name", "fold", "folds", "seed", "output_dir", "resume"}


class ComparisonError(ValueError):
    """A comparison that cannot be started or continued with these options."""


class ComparisonBusyError(ComparisonError):
    """Another comparison, or a run that it left behind, works in the same folder."""


@dataclass(frozen=True)
class Plan:
    """What to compare: a bundle, a data set, and the grid of losses x folds x seeds.

    Raises:
        ComparisonError: an empty or repeated loss or seed, a loss that the bundle has not, fewer than two folds, an
            argument set by the comparison.
        FileNotFoundError: the bundle has no configs/train.json or configs/evaluate.json.
    """

    bundle: Path
    """the bundle's folder"""
    dataset_dir: Path
    """images and masks"""
    output_dir: Path
    """runs and report; continued if it exists"""
    losses: tuple[str, ...] = LOSSES
    """values of the bundle's loss_name; they name folders, so letters, digits and `_ . -` only"""
    folds: int = 5
    """folds of the cross-validation"""
    seeds: tuple[int, ...] = (0,)
    """seeds of the trainings"""
    figure_ids: Computed[tuple[str, ...]] = ()
    """cases whose probability maps are kept for the figure (up to 50, spread over the data set)"""
    arguments: Suppress[Mapping[str, str]] = field(default_factory=dict)
    """further `--key value` of every run, such as {"max_epochs": "10"}"""
    loss_arguments: Suppress[Mapping[str, Mapping[str, str]]] = field(default_factory=dict)
    """further `--key value` of the runs of a loss"""

    def __post_init__(self) -> None:
        object.__setattr__(self, "bundle", bundle_folder(self.bundle))
        for name in ("bundle", "dataset_dir", "output_dir"):
            object.__setattr__(self, name, Path(getattr(self, name)).expanduser().absolute())
        for name in ("losses", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ComparisonError(f"{name} = {list(values)}: give at least one, and none twice.")
        if bad := [loss for loss in self.losses if not re.fullmatch(r"\w[\w.-]*", loss)]:
            raise ComparisonError(f"loss {bad[0]!r} cannot name a folder: use letters, digits, '_', '.' and '-'.")
        if self.folds < 2:
            raise ComparisonError(f"folds = {self.folds}: cross-validation needs at least 2.")
        if taken := sorted(OURS & set(self.arguments)):
            raise ComparisonError(f"--{taken[0]} is set by the comparison for every run: leave it out.")
        for config in CONFIGS:
            if not (self.bundle / "configs" / config).is_file():
                raise FileNotFoundError(f"no configs/{config} in the bundle {self.bundle}: give --bundle its folder.")
        train = self.bundle / "configs" / "train.json"
        known = read_record(train, dict[str, Any], way_out="take it from the bundle again").get("losses", {})
        typed = [*self.arguments, *(name for own in self.loss_arguments.values() for name in own)]
        added = {name.split("#")[1] for name in typed if name.startswith("losses#")}
        if known and (unknown := sorted({*self.losses} - {*known} - added)):
            raise ComparisonError(f"the bundle has no loss {unknown[0]!r}: choose from {', '.join(known)}.")

    def runs(self, make_commands: MakeCommands) -> list[Run]:
        """Every run of the grid; all losses of a fold before the next fold, so that a part is already paired."""
        return [
            Run(loss, fold, seed, make_commands(self, loss, fold, seed, folder), folder)
            for seed in self.seeds
            for fold in range(self.folds)
            for loss in self.losses
            for folder in [self.output_dir / loss / f"fold{fold}_seed{seed}"]
        ]


MakeCommands = Callable[[Plan, str, int, int, Path], tuple[tuple[str, ...], ...]]


def bundle_commands(plan: Plan, loss: str, fold: int, seed: int, folder: Path) -> tuple[tuple[str, ...], ...]:
    """Training, then evaluation of the saved model, as `python -m monai.bundle run` on the bundle's configs."""
    configs = [str(plan.bundle / "configs" / config) for config in CONFIGS]
    choices = {
        "bundle_root": plan.bundle,
        "dataset_dir": plan.dataset_dir,
        "loss_name": loss,
        "fold": fold,
        "folds": plan.folds,
        "seed": seed,
        "output_dir": folder,
        **plan.arguments,
        **plan.loss_arguments.get(loss, {}),
    }
    return (
        (sys.executable, *bundle_command(configs[:1], choices | {"resume": "true"})),
        (sys.executable, *bundle_command(configs, choices | {"figure_ids": list(plan.figure_ids)})),
    )


def lesion_ids(dataset_dir: Path) -> list[str]:
    """Ids of the lesion images and masks in `dataset_dir`, see `monai_ext.data.isic.lesion_items`."""
    from monai_ext.data.isic import lesion_items  # here, since it brings torch, which the comparison itself can spare

    return [item["id"] for item in lesion_items(dataset_dir)]


def _plan_settings(plan: Plan, ids: Sequence[str]) -> Callable[[str], dict[str, Any]]:
    """All that the numbers of a loss's runs depend on, apart from fold and seed. Paths do not count, contents do."""
    listing = "\n".join(sorted(ids)).encode()
    configs = {}
    for config in CONFIGS:
        way_out = "take it from the bundle again"
        configs[config] = read_record(plan.bundle / "configs" / config, object, error=ComparisonError, way_out=way_out)
    dataset = {"cases": len(ids), "ids_sha256": hashlib.sha256(listing).hexdigest()}

    def of_loss(loss: str) -> dict[str, Any]:
        own = {**plan.arguments, **plan.loss_arguments.get(loss, {})}
        arguments = {"arguments": own} if own else {}  # so that each is missed by its own name
        return {"folds": plan.folds, "dataset": dataset, "configs": configs, **arguments}

    return of_loss


def _check_settings(output_dir: Path, settings_of: Callable[[str], Mapping[str, object]]) -> None:
    for path in sorted(output_dir.glob("*/fold*_seed*/started.json")):
        now = flattened(settings_of(path.parent.parent.name))
        try:
            then = flattened(_started(path.parent).settings)
        except RecursionError:
            raise ComparisonError(f"{path} is damaged: remove the folder {path.parent} to repeat this run.") from None
        for key in sorted(now.keys() | then.keys()):
            if now.get(key, "not set") != then.get(key, "not set"):
                old, new = (str(side.get(key, "not set"))[:80] for side in (then, now))
                raise ComparisonError(
                    f"{key} is now {new!r}, but {path.parent} was started with {old!r}: "
                    "use the same settings, or another --output_dir."
                )


def _started(folder: Path) -> Started:
    return read_record(
        folder / "started.json",
        Started,
        error=ComparisonError,
        way_out=f"remove the folder {folder} to repeat this run",
    )


@contextmanager
def _locked(folder: Path, part: tuple[int, int] | None) -> Iterator[list[int]]:
    """The folder's locks as file descriptors: one for a whole comparison; a part shares it and has one of its own.

    The kernel drops them with their last holder, so that none is ever stale.
    """
    with ExitStack() as stack:
        held = [stack.enter_context(_lock(folder / ".compare.lock", shared=part is not None))]
        if part is not None:
            held.append(stack.enter_context(_lock(folder / f".compare.{part[0]}of{part[1]}.lock")))
        yield held


@contextmanager
def _lock(path: Path, *, shared: bool = False) -> Iterator[int]:
    with writing(path):
        opened = path.open("a+")
    with opened as file:
        if not try_lock(file, shared=shared):
            raise ComparisonBusyError(
                f"a comparison ({holder_in(file) or 'just starting'}), or a run it left behind, still works in "
                f"{path.parent}: wait for it, or end the processes that its */*/run.pid name."
            )
        write_holder(file)
        yield file.fileno()


@contextmanager
def _terminated_like_ctrl_c() -> Iterator[None]:
    """Let SIGTERM stop the runs as well, where signals can be handled."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "monai_ext": __version__}
    for name in ("monai", "torch"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _write_plan(plan: Plan) -> None:
    """`plan.json`: this plan, joined with the losses and seeds of the runs that are in the folder already."""
    folders = [path.parent for path in sorted(plan.output_dir.glob("*/fold*_seed*/started.json"))]
    losses = dict.fromkeys([*plan.losses, *(folder.parent.name for folder in folders)])
    seeds = dict.fromkeys([*plan.seeds, *(int(folder.name.rpartition("seed")[2]) for folder in folders)])
    record = PlanRecord(
        bundle=str(plan.bundle),
        dataset_dir=str(plan.dataset_dir),
        output_dir=str(plan.output_dir),
        losses=list(losses),
        folds=plan.folds,
        seeds=list(seeds),
        figure_ids=list(plan.figure_ids),
        arguments=dict(plan.arguments),
        command=shell_line(sys.argv),
    )
    write_record(plan.output_dir / "plan.json", record)


def compare(
    plan: Plan,
    *,
    jobs: int = 1,
    make_commands: MakeCommands = bundle_commands,
    list_ids: Callable[[Path], Sequence[str]] = lesion_ids,
    backend: Backend | None = None,
    part: tuple[int, int] | None = None,
    only_fold: int | None = None,
) -> list[Outcome]:
    """Execute the runs of `plan` that are not finished; returns those that failed (the others go on).

    Args:
        jobs: runs at a time on this machine; another backend has its own number.
        part: (i, n) takes every n-th run from the i-th (from 1). Parts of one n may work in the folder side by side.
        only_fold: leaves the other folds for later.

    Raises:
        ComparisonError: settings differ from those of a run in `output_dir`, with the key; an unknown figure id.
        ComparisonBusyError: another comparison, or the same part of one, works in `output_dir`.
    """
    ids = sorted(list_ids(plan.dataset_dir))
    if unknown := sorted({*plan.figure_ids} - {*ids}):
        raise ComparisonError(f"figure_ids: {unknown[0]!r} is not among the {len(ids)} cases of {plan.dataset_dir}.")
    spread = {ids[i * len(ids) // FIGURE_CASES] for i in range(FIGURE_CASES)} if len(ids) > FIGURE_CASES else set(ids)
    plan = replace(plan, figure_ids=plan.figure_ids or tuple(sorted(spread)))
    settings_of = _plan_settings(plan, ids)
    make_folder(plan.output_dir)
    with _locked(plan.output_dir, part) as locks, _terminated_like_ctrl_c():
        remove_leftovers(plan.output_dir)
        _check_settings(plan.output_dir, settings_of)
        _write_plan(plan)
        number, count = part or (1, 1)
        runs = [run for run in plan.runs(make_commands) if only_fold in (None, run.fold)][number - 1 :: count]
        waiting = [run for run in runs if not (run.folder / "finished.json").exists()]
        started = _marked_as_started(waiting, settings_of)
        outcomes = (backend or LocalBackend(jobs=jobs, keep_open=locks))(started)
        failed = []
        with tqdm(
            total=len(runs), initial=len(runs) - len(waiting), unit="run", desc="compare", disable=not shows_progress()
        ) as bar:
            try:
                for outcome in map(_finished, outcomes):
                    if outcome.error is not None:
                        failed.append(outcome)
                        bar.write(f"{outcome.run.name} failed: {outcome.error} ({outcome.log})", file=sys.stderr)
                    bar.update()
            finally:
                if hasattr(outcomes, "close"):
                    outcomes.close()  # stops what is running
    return failed


def _marked_as_started(runs: Iterable[Run], settings_of: Callable[[str], dict[str, Any]]) -> Iterator[Run]:
    for run in runs:
        remove_leftovers(run.folder)
        write_record(run.folder / "started.json", Started(settings=settings_of(run.loss), versions=_versions()))
        yield run


def _finished(outcome: Outcome) -> Outcome:
    """Put `finished.json` into the folder of a run that left its results."""
    run = outcome.run
    if outcome.error is not None:
        return outcome
    if not (run.folder / "evaluation" / "cases.csv").is_file():
        return replace(outcome, error="it ended without an error but left no evaluation/cases.csv")
    started = _started(run.folder)
    record = Finished(
        loss=run.loss,
        fold=run.fold,
        seed=run.seed,
        seconds=round(outcome.seconds, 3),
        settings=started.settings,
        versions=started.versions,
    )
    write_record(run.folder / "finished.json", record)
    return outcome
