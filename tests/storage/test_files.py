"""Files are written whole or not at all, under the name that was given, and leftovers go."""

from __future__ import annotations

import os
import signal

import pytest
from killing import forked
from odd_names import ODD_NAMES

from monai_ext.storage.files import atomic_path, inside, remove_leftovers, scratch_path, write_table, write_text


def killed_writing(path, scratch, writer=atomic_path) -> None:
    def die() -> None:
        with writer(path) as temporary:
            temporary.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)

    assert forked(die, scratch) == -signal.SIGKILL


def test_leftovers_of_the_dead_go_and_those_of_the_living_stay(tmp_path, scratch):
    with atomic_path(tmp_path / "table.csv") as temporary:
        killed_writing(tmp_path / "table.csv", scratch)
        assert len(list(tmp_path.glob(".table-*.part.csv"))) == 2
        temporary.write_text("new")
        remove_leftovers(tmp_path, "other")
        assert len(list(tmp_path.glob(".table-*.part.csv"))) == 2
        remove_leftovers(tmp_path, "table")
        assert list(tmp_path.glob(".table-*.part.csv")) == [temporary]
    assert (tmp_path / "table.csv").read_text() == "new"


@pytest.mark.parametrize("writer", [atomic_path, scratch_path])
def test_whoever_writes_into_a_folder_next_removes_what_was_left_there(tmp_path, scratch, writer):
    killed_writing(tmp_path / "a.png", scratch, writer)
    killed_writing(tmp_path / "long" / "b.tif", scratch, writer)
    (tmp_path / ".mine.part").write_text("of somebody else")
    write_text(tmp_path / "c.txt", "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mine.part", "c.txt", "long", "scratch"]
    with scratch_path(tmp_path / "long" / "d.rows") as rows:
        assert [path.name for path in (tmp_path / "long").iterdir()] == [rows.name]
    assert list((tmp_path / "long").iterdir()) == []


def test_a_link_at_the_place_of_an_output_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "elsewhere.txt").write_text("precious")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.txt").symlink_to(tmp_path / "elsewhere.txt")
    write_text(tmp_path / "out" / "a.txt", "new")
    assert (tmp_path / "elsewhere.txt").read_text() == "precious"
    assert (tmp_path / "out" / "a.txt").read_text() == "new" and not (tmp_path / "out" / "a.txt").is_symlink()


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_name_that_stays_inside_is_taken_as_it_is(tmp_path, name):
    assert inside(tmp_path, name) == tmp_path / name
    with atomic_path(tmp_path / f"{name}.txt") as temporary:
        temporary.write_text("x")
    assert [path.name for path in tmp_path.iterdir()] == [f"{name}.txt"]


def test_a_table_has_the_columns_of_all_rows_and_leaves_unknown_cells_empty(tmp_path):
    rows = [{"id": "a,b", "dice": 0.5}, {"id": "c", "dice": float("nan"), "cases": 3}]
    write_table(tmp_path / "t.csv", rows, digits=".3f")
    assert (tmp_path / "t.csv").read_text() == 'id,dice,cases\n"a,b",0.500,\nc,,3\n'
    write_table(tmp_path / "t.csv", [], ["id", "dice"])
    assert (tmp_path / "t.csv").read_text() == "id,dice\n"
