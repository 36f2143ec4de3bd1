"""Fixtures of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from uncertainty_runs import reported_run


@pytest.fixture(scope="module")
def reported(tmp_path_factory) -> Path:
    return reported_run(tmp_path_factory.mktemp("run") / "uncertainty")
