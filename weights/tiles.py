"""Aerial tiles of several sources in one folder, as links, with one manifest of places and kinds.

    python -m weights.tiles SOURCE OUTPUT

SOURCE has folders of tiles, `NAME/` with `NAME/manifest.csv` or `NAME_manifest.csv` beside it, whose columns are file,
place, and, where there are such, processing. Tiles that `processing` of another row names as its lossy copy, and tiles
without data, are left out.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from monai_ext.data import read_tile
from monai_ext.storage.files import inside, make_folder, table_rows, write_table

__all__ = ["HELD_OUT", "OTHER_PARTS", "PLACES", "main", "places_of_parts"]

# text in the manifests' place -> place, kind, part of the five that were left out in turn
PLACES = {
    "Zanzibar": ("zanzibar", "town", 1), "OSBS": ("neon_osbs", "forest", 1), "Claremont": ("claremont", "town", 1),
    "BLAN": ("neon_blan", "fields", 1), "Nairobi": ("nairobi", "town", 2), "HARV": ("neon_harv", "forest", 2),
    "Palm Springs": ("palm_springs", "desert", 2), "Banepa": ("banepa", "town", 3),
    "Santa Monica": ("santa_monica", "coast", 3), "SOAP": ("neon_soap", "forest", 3),
    "ABBY": ("neon_abby", "forest", 3), "Bern": ("bern", "town", 4), "Riverside": ("riverside", "town", 4),
    "SJER": ("neon_sjer", "forest", 4), "Luzon": ("luzon", "town", 4), "North Dakota": ("north_dakota", "fields", 5),
    "Brighton": ("brighton", "coast", 5), "Long Beach": ("long_beach", "town", 5), "Chico": ("chico", "town", 5),
    "Goias": ("goias", "fields", 5),
}  # fmt: skip


def places_of_parts(*parts: int) -> tuple[str, ...]:
    """The places of some of the five parts, in the order of `PLACES`."""
    return tuple(place for place, _, part in PLACES.values() if part in parts)


HELD_OUT = places_of_parts(2, 5)  # of the card's scores, which served to choose the recipe
OTHER_PARTS = ((1, 3), (4,))  # held out of a training each, and of no choice
COPY = re.compile(r"\S+/\S+\.jpg")  # a lossy copy that a row's `processing` names
BLANK_SD, EXTREME, FLAT = 6.0, 0.2, 0.2


def main(source: str, output: str) -> None:
    """Link the tiles below `source` into `output`/, write its manifest.csv last, and print what was left out."""
    folder = make_folder(output)
    rows = [row for manifest in _manifests(Path(source)) for row in _rows(manifest)]
    copies = {match[0] for _, row in rows if "pixels behind" in row.get("processing", "")
              for match in COPY.finditer(row["processing"])}  # fmt: skip
    kept, left = [], Counter[str]()
    for file, row in rows:
        own = (row["place"], "other", 0)  # a place that the card's weights did not see
        place, kind, _ = next((notes for text, notes in PLACES.items() if text in row["place"]), own)
        reason = "lossy copies" if row["file"] in copies else _fault(file)
        if reason:
            left[reason] += 1
            continue
        link = folder / file.name
        if not link.exists():
            link.symlink_to(file.resolve())
        kept.append({"file": file.name, "place": place, "kind": kind})
    write_table(folder / "manifest.csv", kept, ["file", "place", "kind"])
    print(f"{len(kept)} tiles of {len({row['place'] for row in kept})} places; left out: {dict(left) or 'none'}")


def _manifests(source: Path) -> list[Path]:
    found = sorted([*source.glob("*_manifest.csv"), *source.glob("*/manifest.csv")])
    if not found:
        raise FileNotFoundError(f"no NAME_manifest.csv and no NAME/manifest.csv in {source}: name the folder of tiles.")
    return [path for path in found if any("place" in row for _, row in table_rows(path))]


def _rows(manifest: Path) -> list[tuple[Path, dict[str, str]]]:
    return [(inside(manifest.parent, row["file"]), row) for _, row in table_rows(manifest, needed=("file", "place"))]


def _fault(file: Path) -> str:
    pixels = read_tile(file, bands=(1, 2, 3)).numpy().astype(int)
    if pixels.std() < BLANK_SD:
        return "blank"
    flat = (np.abs(np.diff(pixels, axis=1)).sum(0) == 0).mean()
    extreme = max((pixels.max(0) == 0).mean(), (pixels.min(0) == 255).mean())
    return "no data" if extreme > EXTREME and flat > FLAT else ""


if __name__ == "__main__":
    main(*sys.argv[1:])
