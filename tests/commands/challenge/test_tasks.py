"""The tasks of a challenge's folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from challenge import SIZE, write_region

from monai_ext.commands.challenge.tasks import ChallengeTask, find_tasks
from monai_ext.data import DatasetLayoutError

PARTS = ("testing", "training", "validation")


def test_raters_channels_volumes_and_marked_validation_parts_are_found(tmp_path: Path) -> None:
    write_region(tmp_path / "brain-tumor", tasks=2, channels=4)
    write_region(tmp_path / "kidney", validated=False)
    write_region(tmp_path / "pancreas", raters=2, shape=(*SIZE, 3))
    write_region(tmp_path / "prostate", raters=4, shape=(*SIZE, 1), missing=(9, 4))
    (tmp_path / "papers").mkdir()
    assert find_tasks(tmp_path) == [
        ChallengeTask("brain-tumor", 1, (1, 2, 3), 4, 2, False, PARTS, True),
        ChallengeTask("brain-tumor", 2, (1, 2, 3), 4, 2, False, PARTS, True),
        ChallengeTask("kidney", 1, (1, 2, 3), 1, None, False, PARTS, False),
        ChallengeTask("pancreas", 1, (1, 2), 1, None, True, PARTS, True),
        ChallengeTask("prostate", 1, (1, 2, 3, 4), 1, None, False, PARTS, True),
    ]
    assert [task.name for task in find_tasks(tmp_path, ["kidney"])] == ["kidney/task01"]
    assert [task.name for task in find_tasks(tmp_path / "kidney")] == ["task01"]  # parts of one region


def test_a_case_without_any_mask_leaves_the_validation_part_unused(tmp_path: Path) -> None:
    write_region(tmp_path / "kidney", raters=2)
    for path in sorted((tmp_path / "kidney" / "Validation").iterdir())[0].glob("task01*"):
        path.unlink()
    assert [task.validation for task in find_tasks(tmp_path)] == [False]


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetLayoutError, match="absent is no folder"):
        find_tasks(tmp_path / "absent")
    with pytest.raises(DatasetLayoutError, match="no region in .* has a training part; expected is <region>/Training"):
        find_tasks(tmp_path)
    write_region(tmp_path / "kidney")
    with pytest.raises(DatasetLayoutError, match="has no region 'liver' with a training part, only: kidney"):
        find_tasks(tmp_path, ["liver"])
