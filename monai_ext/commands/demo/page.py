"""What the pages of all demos share: a finished training read back, and the commands as they were typed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from monai_ext.commands.html import Block, Heading, Text
from monai_ext.storage.files import read_json, table_rows

__all__ = ["Training", "WAY_OUT", "command_blocks", "read_table", "read_training"]

WAY_OUT = "remove the demo's folder and run it again"


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


def read_training(training: str | Path) -> Training:
    """What a training and its evaluation left in the folder `training`.

    Raises:
        FileNotFoundError: a step left nothing.
        ValueError: a file is damaged.
    """
    training = Path(training)
    record = read_json(training / "run.json", expected=dict, way_out=WAY_OUT)
    if not isinstance(record.get("settings"), dict):
        raise ValueError(f"{training / 'run.json'} is damaged (it has no settings): {WAY_OUT}.")
    summary = training / "evaluation" / "summary.json"
    return Training(
        settings=record["settings"],
        epochs=read_table(training / "epochs.csv"),
        summary=read_json(summary, expected=dict, way_out=WAY_OUT) if summary.is_file() else {},
    )


def read_table(path: str | Path) -> list[dict[str, str]]:
    """Rows of a table that a run of the demo left, by column.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged.
    """
    return [row for _, row in table_rows(path, way_out=WAY_OUT)]


def command_blocks(
    commands: Mapping[str, str], seconds: Mapping[str, float], *, results: str, training: str | Path
) -> list[Block]:
    """The end of a page: each step's command and time, and where the rest lies.

    Args:
        commands: name of the step -> its command, as it is typed.
        seconds: name of the step -> how long it took.
        results: a line on the results of inference, with their folder.
        training: folder of the training.
    """
    return [
        Heading("The commands"),
        Text(*(f"{name} ({seconds[name]:.0f} s): {command}" for name, command in commands.items())),
        Text(results, f"Curves and pictures in TensorBoard: tensorboard --logdir {Path(training) / 'tensorboard'}"),
    ]
