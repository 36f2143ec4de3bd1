"""Contact sheet of a one-LR-many-HR data set: a row for each record, and where its targets differ."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from monai_ext.data.many_hr.dataset import DecodeManyHighResd, many_hr_items
from monai_ext.data.many_hr.format import KINDS, read_records, read_targets

__all__ = ["contact_sheet"]

CAPTION, GAP = 14, 4  # pixels
SPREAD_LEVELS = 32  # standard deviation that is shown white


def contact_sheet(folder: str | Path, records: Sequence[str] | int = 6) -> Image.Image:
    """Low resolution | every target, with its kind and LR-PSNR | standard deviation over the exact targets.

    Args:
        folder: of the data set.
        records: names of records, or how many, spread evenly over the data set.

    Raises:
        ValueError: an unknown record, or none at all.
    """
    items = {item["id"]: item for item in many_hr_items(folder, kinds=KINDS)}
    if isinstance(records, int):
        if records < 1:
            raise ValueError(f"records={records}: choose at least one.")
        places = np.linspace(0, len(items) - 1, min(records, len(items))).round().astype(int)
        records = [list(items)[place] for place in places]
    unknown = [name for name in records if name not in items]
    if unknown:
        raise ValueError(
            f"record {unknown[0]} is not in {folder}: its {len(items)} records begin at {next(iter(items))}."
        )
    lines = {(line.record, line.row): line for line in read_targets(Path(folder))}
    sources = {line.record: line for line in read_records(Path(folder))}
    decode = DecodeManyHighResd()
    rows = []
    for name in records:
        item, decoded = items[name], decode(items[name])
        pixels = {key: value for key, value in decoded.items() if isinstance(value, Tensor)}
        targets = [lines[name, row] for row in item["label_rows"]]
        captions = [f"{line.kind} {line.lr_psnr:.1f} dB" for line in targets]
        exact = pixels["label"][: sources[name].targets].float()
        spread = exact.std(0, correction=0).mean(0, keepdim=True) * (255 / SPREAD_LEVELS)
        scale = pixels["label"].shape[-1] // pixels["image"].shape[-1]
        low_res = pixels["image"].repeat_interleave(scale, 1).repeat_interleave(scale, 2)
        pictures = [low_res, *pixels["label"], spread.clamp(0, 255).byte()]
        titles = [f"{name} {sources[name].tile_id}", *captions, f"spread, white = {SPREAD_LEVELS} levels"]
        rows.append([(title, _picture(picture)) for title, picture in zip(titles, pictures, strict=True)])
    return _laid_out(rows)


def _picture(pixels: Tensor) -> Image.Image:
    """Three bands in colour, else the first one in grey."""
    bands = pixels if pixels.shape[0] == 3 else pixels[:1].expand(3, -1, -1)
    return Image.fromarray(bands.permute(1, 2, 0).contiguous().numpy())


def _laid_out(rows: Sequence[Sequence[tuple[str, Image.Image]]]) -> Image.Image:
    side = rows[0][0][1].width
    columns = max(map(len, rows))
    size = columns * (side + GAP) - GAP, len(rows) * (side + CAPTION + GAP) - GAP
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for number, row in enumerate(rows):
        top = number * (side + CAPTION + GAP)
        for column, (title, picture) in enumerate(row):
            left = column * (side + GAP)
            if column == len(row) - 1:
                left = (columns - 1) * (side + GAP)  # the spread comes last in every row
            sheet.paste(picture, (left, top + CAPTION))
            draw.text((left + 1, top + 1), title[: max(1, side // 6)], fill="black")
    return sheet
