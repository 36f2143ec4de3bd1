"""Phantoms of one kind share a folder."""

from __future__ import annotations

import pytest

from monai_ext.phantoms.folder import claim_folder


def test_a_folder_takes_phantoms_of_its_settings_only(tmp_path):
    assert claim_folder(tmp_path / "a", {"seed": 1}, count=2) == claim_folder(tmp_path / "a", {"seed": 1}, count=9)
    with pytest.raises(ValueError, match=r'holds phantoms of \{"seed": 1\}, not of \{"seed": 2\}: choose another'):
        claim_folder(tmp_path / "a", {"seed": 2}, count=2)
    with pytest.raises(ValueError, match="count is 0"):
        claim_folder(tmp_path / "b", {}, count=0)
