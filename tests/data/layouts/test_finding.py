"""Every layout is known by itself, and refused by name where it is not there."""

from __future__ import annotations

from pathlib import Path

import pytest
from layout_trees import TREES

from monai_ext.data import DatasetLayoutError
from monai_ext.data.layouts import LAYOUT_READERS, read_layout


@pytest.mark.parametrize("layout", TREES)
def test_a_layout_is_found_and_only_its_own_reader_takes_it(layout, tmp_path):
    TREES[layout](tmp_path / "set")
    assert read_layout(tmp_path / "set")[0] == layout
    takers = [name for name, reader in LAYOUT_READERS.items() if reader(tmp_path / "set") is not None]
    assert takers == [layout]


def test_all_layouts_are_tried_and_documented():
    assert LAYOUT_READERS.keys() == TREES.keys()
    page = (Path(__file__).parents[3] / "docs/layouts.md").read_text(encoding="utf-8")
    assert not [name for name in LAYOUT_READERS if f"`{name}`" not in page]


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(DatasetLayoutError, match="is not in any of the known layouts"):
        read_layout(tmp_path)
    with pytest.raises(DatasetLayoutError, match="is not in ph2"):
        read_layout(tmp_path, "ph2")
    with pytest.raises(DatasetLayoutError, match="none does not exist"):
        read_layout(tmp_path / "none")


@pytest.mark.parametrize(("layout", "file"), [("npz", "train.npz"), ("coco", "annotations.json")])
def test_one_file_is_a_data_set_where_the_layout_has_one(layout, file, tmp_path):
    TREES[layout](tmp_path / "set")
    assert read_layout(tmp_path / "set" / file)[0] == layout
    with pytest.raises(DatasetLayoutError, match="is not in ph2"):
        read_layout(tmp_path / "set" / file, "ph2")
