"""Fixtures of this folder."""

from __future__ import annotations

import pytest
from scored_folders import A, B, write_case


@pytest.fixture
def folders(tmp_path):
    """Truth of one case by raters A and B, and where its predictions go: (truth, predictions, the case's)."""
    write_case(tmp_path / "truth" / "Training" / "case01", {1: A, 2: B})
    return tmp_path / "truth", tmp_path / "predicted", tmp_path / "predicted" / "case01"
