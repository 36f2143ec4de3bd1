"""Fixtures that tests of several rooms use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from fake_bundle import make_place
from many_hr import build, write_tiles
from matplotlib.figure import Figure
from tiny_training import result, train_tiny
from uncertainty_runs import reported_run

from monai_ext.data import write_lesion_phantoms

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets, from the environment variable MONAI_EXT_DATA; tests skip without."""
    folder = os.environ.get("MONAI_EXT_DATA")
    if not folder:
        pytest.skip("needs real data: set MONAI_EXT_DATA to the folder that holds isic/images and isic/masks")
    return Path(folder)


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """Where the processes that are killed leave their output."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def whole(tmp_path_factory) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("whole")
    train_tiny(folder)
    return result(folder)


@pytest.fixture
def plain_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures with nothing but a word in them: to draw whole ones takes most of a report's time."""

    def plain(*_: object, **__: object) -> Figure:
        figure = Figure(figsize=(3, 3))
        figure.text(0.1, 0.5, "figure", fontsize=40)
        return figure

    for name in ("dice_figure", "case_figure", "curve_figure", "pair_figure"):
        monkeypatch.setattr(f"monai_ext.commands.comparison.report.{name}", plain)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return make_place(tmp_path)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Comparisons that look after their runs often."""
    monkeypatch.setattr("monai_ext.commands.comparison.runs.POLL_S", 0.002)


@pytest.fixture(scope="session")
def lesion_phantoms(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    write_lesion_phantoms(folder, count=18, size=(48, 64))
    return folder


@pytest.fixture(scope="module")
def tiles(tmp_path_factory) -> Path:
    """Aerial tiles to build a one-LR-many-HR set from."""
    return write_tiles(tmp_path_factory.mktemp("tiles"))


@pytest.fixture(scope="module")
def built(tiles: Path, tmp_path_factory) -> Path:
    """A one-LR-many-HR set built from `tiles`."""
    folder = tmp_path_factory.mktemp("built") / "set"
    build(tiles, folder)
    return folder


@pytest.fixture(scope="module")
def reported(tmp_path_factory) -> Path:
    """A folder with the report of an evaluation of uncertainty."""
    return reported_run(tmp_path_factory.mktemp("run") / "uncertainty")
