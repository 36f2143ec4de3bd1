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
from fabricated_comparison import write_comparison
from fake_bundle import go, times, wait_for
from killing import changes, forked, killed_before, killed_in_mid_write
from lesion_runs import train
from PIL import Image
from tiny_training import EPOCHS, assert_equal_results, epoch_kept, result, shown, start_with_cache, train_tiny
from upscaling_toys import Blurring, upscaler

from monai_ext.commands.comparison.compare import ComparisonBusyError
from monai_ext.commands.comparison.report import report
from monai_ext.handlers import (
    load_checkpoint,
)
from monai_ext.raster.partial_rows import PartialRows
from monai_ext.upscaling import Choices, upscale_file

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forks of this process"),
    pytest.mark.usefixtures("impatient"),
]

# -------------------------------------------------------------------------------------------------------- training


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


def test_a_bundle_run_killed_at_random_times_ends_as_if_it_had_not_been(
    lesion_phantoms, tmp_path, scratch, monkeypatch
):
    monkeypatch.setenv("MONAI_EXT_CACHE", str(tmp_path / "cache"))
    run = partial(train, data=lesion_phantoms, max_epochs=4, resume="true")
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


def test_a_killed_comparison_repeats_nothing_that_was_finished(place, tmp_path, scratch):
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
            assert path.read_text().rstrip().endswith(("}", "1")), path  # whole
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
