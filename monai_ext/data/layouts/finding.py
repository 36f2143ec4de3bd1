"""Which layout a folder has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from monai_ext.data.isic import DatasetLayoutError
from monai_ext.data.layouts.annotations import coco, label_me
from monai_ext.data.layouts.folders import (
    ham10000,
    monai_label,
    named_parts,
    npz_packs,
    ph2,
    rater_folders,
    rater_suffixes,
)
from monai_ext.data.layouts.found import FoundCase

__all__ = ["LAYOUT_READERS", "read_layout"]

# In this order: what rare names identify comes first.
LAYOUT_READERS: dict[str, Callable[[Path], list[FoundCase] | None]] = {
    "ph2": ph2,
    "ham10000": ham10000,
    "npz": npz_packs,
    "monai_label": monai_label,
    "coco": coco,
    "labelme": label_me,
    "parts": named_parts,
    "rater_folders": rater_folders,
    "rater_suffixes": rater_suffixes,
}
OF_ONE_FILE = ("npz", "coco")  # the others are folders


def read_layout(source: Path, layout: str = "auto") -> tuple[str, list[FoundCase]]:
    """The name of the layout and its cases, those without any mask left out.

    Raises:
        DatasetLayoutError: there is no such layout there, no case has a mask, or as the readers.
    """
    if not source.exists():
        raise DatasetLayoutError(f"{source} does not exist.")
    names = list(LAYOUT_READERS) if layout == "auto" else [layout]
    if source.is_file():
        names = [name for name in names if name in OF_ONE_FILE]
    for name in names:
        if (cases := LAYOUT_READERS[name](source)) is not None:
            marked = [case for case in cases if case.masks]
            if not marked:
                raise DatasetLayoutError(f"no picture in {source}, read as {name}, has a mask.")
            return name, marked
    tried = "any of the known layouts" if layout == "auto" else layout
    raise DatasetLayoutError(f"{source} is not in {tried}: docs/layouts.md shows what each looks like.")
