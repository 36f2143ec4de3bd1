"""Work that is killed at every change it makes to its files: nothing finished is lost, and the same command ends it."""

from __future__ import annotations

import os
import random
import shutil
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from bundle_runs import rows
from killing import changes, forked, killed_before, killed_in_mid_write
from matplotlib.figure import Figure
from monai.handlers import ValidationHandler
from PIL import Image
from torch import Tensor, nn
from upscaling_toys import Blurring, upscaler

from monai_ext.commands.comparison.compare import ComparisonBusyError
from monai_ext.commands.comparison.report import report
from monai_ext.data import DeviceDataset
from monai_ext.engines import BatchEvaluator, BatchTrainer
from monai_ext.handlers import (
    BestCheckpoint,
    EpochTable,
    FinalCheckpoint,
    MeanSegmentationScores,
    ResumeHandler,
    load_checkpoint,
)
from monai_ext.raster.partial_rows import PartialRows
from monai_ext.upscaling import Choices, upscale_file
from tests.bundles.test_lesion_unet import phantoms, train  # noqa: F401  (phantoms is a fixture)
from tests.commands.comparison.test_compare import go, impatient, place, times, wait_for  # noqa: F401  (two are fixtures)
from tests.commands.comparison.test_report import write_comparison
from tests.handlers.training.test_checkpoints import CPU, DrawnBatches

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forks of this process")

EPOCHS = 3


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """Where the processes that are killed leave their output."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def shown(folder: Path) -> dict[str, Path]:
    """Files under a final name."""
    return {path.name: path for path in folder.iterdir() if not path.name.startswith(".")} if folder.exists() else {}


# -------------------------------------------------------------------------------------------------------- training


def train_tiny(folder: Path) -> None:
    """A run of three epochs with all that a bundle's run saves, started as a comparison starts it: to be resumed."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.3), nn.Conv2d(4, 1, 1))
    optimizer = torch.optim.Adam(network.parameters(), 0.05)
    evaluator = BatchEvaluator(
        CPU,
        DrawnBatches(),
        network,
        key_val_metric={"val_mean_dice": MeanSegmentationScores()},
        val_handlers=[BestCheckpoint(network, folder / "model.pt")],
    )
    parts = {"network": network, "optimizer": optimizer}
    handlers = [
        ValidationHandler(1, evaluator),
        EpochTable(folder / "epochs.csv", optimizer=optimizer, evaluator=evaluator),
        ResumeHandler(folder / "last.pt", parts, evaluator=evaluator, resume=True),
        FinalCheckpoint(network, folder / "final.pt"),
    ]
    loss = nn.BCEWithLogitsLoss()
    BatchTrainer(CPU, EPOCHS, DrawnBatches(), network, optimizer, loss, train_handlers=handlers).run()


def result(folder: Path) -> dict[str, object]:
    """What a finished run left, without times; all files, hidden ones as well."""
    table = [{key: text for key, text in row.items() if key != "seconds"} for row in rows(folder / "epochs.csv")]
    weights = {name: load_checkpoint(folder / name) for name in ("model.pt", "final.pt")}
    return {"names": sorted(path.name for path in folder.iterdir()), "table": table, **weights}


def assert_equal_results(one: dict, other: dict) -> None:
    assert one["names"] == other["names"] and one["table"] == other["table"]
    for name in ("model.pt", "final.pt"):
        for key, value in other[name].items():
            assert torch.equal(value, one[name][key]), (name, key)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("whole")
    train_tiny(folder)
    return result(folder)


def epoch_kept(folder: Path) -> int:
    """The epoch that a run would go on from; every checkpoint under a final name must be whole."""
    epochs = [0]
    for name, path in shown(folder).items():
        if path.suffix == ".pt":
            epochs.append(load_checkpoint(path).get("epoch", 0))
        elif name == "epochs.csv":
            assert all(None not in row and None not in row.values() for row in rows(path))
    return max(epochs)


def test_a_run_killed_before_every_other_change_of_a_file_ends_as_if_it_had_not_been(tmp_path, scratch, whole):
    moments = changes(partial(train_tiny, tmp_path / "counted"), tmp_path / "counted", scratch)
    assert len(moments) >= 40 and sum("rename last.pt" in each or "rename .last" in each for each in moments) == EPOCHS
    for number in range(0, len(moments), 2):
        folder = tmp_path / f"killed{number}"
        assert killed_before(number, partial(train_tiny, folder), folder, scratch)
        saved = sum(each.startswith("os.rename .last-") for each in moments[:number])
        assert epoch_kept(folder) == saved, moments[number]
        assert forked(partial(train_tiny, folder), scratch) == 0, (scratch / "child.log").read_text()
        assert_equal_results(result(folder), whole)


