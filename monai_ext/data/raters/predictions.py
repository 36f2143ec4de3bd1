"""Find predictions of any method for cases with several raters, in the folders and names of the QUBIQ challenge.

    <case>/task01.nii.gz            probability map: the predicted share of raters who mark a pixel
    <case>/task01_seg03.nii.gz      mask that rater 3 would draw
    <case>/task01_sample12.nii.gz   mask number 12 of a set of samples, in no order

`RaterWriter` writes these. A PNG does as well, its row i and column j being voxel (i, j) of the truth. A volume may lie
slice by slice, in `<case>_z000/`, `<case>_z001/`, ...; everything is compared voxel by voxel, as stored.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from monai_ext.data.isic import DatasetLayoutError
from monai_ext.data.passed_over import log_passed_over
from monai_ext.data.raters.qubiq import MASK_NAME, PARTS, qubiq_items
from monai_ext.raster.labels import Labels
from monai_ext.raster.nifti import open_nifti
from monai_ext.runtime.errors import some_of
from monai_ext.storage.folders import files_in, folders_in

__all__ = ["PredictionKinds", "RaterPredictions", "rater_predictions", "rater_truth"]

PREDICTION_NAME = re.compile(r"task(\d+)(?:_(seg|sample)(\d+))?\.(?:nii(?:\.gz)?|png)", re.IGNORECASE)
ALMOST_A_NAME = re.compile(r"task.*\.(?:nii(?:\.gz)?|png)", re.IGNORECASE)
SLICE_FOLDER = re.compile(r"(.+)_z(\d+)")
LAYOUT = "<case>/task01.nii.gz (probability), task01_seg01.nii.gz, ... (raters) or task01_sample01.nii.gz, ..."

Key = tuple[str, int]  # ("probability", 0), ("seg", rater) or ("sample", number)


class PredictionKinds(NamedTuple):
    """What a method predicted, the same for all cases: a map or not, numbers of raters, numbers of samples."""

    probability: bool = False
    raters: tuple[int, ...] = ()
    samples: tuple[int, ...] = ()


class RaterPredictions(NamedTuple):
    """Files of the predictions for a list of cases, see `rater_predictions`."""

    folder: Path
    kinds: PredictionKinds
    files: dict[str, dict[Key, tuple[Path, ...]]]  # item id -> what -> one file, or one for each slice; complete cases
    missing: dict[str, str]  # item id -> what is missing
    unknown: tuple[str, ...]  # folders of predictions for cases that the truth has not


def rater_truth(
    dataset_dir: str | os.PathLike,
    *,
    region: str | None = None,
    part: str | None = None,
    tasks: Sequence[int] = (),
    raters: Sequence[int] | None = None,
    anonymous: bool = False,
    labels: Labels = None,
) -> dict[int, list[dict]]:
    """Task -> items of `qubiq_items` (cases without a mask of the task among them, "label" all None).

    Args:
        part: None: the only one there is, or the one that `dataset_dir` is named after.
        tasks: empty: all that anybody marked in this part, ascending.
        region, raters, anonymous, labels: see `qubiq_items`.

    Raises:
        DatasetLayoutError: as `qubiq_items`, or no case of a task has a mask.
        ValueError: several parts and none chosen.
    """
    root = Path(dataset_dir) if region is None else Path(dataset_dir) / region
    part, folder = _part(root, part)
    found = {int(match[1]) for path in folder.glob("*/task*") if (match := MASK_NAME.fullmatch(path.name))}
    list_items = partial(
        qubiq_items, dataset_dir, region=region, part=part, raters=raters, anonymous=anonymous, labels=labels
    )
    if not found:  # explains itself
        list_items(task=tasks[0] if tasks else 1)
    truth = {}
    for task in tasks or sorted(found):
        items = list_items(task=task, require_masks=False)
        if not any(any(item["label"]) for item in items):
            raise DatasetLayoutError(f"no case of {folder} has a mask of task {task} by the chosen raters.")
        truth[task] = items
    return truth


def _part(root: Path, part: str | None) -> tuple[str, Path]:
    """The part to score and its folder, which need not exist."""
    children = {path.name.lower(): path for path in folders_in(root)} if root.is_dir() else {}
    parts = [name for name in PARTS if name in children]
    if part is None and len(parts) > 1:
        raise ValueError(f"{root} holds the parts {', '.join(parts)}: choose one by part=.")
    own = root.name.lower()
    if part is None:
        part = parts[0] if parts else own if own in PARTS else PARTS[0]
    inside = own == part.lower() and not parts
    return part, root if inside else children.get(part.lower(), root)


def rater_predictions(
    predictions_dir: str | os.PathLike,
    items: Sequence[Mapping],
    *,
    region: str | None = None,
    part: str | None = None,
    samples: int | None = None,
) -> RaterPredictions:
    """The files under `predictions_dir` that belong to `items` of `rater_truth` (one task), by the names of the cases.

    The folders of the cases lie in `predictions_dir` itself or in its `<region>/`, `<part>/` or `<region>/<part>/`.
    A method predicts the same for every case: a case without one of the files that others have counts as missing as a
    whole, since scores of sets depend on their size. Files that do not begin with "task" are passed over, with a line
    in the log.

    Args:
        samples: how many samples of each case to take, by their numbers; None: all.

    Raises:
        DatasetLayoutError: no predictions at all, none for any of the cases, a file whose name begins with "task" and
            means nothing, two files for one thing, or slices that the case has not.
        ValueError: fewer samples than `samples`.
    """
    folder = _find_predictions(Path(predictions_dir), items, region=region, part=part)
    folders = {path.name: path for path in folders_in(folder)}
    task = int(items[0]["task"])
    stacks = _slice_folders(folders)
    found = {item["id"]: _of_case(item, folders, stacks) for item in items}
    kinds = _kinds({key for files in found.values() for key in files}, samples, f"task {task} in {folder}")
    wanted = [("probability", 0)] * kinds.probability
    wanted += [("seg", number) for number in kinds.raters] + [("sample", number) for number in kinds.samples]
    complete: dict[str, dict[Key, tuple[Path, ...]]] = {}
    missing: dict[str, str] = {}
    for item in items:
        files = found[item["id"]]
        if reason := _lacking(item, files, wanted, folder, folders):
            missing[item["id"]] = reason
        else:
            complete[item["id"]] = {key: tuple(path for path in files[key] if path is not None) for key in wanted}
    known = {str(item["case"]) for item in items}, {str(item["id"]) for item in items}
    log_passed_over(folder, _passed_over(folder, [path for name, path in folders.items() if _belongs(name, *known)]))
    others = [name for name in folders if not _belongs(name, *known)]
    unknown = tuple(name for name in others if _holds_predictions(folders[name], task))
    if not complete:
        reasons = some_of([missing[item["id"]] for item in items], separator="; ")
        instead = f", which has predictions for {some_of(unknown)} instead" if unknown else ""
        raise DatasetLayoutError(
            f"none of the {len(items)} cases has a complete prediction of task {task} in {folder}{instead}: {reasons}."
        )
    return RaterPredictions(folder, kinds, complete, missing, unknown)


def _find_predictions(root: Path, items: Sequence[Mapping], *, region: str | None, part: str | None) -> Path:
    if not root.is_dir():
        raise DatasetLayoutError(f"the predictions {str(root)!r} are no folder.")
    bases = [root] if region is None else [root / region, root]
    candidates = []
    for base in filter(Path.is_dir, bases):
        candidates += [path for path in folders_in(base) if part is not None and path.name.lower() == part.lower()]
        candidates.append(base)
    names = {str(item["case"]) for item in items}, {str(item["id"]) for item in items}
    for folder in candidates:
        if any(_belongs(path.name, *names) for path in folders_in(folder)):
            return folder
    for folder in candidates:
        if any(_holds_predictions(path) for path in folders_in(folder)):
            return folder
    raise DatasetLayoutError(
        f"no predictions in {root}: expected is {LAYOUT}; where it holds regions or parts, choose region= and part=."
    )


def _belongs(name: str, cases: set[str], ids: set[str]) -> bool:
    match = SLICE_FOLDER.fullmatch(name)
    return name in cases or (match is not None and (match[1] in ids or match[1] in cases))


def _holds_predictions(folder: Path, task: int | None = None) -> bool:
    matches = (PREDICTION_NAME.fullmatch(name) for name in os.listdir(folder))
    return any(match is not None and task in (None, int(match[1])) for match in matches)


def _passed_over(folder: Path, cases: Iterable[Path]) -> list[Path]:
    """Files beside the folders of the cases, and in them, that are no predictions."""
    files = [path for case in cases for path in files_in(case) if not PREDICTION_NAME.fullmatch(path.name)]
    return [*files_in(folder), *files]


def _slice_folders(folders: Mapping[str, Path]) -> dict[str, dict[int, Path]]:
    """Name before _z -> index of the slice -> folder."""
    stacks: dict[str, dict[int, Path]] = {}
    for name, path in folders.items():
        if match := SLICE_FOLDER.fullmatch(name):
            stacks.setdefault(match[1], {})[int(match[2])] = path
    return stacks


def _of_case(
    item: Mapping, folders: Mapping[str, Path], stacks: Mapping[str, Mapping[int, Path]]
) -> dict[Key, tuple[Path | None, ...]]:
    """What is there of a case: one file, or one for each slice, None where a slice has none."""
    task, case = int(item["task"]), str(item["case"])
    whole = _read_folder(folders[case], task) if case in folders else {}
    places = {f"{folders[case]}": {0: whole}} if whole else {}
    for stem in dict.fromkeys((case, str(item["id"]))):  # the writer's item may have known of other tasks, or not
        files = {index: found for index, path in stacks.get(stem, {}).items() if (found := _read_folder(path, task))}
        if files:
            places[f"{next(iter(stacks[stem].values())).parent / stem}_z..."] = files
    if len(places) > 1:
        raise DatasetLayoutError(
            f"case {item['id']} has predictions of task {task} in {' and in '.join(places)}: remove one of them."
        )
    if whole or not places:
        return {key: (path,) for key, path in whole.items()}
    ((place, stack),) = places.items()
    depth = _depth(item)
    if max(stack) >= depth:
        raise DatasetLayoutError(f"{place} has a slice {max(stack)}, but the masks of the case have {depth} slice(s).")
    keys = {key for files in stack.values() for key in files}
    return {key: tuple(stack.get(index, {}).get(key) for index in range(depth)) for key in keys}


def _depth(item: Mapping) -> int:
    shape = open_nifti(next((path for path in item["label"] if path is not None), item["image"])).shape
    return shape[2] if len(shape) > 2 else 1


def _read_folder(folder: Path, task: int) -> dict[Key, Path]:
    files: dict[Key, Path] = {}
    for path in sorted(folder.iterdir()):
        match = PREDICTION_NAME.fullmatch(path.name)
        if match is None and ALMOST_A_NAME.fullmatch(path.name):
            raise DatasetLayoutError(f"{path} has the name of no prediction: expected is {LAYOUT}.")
        if match is None or int(match[1]) != task:
            continue
        key = (match[2].lower(), int(match[3])) if match[2] else ("probability", 0)
        if key in files:
            raise DatasetLayoutError(f"{folder} has two files for one prediction: {files[key].name} and {path.name}.")
        files[key] = path
    return files


def _kinds(keys: set[Key], samples: int | None, where: str) -> PredictionKinds:
    numbers = {kind: sorted(number for name, number in keys if name == kind) for kind in ("seg", "sample")}
    chosen = numbers["sample"]
    if samples is not None:
        if not 1 <= samples <= len(chosen):
            raise ValueError(f"samples is {samples}, but there are {len(chosen)} for {where}: choose as many or fewer.")
        chosen = chosen[:samples]
    return PredictionKinds(("probability", 0) in keys, tuple(numbers["seg"]), tuple(chosen))


def _lacking(
    item: Mapping, files: Mapping[Key, tuple], wanted: Sequence[Key], folder: Path, folders: Mapping[str, Path]
) -> str | None:
    """Why the prediction of a case is incomplete, or None."""
    task = int(item["task"])
    if not files:
        there = folders.get(str(item["case"]))
        return f"{there} has no prediction of task {task}" if there else f"no folder {folder / str(item['case'])}"
    for kind, number in wanted:
        paths = files.get((kind, number), (None,))
        if None not in paths:
            continue
        name = f"task{task:02d}" + ("" if kind == "probability" else f"_{kind}{number:02d}")
        stacked = any(len(paths) > 1 for paths in files.values())
        place = f"slice {paths.index(None)} of {item['id']}" if stacked else str(folder / str(item["case"]))
        return f"{place} has no {name}.nii.gz, which other predictions have"
    return None
