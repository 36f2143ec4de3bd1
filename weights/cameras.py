"""Kinds of camera of the images of ISIC 2017, as a table to leave each out of a training.

    python -m weights.cameras ISIC2017 OUTPUT/cameras.csv

ISIC 2017 does not name cameras: its images fall into four groups by id and size of the original. Sizes are the columns
native_width and native_height of `ISIC2017/manifest.csv` where there is such a file, as beside copies in another size;
else those of the images. OUTPUT has the columns id and camera, for `--group OUTPUT/cameras.csv:camera --folds 4`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from monai_ext.data import lesion_items
from monai_ext.storage.files import table_rows, write_table

__all__ = ["camera", "main"]

LOW, HIGH = 1000, 14558  # ids
PLAIN_SIZE = (1024, 768)


def main(source: str, output: str) -> None:
    """Write the table of all images of `source`."""
    rows = [{"id": name, "camera": camera(name, size)} for name, size in _sizes(Path(source))]
    write_table(Path(output), rows, ["id", "camera"])
    counts = {group: sum(row["camera"] == group for row in rows) for group in sorted({row["camera"] for row in rows})}
    print(", ".join(f"{group} {count}" for group, count in counts.items()))


def camera(name: str, size: tuple[int, int]) -> str:
    """The group of an image such as ISIC_0012345 of (width, height) pixels.

    >>> camera("ISIC_0000012", (1024, 768)), camera("ISIC_0012345", (1024, 768)), camera("ISIC_0012345", (4288, 2848))
    ('low_ids', '1024x768', 'large')
    """
    number = int(name.removeprefix("ISIC_"))
    if number < LOW:
        return "low_ids"
    if number >= HIGH:
        return "high_ids"
    return "1024x768" if size == PLAIN_SIZE else "large"


def _sizes(source: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    manifest = source / "manifest.csv"
    if manifest.is_file():
        for _, row in table_rows(manifest, needed=("image_id", "native_width", "native_height")):
            yield row["image_id"], (int(row["native_width"]), int(row["native_height"]))
        return
    for item in lesion_items(source):
        with Image.open(item["image"]) as image:
            yield item["id"], image.size


if __name__ == "__main__":
    main(*sys.argv[1:])
