"""Options on data sets of several raters: in the same order everywhere, and handed on to the listing of cases."""

from __future__ import annotations

from dataclasses import fields

import pytest
from scored_folders import A, B, write_case

from monai_ext.commands.agreement.agreement import AgreementOptions
from monai_ext.commands.agreement.consensus import ConsensusOptions
from monai_ext.commands.scoring.rater_choice import RaterChoice
from monai_ext.commands.scoring.score import ScoreOptions

CHOICE = [field.name for field in fields(RaterChoice)]


@pytest.mark.parametrize(
    ("kind", "folders"),
    [
        (AgreementOptions, ["data", "output_dir"]),
        (ConsensusOptions, ["data", "output_dir"]),
        (ScoreOptions, ["predictions", "targets", "output_dir"]),
    ],
)
def test_folders_are_listed_before_what_is_read_of_them(kind, folders):
    names = [field.name for field in fields(kind)]
    assert names[: len(folders) + len(CHOICE)] == folders + CHOICE


def test_every_option_chooses(tmp_path):
    write_case(tmp_path / "kidney" / "Training" / "case01", {1: A, 2: B, 3: A})
    write_case(tmp_path / "kidney" / "Training" / "case01", {1: A}, task=2)
    write_case(tmp_path / "kidney" / "Validation" / "case02", {1: A})
    everything = RaterChoice(region="kidney", part="Training").items(tmp_path)
    assert {task: len(items) for task, items in everything.items()} == {1: 1, 2: 1}
    chosen = RaterChoice(region="kidney", part="Training", tasks=(1,), raters=(1, 3), labels=(1,)).items(tmp_path)
    (item,) = chosen[1]
    assert list(chosen) == [1] and list(item["raters"]) == [1, 3] and item["label_values"]
