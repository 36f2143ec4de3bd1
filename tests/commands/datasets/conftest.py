"""Fixtures of this folder."""

from __future__ import annotations

import pytest
from many_hr import build, write_tiles


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    return write_tiles(tmp_path_factory.mktemp("tiles"))


@pytest.fixture(scope="module")
def built(tiles, tmp_path_factory):
    folder = tmp_path_factory.mktemp("built") / "set"
    build(tiles, folder)
    return folder
