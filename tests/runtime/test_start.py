"""The first step of a bundle's run."""

from __future__ import annotations

import json

import pytest
from processes import REPOSITORY

BUNDLES = REPOSITORY / "bundles"


@pytest.mark.parametrize(
    "path",
    [path for path in BUNDLES.glob("*/configs/*.json") if '"run":' in path.read_text(encoding="utf-8")],
    ids=lambda path: f"{path.parents[1].name}/{path.name}",
)
def test_every_bundle_run_keeps_its_log_in_its_output_folder(path):
    first = json.loads(path.read_text(encoding="utf-8"))["run"][0]
    assert first["_target_"] == "monai_ext.runtime.start.start_run" and first["output_dir"] == "@output_dir"
