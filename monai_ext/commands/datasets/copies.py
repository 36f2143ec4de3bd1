"""Data sets in other layouts, copied into one that evaluations and `score` read; anew where they have changed."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import msgspec

from monai_ext.commands.datasets.convert import write_cases
from monai_ext.commands.datasets.layout_names import Kind, LayoutName
from monai_ext.data.isic import DatasetLayoutError, lesion_items
from monai_ext.data.layouts import FoundCase, read_layout
from monai_ext.data.raters.qubiq import MASK_NAME
from monai_ext.runtime.run_log import tell
from monai_ext.storage.folders import files_below
from monai_ext.storage.records import read_record, write_record

__all__ = ["is_read_directly", "readable_copy"]

RECORD = "copied_from.json"


class CopiedFrom(msgspec.Struct, frozen=True, kw_only=True):
    """What a folder is a copy of: the data set, a digest of the names, sizes and times of its files, and what of it."""

    source: str
    files: str
    kind: str
    layout: str
    part: str | None


def is_read_directly(source: Path, kind: Kind) -> bool:
    """Whether a data set has a layout that needs no copy."""
    if kind == "raters":
        masks = (path for depth in ("*", "*/*", "*/*/*") for path in source.glob(f"{depth}/task*"))
        return any(MASK_NAME.fullmatch(path.name) for path in masks)
    try:
        return bool(lesion_items(source))
    except DatasetLayoutError:
        return False


def readable_copy(
    source: Path,
    folder: Path,
    kind: Kind,
    *,
    layout: LayoutName | None = None,
    part: str | None = None,
    dry_run: bool = False,
) -> Path:
    """A data set in a layout that is read: `source` itself, or a copy in `folder`, which is used again while it fits.

    Copies for several raters have all cases in their part Testing; those of one mask for each picture have images/ and
    masks/.

    Args:
        layout: see `read_layout`; None: `source` is copied only where it is not read as it is.
        part: training, validation or test; None: the test part where the layout has one, otherwise all cases.
        dry_run: write nothing.

    Raises:
        DatasetLayoutError: as `read_layout`, no case of the part, several raters where one mask is scored, or a folder
            that holds something else.
    """
    if layout is None and is_read_directly(source, kind):
        return source
    try:
        name, cases = read_layout(source, layout or "auto")
    except DatasetLayoutError:
        if layout is None:
            return source  # whoever reads it names the folders that are missing
        raise
    if dry_run:
        return folder
    files = _digest(files_below(source) if source.is_dir() else [source, *_files_of(cases)])
    wanted = CopiedFrom(source=str(source.resolve()), files=files, kind=kind, layout=layout or "auto", part=part)
    if (folder / RECORD).is_file() and read_record(folder / RECORD, CopiedFrom) == wanted:
        tell(f"{source} is read from its copy in {folder}")
        return folder
    if folder.exists():
        if not (folder / RECORD).is_file() and any(folder.iterdir()):
            raise DatasetLayoutError(f"{folder}, the place of a copy of {source}, holds something else: move it.")
        shutil.rmtree(folder)
    cases = _of_part(cases, part, source)
    raters = {key.rater for case in cases for key in case.masks}
    if kind == "lesion" and len(raters) > 1:
        raise DatasetLayoutError(
            f"{source}, read as {name}, has masks of {len(raters)} raters, and this run predicts one mask: make one of "
            "them by `monai_ext convert` and `monai_ext consensus`, or train prob_unet."
        )
    folder.mkdir(parents=True)
    write_record(folder / RECORD, wanted)  # first, so that what is left of an interrupted copy is known as ours
    chosen = [replace(case, part="test" if kind == "raters" else case.part) for case in cases]
    write_cases(chosen, folder, raters=kind == "raters")
    tell(f"{len(cases)} cases of {source}, read as {name}, are in {folder}")
    return folder


def _of_part(cases: list[FoundCase], part: str | None, source: Path) -> list[FoundCase]:
    parts = sorted({case.part for case in cases if case.part is not None})
    if part is None and "test" not in parts:
        return cases
    found = [case for case in cases if case.part == (part or "test")]
    if not found:
        raise DatasetLayoutError(f"no case of {source} is of the part {part}: it has {', '.join(parts) or 'no parts'}.")
    return found


def _files_of(cases: Iterable[FoundCase]) -> set[Path]:
    return {file for case in cases for file in (case.image, *case.masks.values()) if isinstance(file, Path)}


def _digest(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(files):
        status = os.stat(path)
        digest.update(f"{path}|{status.st_size}|{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]
