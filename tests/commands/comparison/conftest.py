"""Fixtures of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from fabricated_comparison import write_comparison

from monai_ext.commands.comparison import report as module


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return write_comparison(tmp_path)


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch) -> list:
    """Figures are collected instead of drawn, which takes most of a report's time."""
    figures = []

    def keep(figure, path: Path) -> Path:
        figures.append(figure)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return path

    monkeypatch.setattr(module, "save_figure", keep)
    return figures
