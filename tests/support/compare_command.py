"""Options of `compare`, as they are typed."""

from __future__ import annotations

from pathlib import Path

from monai_ext.commands.command_line import parse_options
from monai_ext.commands.comparison.command import CompareOptions


def parse(*words: str) -> tuple[CompareOptions, tuple[str, ...]]:
    line = parse_options(CompareOptions, words, passes_on=True)
    return line.options, line.further


def command(place: Path, *further: str) -> tuple[CompareOptions, tuple[str, ...]]:
    folders = ["--bundle", str(place / "bundle"), "--dataset_dir", str(place), "--output_dir", str(place / "out")]
    return parse(*folders, "--losses", "bce", "dice", "--folds", "2", *further)
