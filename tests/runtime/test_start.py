"""The first step of a bundle's run."""

from __future__ import annotations

import json

import pytest
from processes import REPOSITORY

from monai_ext.runtime.run_folders import LAST_CHECKPOINT
from monai_ext.runtime.start import start_run

BUNDLES = REPOSITORY / "bundles"


@pytest.mark.parametrize(
    "path",
    [path for path in BUNDLES.glob("*/configs/*.json") if '"run":' in path.read_text(encoding="utf-8")],
    ids=lambda path: f"{path.parents[1].name}/{path.name}",
)
def test_every_bundle_run_keeps_its_log_in_its_output_folder(path):
    first = json.loads(path.read_text(encoding="utf-8"))["run"][0]
    assert first["_target_"] == "monai_ext.runtime.start.start_run" and first["output_dir"] == "@output_dir"


@pytest.mark.parametrize("name", ["train.json", "demo.json"])
@pytest.mark.parametrize("bundle", [path.parents[1].name for path in BUNDLES.glob("*/configs/train.json")])
def test_every_training_says_at_once_whether_it_resumes(bundle, name):
    first = json.loads((BUNDLES / bundle / "configs" / name).read_text(encoding="utf-8"))["run"][0]
    assert first["resume"] == "@resume"


def test_a_second_training_in_a_folder_is_refused_at_its_start(tmp_path):
    (tmp_path / LAST_CHECKPOINT).touch()
    with pytest.raises(FileExistsError, match="already holds a run.*--resume true.*--output_dir"):
        start_run(tmp_path, resume="false")
    for no_second_training in (True, "true", None):
        start_run(tmp_path, resume=no_second_training)


def test_weights_in_the_output_folder_are_no_run(tmp_path):
    (tmp_path / "model.pt").touch()
    start_run(tmp_path, resume=False)
