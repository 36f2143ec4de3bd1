"""The first step of a bundle's `run`: errors as one sentence, the log of the run, seeded random numbers."""

from __future__ import annotations

import sys
from pathlib import Path

from monai.utils import set_determinism

from monai_ext.runtime.devices import refuse_absent_device
from monai_ext.runtime.errors import report_errors_in_one_sentence
from monai_ext.runtime.hosts import has_own_process, in_monai_label, put_aside
from monai_ext.runtime.run_folders import LAST_CHECKPOINT, refuse_earlier_run
from monai_ext.runtime.run_log import keep_log
from monai_ext.runtime.settings import as_bool

__all__ = ["start_run"]


def start_run(
    output_dir: str | Path | None = None, *, seed: int | None = None, resume: bool | str | None = None
) -> None:
    """`report_errors_in_one_sentence` with a log in `output_dir`; with a `seed`, MONAI's `set_determinism` as well.

    In a process of another program, errors and log records stay as that program wants them. MONAI Label trains with the
    same `output_dir` each time: an earlier run is put aside there, see `put_aside`.

    Args:
        resume: of a training: where it is false, an `output_dir` with a run is refused before any data are read.

    Raises:
        FileExistsError: it holds a run.
        ValueError: the device of the command line is not here, or `resume` is no boolean.
    """
    if in_monai_label() and output_dir is not None:
        put_aside(output_dir)
    if has_own_process():
        report_errors_in_one_sentence(log_dir=output_dir)
        refuse_absent_device(sys.argv)
    else:
        keep_log(output_dir)
    if output_dir is not None and resume is not None and not as_bool(resume, "resume"):
        refuse_earlier_run(Path(output_dir) / LAST_CHECKPOINT)
    if seed is not None:
        set_determinism(seed=seed)
