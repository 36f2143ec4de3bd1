"""Fixtures of this folder."""

from __future__ import annotations

import pytest
from many_hr import write_tiles


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    return write_tiles(tmp_path_factory.mktemp("tiles"))
