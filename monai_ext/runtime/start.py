"""The first step of a bundle's `run`: errors as one sentence, the log of the run, seeded random numbers."""

from __future__ import annotations

from pathlib import Path

from monai.utils import set_determinism

from monai_ext.runtime.errors import report_errors_in_one_sentence

__all__ = ["start_run"]


def start_run(output_dir: str | Path | None = None, *, seed: int | None = None) -> None:
    """`report_errors_in_one_sentence` with a log in `output_dir`; with a `seed`, MONAI's `set_determinism` as well."""
    report_errors_in_one_sentence(log_dir=output_dir)
    if seed is not None:
        set_determinism(seed=seed)
