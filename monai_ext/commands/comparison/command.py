"""The command `compare`: its options, a search before the comparison, and the report after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from monai_ext.commands.command_line import Computed, option_pairs
from monai_ext.commands.comparison.backends import BackendOptions
from monai_ext.commands.comparison.compare import Plan, compare
from monai_ext.commands.comparison.ray_backend import RayBackend
from monai_ext.commands.comparison.report import report
from monai_ext.commands.comparison.runs import Outcome
from monai_ext.commands.comparison.search import search
from monai_ext.runtime.run_log import tell

__all__ = ["CompareOptions", "run"]


@dataclass(frozen=True)
class CompareOptions(BackendOptions, Plan):
    """Compare losses: one ordinary bundle run per loss x fold x seed, each in processes of its own, resumable.

    OUTPUT_DIR/LOSS/foldF_seedS holds a run. Runs of other settings are never mixed, and one comparison at a time works
    in a folder, or several parts of one. Runs execute on this machine or as tasks of Ray on several. Unknown options
    are arguments of every bundle run: --max_epochs 10.
    """

    search: Computed[tuple[str, ...]] = ()
    """a setting and values of it, such as learning_rate 0.0004 0.001 0.0025: each loss tries them on fold 0 first, and
    keeps the best"""
    no_report: bool = False
    """do not write the report"""

    def __post_init__(self) -> None:
        Plan.__post_init__(self)
        BackendOptions.__post_init__(self)


def run(options: CompareOptions, further: Sequence[str] = ()) -> int:
    """`python -m monai_ext compare`: exit status 0, 1 when runs failed (they are listed), 130 when interrupted.

    Args:
        further: unknown options, `--key value` or `--key=value`: arguments of every bundle run.
    """
    options = replace(options, arguments=option_pairs(further))
    backend = None
    if options.backend == "ray":
        backend = RayBackend(options.ray, jobs=options.jobs, needed=(options.bundle, options.dataset_dir))
    how: dict[str, Any] = {"jobs": options.jobs or 1, "backend": backend}
    plan: Plan = options
    failed: list[Outcome] = []
    if options.search:
        plan, failed = search(options, options.search, part=options.part, **how)
    failed = failed or compare(plan, part=options.part, **how)
    for outcome in failed:
        tell(f"failed: {outcome.run.name}: {outcome.error}\n  log: {outcome.log}")
    finished = any(options.output_dir.glob("*/fold*_seed*/finished.json"))
    if finished and not options.no_report and options.part is None:
        tell(f"report: {report(options.output_dir)}")
    return 1 if failed else 0
