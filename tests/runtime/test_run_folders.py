"""Output folders that hold a run already."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_ext.runtime.run_folders import LAST_CHECKPOINT, previous_checkpoint, refuse_earlier_run


def test_the_checkpoint_before_the_last_lies_beside_it():
    assert previous_checkpoint(Path("runs/a") / LAST_CHECKPOINT) == Path("runs/a/last.previous.pt")


@pytest.mark.parametrize("name", [LAST_CHECKPOINT, "last.previous.pt"])
def test_a_folder_with_either_checkpoint_holds_a_run(tmp_path, name):
    refuse_earlier_run(tmp_path / LAST_CHECKPOINT)
    (tmp_path / name).touch()
    with pytest.raises(FileExistsError, match=f"'{tmp_path}' already holds a run: .*--resume true.*--output_dir"):
        refuse_earlier_run(tmp_path / LAST_CHECKPOINT)