def test_a_run_killed_in_the_middle_of_writing_a_file_ends_as_if_it_had_not_been(tmp_path, scratch, whole):
    killed = 0
    for most in (64, 700, 1500, 3000, 5000, 8000):
        folder = tmp_path / f"most{most}"
        killed += killed_in_mid_write(most, partial(train_tiny, folder), scratch)
        epoch_kept(folder)
        assert forked(partial(train_tiny, folder), scratch) == 0, (scratch / "child.log").read_text()
        assert_equal_results(result(folder), whole)
    assert killed >= 4


def test_a_run_killed_again_and_again_ends_as_if_it_had_not_been(tmp_path, scratch, whole):
    rng, folder, kills = random.Random(0), tmp_path / "run", 0
    while killed_before(rng.randrange(3, 25), partial(train_tiny, folder), folder, scratch):
        kills += 1
        assert kills < 50
    assert kills >= 3
    assert_equal_results(result(folder), whole)


def test_a_bundle_run_killed_at_random_times_ends_as_if_it_had_not_been(phantoms, tmp_path, scratch, monkeypatch):  # noqa: F811
    monkeypatch.setenv("MONAI_EXT_CACHE", str(tmp_path / "cache"))
    run = partial(train, data=phantoms, max_epochs=4, resume="true")
    start = time.perf_counter()
    assert forked(lambda: run(tmp_path / "whole"), scratch) == 0, (scratch / "child.log").read_text()
    seconds, rng = time.perf_counter() - start, random.Random(1)
    kills = [
        forked(lambda: run(tmp_path / "run"), scratch, after_s=seconds * rng.uniform(0.15, 0.45)) for _ in range(3)
    ]
    assert sum(status < 0 for status in kills) >= 2
    assert forked(lambda: run(tmp_path / "run"), scratch) == 0, (scratch / "child.log").read_text()
    for name in ("model.pt", "final.pt"):
        expected, given = (load_checkpoint(tmp_path / folder / name) for folder in ("whole", "run"))
        assert all(torch.equal(value, given[key]) for key, value in expected.items()), name
    assert shown(tmp_path / "run").keys() - {"run.log"} == shown(tmp_path / "whole").keys() - {"run.log"}
    assert not list((tmp_path / "run").glob(".*"))


# ----------------------------------------------------------------------------------------------------------- cache


class Draw:
    """Stands for a decoder: 4096 bytes for each item."""

    def __call__(self, item: dict) -> dict:
        return {"image": torch.full((1, 64, 64), item["level"], dtype=torch.uint8)}


def start_with_cache(folder: Path) -> Tensor:
    items = [{"id": str(level), "level": level} for level in range(8)]
    return DeviceDataset(items, Draw(), cache_dir=folder, num_workers=0).batch(range(8))["image"]


def assert_next_start_is_right(folder: Path) -> None:
    assert start_with_cache(folder)[:, 0, 5, 5].tolist() == list(range(8))
    (file,) = folder.iterdir()
    before = file.stat()
    assert start_with_cache(folder)[7].unique().tolist() == [7]
    assert file.stat().st_mtime_ns == before.st_mtime_ns and file.stat().st_ino == before.st_ino  # nothing was redone


def test_a_cache_file_whose_writer_was_killed_is_made_anew(tmp_path, scratch):
    moments = changes(partial(start_with_cache, tmp_path / "counted"), tmp_path / "counted", scratch)
    assert len(moments) >= 4
    for number in range(len(moments)):
        folder = tmp_path / f"killed{number}"
        assert killed_before(number, partial(start_with_cache, folder), folder, scratch)
        assert_next_start_is_right(folder)
    for most in (10, 2000, 20_000):
        folder = tmp_path / f"most{most}"
        assert killed_in_mid_write(most, partial(start_with_cache, folder), scratch)
        assert not shown(folder)
        assert_next_start_is_right(folder)


# ---------------------------------------------------------------------------------------------------------- report


@pytest.fixture
def plain_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures with nothing but a word in them: to draw whole ones takes most of a report's time."""

    def plain(*_: object, **__: object) -> Figure:
        figure = Figure(figsize=(3, 3))
        figure.text(0.1, 0.5, "figure", fontsize=40)
        return figure

    for name in ("dice_figure", "case_figure", "curve_figure", "pair_figure"):
        monkeypatch.setattr(f"monai_ext.commands.comparison.report.{name}", plain)


