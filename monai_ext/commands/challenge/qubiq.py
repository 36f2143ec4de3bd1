"""`qubiq`: every task of a challenge's folder trained, scored and predicted, one bundle run each, and a submission."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from monai_ext.commands.bundles import run_commands
from monai_ext.commands.bundles.run_commands import bundle_command, typed
from monai_ext.commands.bundles.shipped import bundle_folder
from monai_ext.commands.challenge.table import TaskResult, challenge_blocks, task_result
from monai_ext.commands.challenge.tasks import ChallengeTask, find_tasks
from monai_ext.commands.command_line import Computed, Positional, option_pairs
from monai_ext.commands.html import html_page, markdown_page
from monai_ext.data import DatasetLayoutError
from monai_ext.data.raters.predictions import SLICE_FOLDER
from monai_ext.data.raters.qubiq import PARTS
from monai_ext.raster.nifti import open_nifti, save_nifti
from monai_ext.runtime.run_log import tell
from monai_ext.storage.files import atomic_path, write_text
from monai_ext.storage.folders import folders_in
from monai_ext.storage.records import read_record, write_record

__all__ = ["QubiqOptions", "challenge_commands", "qubiq", "run"]

FOLDS = 5  # where no validation part is marked
OURS = {"config_file", "bundle_root", "dataset_dir", "output_dir", "region", "task", "raters", "slices", "resume",
        "in_channels", "channel_axis", "fold", "folds", "validation_part", "evaluation_part", "part"}  # fmt: skip


@dataclass(frozen=True)
class QubiqOptions:
    """Train and score every task of a challenge in the layout of QUBIQ, and write the submission; resumable.

    FOLDER holds <region>/{Training,Validation,Testing}/<case>/ as downloaded, or these parts of one region. Each task
    is an ordinary run of the bundle in OUTPUT_DIR/<region>/task01: trained on the whole training part and scored on the
    validation part where every case of it is marked, else with one fold of five held out, then applied to the part that
    is submitted. OUTPUT_DIR/submission/<region>/<case>/task01.nii.gz are the predicted shares of raters; qubiq.html and
    qubiq.md have the table of all tasks. Raters, channels and volumes are found in the data. Unknown options are
    settings of every training: --max_epochs 100 --spatial_size "[256, 256]".
    """

    folder: Positional[Path]
    """the data as downloaded"""
    output_dir: Path
    """runs, submission and table; continued if it exists"""
    bundle: Path = Path("bundles/qubiq_holistic")
    """the bundle's folder"""
    regions: Computed[tuple[str, ...]] = ()
    """regions to take (all)"""
    part: Computed[str | None] = None
    """part to predict for the submission (Testing, else Validation)"""
    dry_run: bool = False
    """print the commands and stop"""

    def __post_init__(self) -> None:
        if self.part is not None and self.part.lower() not in PARTS:
            raise ValueError(f"part is {self.part!r}: choose Training, Validation or Testing.")
        object.__setattr__(self, "bundle", bundle_folder(self.bundle))
        if not (self.bundle / "configs" / "train.json").is_file():
            raise FileNotFoundError(f"no configs/train.json in the bundle {self.bundle}: give --bundle its folder.")


def qubiq(options: QubiqOptions, further: Mapping[str, str] | None = None) -> list[TaskResult]:
    """Work off every task; write the submission and the table; return a result for each task.

    A step that was completed by the same command is not repeated; one that fails is named, and the other tasks go on.

    Args:
        further: settings of every training.

    Raises:
        DatasetLayoutError: see `find_tasks`.
    """
    results, maps, submission = [], 0, options.output_dir / "submission"
    for task in find_tasks(options.folder, options.regions):
        folder = options.output_dir / task.name
        commands = challenge_commands(options, task, further or {})
        failed = _worked_off(task.name, commands, folder / "steps.json")
        results.append(task_result(task, folder, failed))
        if not failed and _submitted_part(options, task) is not None:
            maps += _submit(folder / "predictions", submission / (task.region or ""), task, options)
    blocks = challenge_blocks(results, submission if maps else None, maps)
    write_record(options.output_dir / "qubiq.json", results)
    write_text(options.output_dir / "qubiq.md", markdown_page(blocks))
    write_text(options.output_dir / "qubiq.html", html_page(blocks, title="Tasks of the challenge"))
    return results


