"""A one-LR-many-HR data set as items for PyTorch and MONAI: records with all their targets, or a pair for each."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from monai.data import Dataset
from monai.transforms import Compose, Transform
from torch import Tensor

from monai_ext.data.many_hr.format import (
    KINDS,
    WAY_OUT,
    ManyHrError,
    TargetLine,
    read_index,
    read_records,
    read_targets,
    shard_files,
)
from monai_ext.runtime.errors import one_line
from monai_ext.storage.array_files import read_array

__all__ = ["DecodeManyHighResd", "ManyHighResDataset", "many_hr_items", "many_hr_pairs"]

PARTS = {"train": "training", "validation": "validation", "test": "test"}  # name in the files -> name here
OPEN_FILES = 64  # mapped into memory at a time


def many_hr_items(
    folder: str | os.PathLike,
    *,
    part: str | None = None,
    kinds: Sequence[str] | None = None,
    targets: int | None = None,
    min_lr_psnr: float | None = None,
) -> list[dict]:
    """Items of the records: {"id", "place", "part", "image": file, "label": file, "image_row", "label_rows", "kinds"}.

    `DecodeManyHighResd` reads their pixels. Records of which no target is left are left out.

    Args:
        folder: of the data set.
        part: "training", "validation" or "test"; None: all. Whole places, as the build has split them.
        kinds: provenance classes of the targets; None: all that agree exactly, which are those other than "capture".
        targets: how many of each record, the first ones; records with fewer are left out. None: all.
        min_lr_psnr: in dB; targets that agree less are left out.

    Raises:
        ManyHrError: no data set lies there, or nothing is left of it.
        ValueError: an unknown part or kind.
    """
    folder = Path(folder)
    if part is not None and part not in PARTS.values():
        raise ValueError(f"part={part!r} is unknown: choose from {', '.join(PARTS.values())}, or None.")
    wanted = set(KINDS) - {"capture"} if kinds is None else set(kinds)
    if wanted - set(KINDS):
        raise ValueError(f"kind {', '.join(sorted(wanted - set(KINDS)))} is unknown: choose from {', '.join(KINDS)}.")
    read_index(folder)
    chosen: dict[str, list[TargetLine]] = {}
    for line in read_targets(folder):
        if line.kind in wanted and (min_lr_psnr is None or line.lr_psnr >= min_lr_psnr):
            chosen.setdefault(line.record, []).append(line)
    items = []
    for record in read_records(folder):
        own = PARTS.get(record.part, record.part)
        lines = chosen.get(record.record, [])[:targets]
        if lines and (part is None or own == part) and (targets is None or len(lines) == targets):
            names = shard_files(record.shard)
            items.append(
                {
                    "id": record.record,
                    "place": record.place,
                    "part": own,
                    "image": str(folder / names["low_res"]),
                    "label": str(folder / names["high_res"]),
                    "image_row": record.low_res_row,
                    "label_rows": [line.row for line in lines],
                    "kinds": [line.kind for line in lines],
                }
            )
    if not items:
        raise ManyHrError(
            f"no record of {folder} is left with part={part}, kinds={kinds}, targets={targets}, "
            f"min_lr_psnr={min_lr_psnr}: relax these choices."
        )
    return items


def many_hr_pairs(folder: str | os.PathLike, **filters) -> list[dict]:
    """Items of pairs, one for each target: as `many_hr_items`, with "label_rows" one number and the id RECORD_ROW.

    Args:
        folder, filters: as for `many_hr_items`.
    """
    return [
        {**item, "id": f"{item['id']}_{row}", "label_rows": row, "kinds": kind}
        for item in many_hr_items(folder, **filters)
        for row, kind in zip(item["label_rows"], item["kinds"], strict=True)
    ]


class DecodeManyHighResd(Transform):
    """From an item to its pixels: {"id", "image": (C, h, w), "label": (K, C, H, W)}, uint8.

    The label of a pair is (C, H, W). Deterministic and compact: made for `DeviceDataset`. Files are mapped into
    memory, not read whole.

    Raises (when called):
        ManyHrError: a file is missing or damaged.
    """

    def __call__(self, data: Mapping) -> dict[str, str | Tensor]:
        return {
            "id": str(data["id"]),
            "image": _rows(data["image"], data["image_row"]),
            "label": _rows(data["label"], data["label_rows"]),
        }


class ManyHighResDataset(Dataset):
    """Records of a one-LR-many-HR data set: {"id", "image": (C, h, w), "label": (K, C, H, W)}, uint8.

    K differs between records where captures or a filter make it so; choose a fixed number by `targets`, or for one
    record a batch.

    Args:
        folder: of the data set.
        transform: called with each item, such as `ToUnitRanged(["image", "label"])`.
        filters: as for `many_hr_items`.

    Attributes:
        data: the items, see `many_hr_items`.
    """

    def __init__(self, folder: str | os.PathLike, *, transform: Callable | None = None, **filters):
        steps: list[Callable] = [DecodeManyHighResd()] if transform is None else [DecodeManyHighResd(), transform]
        super().__init__(many_hr_items(folder, **filters), Compose(steps))


@lru_cache(maxsize=OPEN_FILES)
def _mapped(path: str, _size: int, _time: int) -> np.ndarray:
    pixels = read_array(path, mapped=True, error=ManyHrError, way_out=WAY_OUT)
    if pixels.dtype != np.uint8 or pixels.ndim != 4:
        raise ManyHrError(f"{path} is damaged (it holds no 8-bit images): {WAY_OUT}.")
    return pixels


def _rows(path: str, rows: int | Sequence[int]) -> Tensor:
    try:
        status = os.stat(path)
        pixels = _mapped(path, status.st_size, status.st_mtime_ns)
        return torch.from_numpy(np.array(pixels[rows]))
    except FileNotFoundError as error:
        raise ManyHrError(f"{path} is missing: copy the whole data set, or build it again.") from error
    except IndexError as error:
        raise ManyHrError(f"{path} is damaged ({one_line(error)}): {WAY_OUT}.") from None
