"""Tiles of several sources joined by place."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image

from monai_ext.data import split_by_place, tile_items
from weights.tiles import HELD_OUT, OTHER_PARTS, PLACES, main, places_of_parts


def save(path, *, seed: int = 0, blank: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (16, 16, 3)).astype(np.uint8)
    pixels[: 8 if blank == "half" else 16 if blank else 0] = 0
    Image.fromarray(pixels).save(path)


def test_sources_are_joined_without_lossy_copies_and_blank_tiles(tmp_path, capsys):
    output = tmp_path / "out"
    tmp_path = tmp_path / "in"
    save(tmp_path / "a" / "one.jpg", seed=1)
    save(tmp_path / "a" / "two.jpg", seed=2)
    save(tmp_path / "b" / "tiles" / "three.png", seed=3)
    save(tmp_path / "b" / "tiles" / "black.png", blank=True)
    save(tmp_path / "b" / "tiles" / "half.png", blank="half")
    (tmp_path / "a_manifest.csv").write_text('file,place,gsd\na/one.jpg,"Bern, x",1\na/two.jpg,"HARV (NEON)",1\n')
    rows = ["tiles/three.png,NEON HARV,the pixels behind a/two.jpg", "tiles/black.png,Chico,", "tiles/half.png,Chico,"]
    (tmp_path / "b" / "manifest.csv").write_text("file,place,processing\n" + "\n".join(rows) + "\n")
    (tmp_path / "other_manifest.csv").write_text("file,licence\nx,y\n")  # no tiles
    for _ in range(2):  # again, as an interrupted recipe does
        main(str(tmp_path), str(output))
    assert "2 tiles of 2 places; left out: {'lossy copies': 1, 'blank': 1, 'no data': 1}" in capsys.readouterr().out
    with (output / "manifest.csv").open() as table:
        assert [list(row.values()) for row in csv.DictReader(table)] == [
            ["one.jpg", "bern", "town"], ["three.png", "neon_harv", "forest"]
        ]  # fmt: skip
    items = tile_items(output)
    parts = split_by_place(items, test_places=["neon_harv"])
    assert [item["id"] for item in parts["test"]] == ["three"]
    with pytest.raises(FileNotFoundError, match="no NAME_manifest.csv"):
        main(str(tmp_path / "a"), str(output))


def test_eight_places_of_twenty_are_held_out():
    assert len(PLACES) == 20 and len(HELD_OUT) == 8 and {"nairobi", "goias"} <= set(HELD_OUT)
    others = [places_of_parts(*parts) for parts in OTHER_PARTS]
    assert sorted([*HELD_OUT, *others[0], *others[1]]) == sorted(place for place, _, _ in PLACES.values())
    assert set(others[1]) == {"bern", "riverside", "neon_sjer", "luzon"}