def challenge_commands(
    options: QubiqOptions, task: ChallengeTask, further: Mapping[str, str]
) -> dict[str, tuple[str, ...]]:
    """Training, evaluation and, where a part is to be submitted, prediction of one task, as they are typed."""
    configs, folder = options.bundle / "configs", options.output_dir / task.name
    data: dict[str, object] = {"bundle_root": options.bundle, "dataset_dir": options.folder}
    data |= {} if task.region is None else {"region": task.region}
    data |= {"task": task.task} | ({"slices": "true"} if task.slices else {})
    data |= {} if task.channel_axis is None else {"channel_axis": task.channel_axis}
    held_out: dict[str, object] = {"fold": 0, "folds": FOLDS}
    if task.validation:
        held_out = {"fold": "all", "validation_part": "Validation"}
    shared = data | {"raters": list(task.raters), "in_channels": task.in_channels, "output_dir": folder}
    shared |= held_out | dict(further)
    train, evaluate = configs / "train.json", configs / "evaluate.json"
    commands = {
        "training": bundle_command([train], shared | {"resume": "true"}),
        "evaluation": bundle_command([train, evaluate], shared | {"figure_ids": "[]"}),
    }
    part = _submitted_part(options, task)
    if part is not None:
        choices = {"part": part, "ckpt_path": folder / "final.pt", "output_dir": folder / "predictions" / part}
        commands["prediction"] = bundle_command([configs / "inference.json"], data | choices)
    return commands


def _submitted_part(options: QubiqOptions, task: ChallengeTask) -> str | None:
    """Of the data of a task, with a capital; None where there is none to predict."""
    wanted = PARTS[:0:-1] if options.part is None else (options.part.lower(),)
    return next((part.capitalize() for part in wanted if part in task.parts), None)


def _worked_off(name: str, commands: Mapping[str, tuple[str, ...]], record: Path) -> str:
    """Run the commands that are not recorded as completed; the name of the step that failed, or nothing."""
    completed = _completed(record)
    for place, (step, command) in enumerate(commands.items()):
        if completed[place : place + 1] == [list(command)]:
            continue
        completed = completed[:place]
        tell(f"\n== {name}, {step}: {typed(command)}")
        if run_commands.execute(command):
            return step
        completed.append(list(command))
        write_record(record, completed)
    return ""


def _completed(record: Path) -> list[list[str]]:
    """Commands of a task that an earlier call completed; none where that is unknown: they can be repeated."""
    try:
        return read_record(record, list[list[str]])
    except (FileNotFoundError, ValueError):
        return []


def _submit(predictions: Path, target: Path, task: ChallengeTask, options: QubiqOptions) -> int:
    """Copy the maps of a task into `target`/<case>, those of slices as one volume; how many cases there are."""
    name = f"task{task.task:02d}.nii.gz"
    part = predictions / str(_submitted_part(options, task))
    slices: dict[str, list[Path]] = {}
    for folder in folders_in(part):
        match = SLICE_FOLDER.fullmatch(folder.name) if task.slices else None
        slices.setdefault(folder.name if match is None else match[1], []).append(folder / name)
    for case, files in slices.items():
        if task.slices:
            save_nifti(_volume(sorted(files)), target / case / name)
            continue
        with atomic_path(target / case / name) as path:
            shutil.copyfile(files[0], path)
    if not slices:
        raise DatasetLayoutError(f"{part} holds no predictions, though the step that writes them is recorded as done.")
    return len(slices)


def _volume(files: Iterable[Path]) -> nib.Nifti1Image:
    """Slices along the third axis as one image, in the geometry of the first."""
    images = [open_nifti(path) for path in files]
    values = np.concatenate([np.asarray(image.dataobj, dtype=np.float32) for image in images], axis=2)
    return nib.Nifti1Image(values, images[0].affine, images[0].header)


def run(options: QubiqOptions, further: Sequence[str]) -> int:
    """`python -m monai_ext qubiq`."""
    settings = option_pairs(further)
    if taken := sorted(OURS & settings.keys()):
        raise ValueError(f"--{taken[0]} is set by `qubiq` for every run: leave it out.")
    if options.dry_run:
        for task in find_tasks(options.folder, options.regions):
            for command in challenge_commands(options, task, settings).values():
                print(typed(command))
        return 0
    results = qubiq(options, settings)
    sys.stdout.write((options.output_dir / "qubiq.md").read_text(encoding="utf-8"))
    tell(f"table: {options.output_dir / 'qubiq.html'}")
    return int(any(result.failed for result in results))
