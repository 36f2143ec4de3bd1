"""What the pages of all demos share: the demo's folder, a finished training read back, curves, and its commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from matplotlib.figure import Figure

from monai_ext.commands.html import Block, Command, Heading, Text
from monai_ext.commands.plotting import plain_axis
from monai_ext.storage.files import table_rows
from monai_ext.storage.records import read_record

__all__ = ["WAY_OUT", "DemoRun", "Panel", "Training", "command_blocks", "read_table", "read_training", "stage_curves"]

WAY_OUT = "remove the demo's folder and run it again"


@dataclass(frozen=True)
class DemoRun:
    """A finished demo.

    Attributes:
        configs: folder of the bundle's configs.
        output_dir: holds `phantoms`, `training` (with `evaluation` in it) and `inference`.
        commands: name of a step -> its command, as it is typed.
        seconds: name of a step -> how long it took.
    """

    configs: Path
    output_dir: Path
    commands: Mapping[str, str]
    seconds: Mapping[str, float]

    @property
    def training(self) -> Path:
        """The folder of the training."""
        return self.output_dir / "training"


class Training(NamedTuple):
    """A finished training with its evaluation.

    Attributes:
        settings: of run.json.
        epochs: rows of epochs.csv, by column.
        summary: content of evaluation/summary.json; empty where the evaluation writes none.
    """

    settings: Mapping[str, Any]
    epochs: list[dict[str, str]]
    summary: Mapping[str, Any]


class _RunRecord(msgspec.Struct):
    """run.json, as far as a page shows it."""

    settings: dict[str, Any]


class Panel(NamedTuple):
    """A column of epochs.csv as a curve."""

    column: str
    label: str
    colour: str


def read_training(training: Path) -> Training:
    """What a training and its evaluation left in the folder `training`.

    Raises:
        FileNotFoundError: a step left nothing.
        ValueError: a file is damaged.
    """
    summary = training / "evaluation" / "summary.json"
    return Training(
        settings=read_record(training / "run.json", _RunRecord, way_out=WAY_OUT).settings,
        epochs=read_table(training / "epochs.csv"),
        summary=read_record(summary, dict[str, Any], way_out=WAY_OUT) if summary.is_file() else {},
    )


def read_table(path: Path) -> list[dict[str, str]]:
    """Rows of a table that a run of the demo left, by column.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged.
    """
    return [row for _, row in table_rows(path, way_out=WAY_OUT)]


def stage_curves(epochs: Sequence[Mapping[str, str]], panels: Sequence[Panel], *, pretrain_epochs: int) -> Figure:
    """A curve per panel, with a line where the adversarial stage begins."""
    figure = Figure(figsize=(1 + 3.6 * len(panels), 3.2), layout="constrained")
    for axis, panel in zip(figure.subplots(1, len(panels)), panels, strict=True):
        known = [(int(row["epoch"]), float(row[panel.column])) for row in epochs if row.get(panel.column)]
        if known:
            axis.plot(*np.array(known).T, color=panel.colour, marker=".")
        axis.axvline(pretrain_epochs + 0.5, color="#777777", linestyle=":", linewidth=1)
        axis.set(xlabel="epoch", ylabel=panel.label)
        plain_axis(axis, grid=None)
    return figure


def command_blocks(run: DemoRun, *, results: str) -> list[Block]:
    """The end of a page: each step's command and time, and where the rest lies.

    Args:
        results: a line on the results of inference, with their folder.
    """
    return [
        Heading("The commands"),
        *(Command(f"{name}, {run.seconds[name]:.0f} s", command) for name, command in run.commands.items()),
        Command("curves and pictures", f"tensorboard --logdir {run.training / 'tensorboard'}"),
        Text(results),
    ]