def test_a_report_whose_writer_was_killed_is_completed_by_the_same_command(tmp_path, scratch, plain_figures):
    out = write_comparison(tmp_path)
    report(out, tmp_path / "whole")
    expected = {name: path.read_bytes() for name, path in shown(tmp_path / "whole").items()}
    moments = changes(lambda: report(out, tmp_path / "counted"), tmp_path / "counted", scratch)
    assert len(moments) >= 4 * len(expected)
    folder = tmp_path / "report"
    for number in sorted(random.Random(2).sample(range(len(moments)), 7)):
        killed_before(number, lambda: report(out, folder), folder, scratch)  # or done before: less is left to change
        for name, path in shown(folder).items():
            assert path.read_bytes() == expected[name], (name, moments[number])
    assert killed_in_mid_write(2000, lambda: report(out, folder), scratch)
    report(out, folder)
    assert {name: path.read_bytes() for name, path in shown(folder).items()} == expected
    assert not list(folder.glob(".*"))


# ------------------------------------------------------------------------------------------------------ comparison


def test_a_killed_comparison_repeats_nothing_that_was_finished(place, tmp_path, scratch):  # noqa: F811
    def started(folder: Path) -> None:
        assert go(folder, losses=("bce",)) == []

    def new_place(name: str) -> Path:
        return shutil.copytree(place / "bundle", tmp_path / name / "bundle").parent

    counted = new_place("counted")
    moments = changes(lambda: started(counted), counted / "out", scratch)
    assert len(moments) >= 30
    for number in sorted(random.Random(3).sample(range(len(moments)), 9)):
        folder = new_place(f"killed{number}")
        killed_before(number, lambda folder=folder: started(folder), folder / "out", scratch)
        finished = {path.parent.name for path in (folder / "out").glob("*/*/finished.json")}
        for path in (folder / "out").glob("*/*/[a-z]*.json"):
            assert path.read_text().endswith(("}", "1")), path  # whole
        wait_for(lambda folder=folder: not is_busy(folder), seconds=60)  # a run that outlived its comparison
        for stage in ("train", "evaluate"):
            counts = times(folder, stage)
            assert set(counts) == {"bce/fold0_seed0", "bce/fold1_seed0"}, moments[number]
            assert all(counts[f"bce/{name}"] == 1 for name in finished) and max(counts.values()) <= 2
        assert len(list((folder / "out").glob("*/*/finished.json"))) == 2
        assert not [path for path in (folder / "out").rglob(".*") if path.name != ".compare.lock"]


def is_busy(folder: Path) -> bool:
    """Go on with the comparison, unless a run of the killed one still works."""
    try:
        assert go(folder, losses=("bce",)) == []
    except ComparisonBusyError:
        return True
    return False


# --------------------------------------------------------------------------------------------------------- upscale


def test_a_killed_upscaling_leaves_the_old_image_and_ends_with_the_same_new_one(tmp_path, scratch):
    noise = np.random.default_rng(0).integers(0, 256, (60, 12), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")

    def upscale_it(folder: Path) -> None:
        upscale_file(tmp_path / "a.png", folder / "b.png", upscaler=upscaler(Blurring()), choices=Choices(resume=True))

    upscale_it(tmp_path / "whole")
    expected = (tmp_path / "whole" / "b.png").read_bytes()
    moments = changes(lambda: upscale_it(tmp_path / "counted"), tmp_path / "counted", scratch)
    assert len(moments) >= 15
    kills = [partial(killed_before, number, folder=tmp_path / f"{number}") for number in range(len(moments))]
    folders = [tmp_path / f"{number}" for number in range(len(moments))] + [tmp_path / "middle"]
    kills.append(lambda action, scratch: killed_in_mid_write(900, action, scratch))
    for folder, kill in zip(folders, kills, strict=True):
        folder.mkdir()
        (folder / "b.png").write_bytes(b"precious")
        kill(action=partial(upscale_it, folder), scratch=scratch)
        assert (folder / "b.png").read_bytes() in (b"precious", expected)
        if (folder / "b.png").read_bytes() == expected:  # killed between the image and the end of its strips
            PartialRows.forget(folder / "b.png")
        upscale_it(folder)
        assert (folder / "b.png").read_bytes() == expected
        assert [path.name for path in folder.iterdir()] == ["b.png"]
