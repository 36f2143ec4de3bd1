"""Folders listed in one pass."""

from __future__ import annotations

import pytest

from monai_ext.storage.folders import files_below, files_in, folders_in


@pytest.fixture
def folder(tmp_path):
    for name in ("b", "a", "__MACOSX", ".git"):
        (tmp_path / name).mkdir()
    for name in ("2.png", "1.png", ".hidden", "a/3.png", ".git/config"):
        (tmp_path / name).touch()
    (tmp_path / "lost").symlink_to(tmp_path / "nowhere")
    (tmp_path / "again").symlink_to(tmp_path / "a")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    return tmp_path


def test_files_and_folders_come_by_name_without_hidden_ones(folder):
    assert [path.name for path in files_in(folder)] == ["1.png", "2.png", "circle", "lost"]
    assert [path.name for path in folders_in(folder)] == ["a", "again", "b"]


def test_files_below_follow_no_link_and_leave_out_what_leads_nowhere(folder):
    found = sorted(path.relative_to(folder).as_posix() for path in files_below(folder))
    assert found == ["1.png", "2.png", "a/3.png"]


def test_a_folder_that_is_not_there_is_an_error(folder):
    for listed in (files_in, folders_in, lambda path: list(files_below(path))):
        with pytest.raises(OSError):
            listed(folder / "nowhere")
