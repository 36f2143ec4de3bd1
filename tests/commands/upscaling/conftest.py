"""A bundle with a small network, for tests of commands."""

from __future__ import annotations

from pathlib import Path

import pytest
from upscaling_toys import repeating_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return repeating_bundle(tmp_path / "bundle")
