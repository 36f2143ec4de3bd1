"""Folders of many empty files, and what lists them.

    python tests/fuzz/many_files.py --count 100000

prints how long the listings take (CPU time of this process, the files being in the system's cache) and the memory.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from monai_ext.data.isic import image_items, lesion_items
from monai_ext.data.raters.images import rater_image_items
from monai_ext.data.raters.qubiq import qubiq_items
from monai_ext.data.tiles.listing import tile_items

Listing = Callable[[], list]


def touched(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


def photographs(folder: Path, count: int) -> Listing:
    for part in ("images", "masks"):
        touched(folder / part, [f"{number}.png" for number in range(count)])
    return lambda: [*lesion_items(folder), *image_items(folder / "images")][count:]


def tiles(folder: Path, count: int) -> Listing:
    for row in range(7):
        touched(folder / f"{row}", [f"{number}.jpg" for number in range(row, count, 7)])
    return lambda: tile_items(folder)


def pictures_of_raters(folder: Path, count: int) -> Listing:
    touched(folder, [f"{number}.jpg" for number in range(count)])
    return lambda: rater_image_items(folder)


def cases(folder: Path, count: int) -> Listing:
    for number in range(count):
        touched(folder / "Training" / f"case{number}", ["image.nii.gz", "task01_seg01.nii.gz", "task01_seg02.nii.gz"])
    return lambda: qubiq_items(folder)


EVERY = (photographs, tiles, pictures_of_raters, cases)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000, help="pictures, tiles or cases (100000)")
    count = parser.parse_args().count
    with tempfile.TemporaryDirectory() as folder:
        for make in EVERY:
            listing = make(Path(folder) / make.__name__, count)
            before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
            assert len(listing()) == count
            seconds, grown = time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            sys.stdout.write(f"{make.__name__}: {count:,} in {seconds:.1f} s, {max(0, grown) >> 10} MiB more\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
