"""Options that commands on data sets of several raters share: the folders, and what is read of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from monai_ext.commands.command_line import Computed, Positional
from monai_ext.data.raters.predictions import rater_truth

__all__ = ["RaterChoice", "RaterFolders"]


@dataclass(frozen=True)
class RaterFolders:
    """A data set and a folder for what is made of it."""

    data: Positional[Path]
    """the data set: <region>/<part>/<case>/task01_seg01.nii.gz, ..."""
    output_dir: Path
    """for what is made of it"""


@dataclass(frozen=True)
class RaterChoice:
    """What is read of a data set.

    In `class Options(RaterChoice, RaterFolders)` these options are listed after those of the folders.
    """

    region: Computed[str | None] = None
    """organ, where the data set has several"""
    part: Computed[str | None] = None
    """Training, Validation or Testing (the only one there is)"""
    tasks: Computed[tuple[int, ...]] = ()
    """tasks to take (all)"""
    raters: Computed[tuple[int, ...]] = ()
    """raters to take (all)"""
    anonymous: bool = False
    """seg01 of two cases are two persons: no numbers of single raters"""
    labels: Computed[tuple[int, ...]] = ()
    """values that are foreground in the raters' masks (1, or 255)"""

    def items(self, data: Path) -> dict[int, list[dict]]:
        """Task -> its cases in the data set, see `rater_truth`."""
        return rater_truth(
            data,
            region=self.region,
            part=self.part,
            tasks=self.tasks,
            raters=self.raters or None,
            anonymous=self.anonymous,
            labels=self.labels or None,
        )
