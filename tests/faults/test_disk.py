"""No room, no right to write, a dying worker: one sentence, nothing lost, and the same command goes on."""

from __future__ import annotations

import errno
import os
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_runs import sentence_of
from fabricated_comparison import write_comparison
from fake_bundle import fake_commands, go, times
from killing import without_room
from lesion_runs import train
from PIL import Image
from tiny_training import assert_equal_results, result, start_with_cache, train_tiny
from upscaling_toys import Blurring, upscaler

from monai_ext.commands.comparison.compare import Plan, compare
from monai_ext.commands.comparison.report import report
from monai_ext.data.raters.writer import RaterWriter
from monai_ext.handlers import load_checkpoint
from monai_ext.storage import files
from monai_ext.storage.files import WriteError, write_text
from monai_ext.upscaling import Choices, upscale_file

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="works with forks of this process"),
    pytest.mark.usefixtures("impatient"),
]


# --------------------------------------------------------------------------------------------------------- no room


def test_a_disk_that_is_full_stops_a_run_with_a_sentence_and_room_lets_it_end(tmp_path, scratch, whole):
    sentences = set()
    for most in (100, 2000, 6000):
        folder = tmp_path / f"{most}"
        sentence = without_room(most, partial(train_tiny, folder), scratch)
        assert sentence is not None and str(folder) in sentence and "room" in sentence
        assert not list(folder.glob(".*"))
        sentences.add(sentence.split("(")[0].replace(str(folder), ""))
        train_tiny(folder)
        assert_equal_results(result(folder), whole)
    assert len(sentences) >= 2  # tables and checkpoints


def test_a_checkpoint_for_which_there_is_no_room_leaves_those_before_it(tmp_path, scratch, monkeypatch):
    replaced, replace = [], os.replace

    def full(source, target) -> None:
        replaced.append(Path(target).name)
        if replaced.count("last.pt") == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    with monkeypatch.context() as patched, pytest.raises(WriteError, match="no room for .*last.pt.*same command again"):
        patched.setattr(os, "replace", full)
        train_tiny(tmp_path)
    assert load_checkpoint(tmp_path / "last.pt")["epoch"] == 2
    assert load_checkpoint(tmp_path / "last.previous.pt")["epoch"] in (1, 2)


@pytest.mark.parametrize("name", ["table.csv", "checkpoint.pt"])
def test_what_was_there_before_a_full_disk_is_there_after_it(tmp_path, scratch, name):
    path = tmp_path / "folder" / name
    write_text(path, "old")
    sentence = without_room(1000, lambda: write_text(path, "n" * 5000), scratch)
    assert sentence.startswith(f"there is no room for '{path}' (File too large): make room on the disk")
    assert path.read_text() == "old" and list(path.parent.iterdir()) == [path]


def test_a_cache_without_room_costs_a_warning_only(tmp_path, scratch):
    def start() -> None:
        assert start_with_cache(tmp_path / "cache")[:, 0, 0, 0].tolist() == list(range(8))

    assert without_room(2000, start, scratch) is None
    assert "cannot be kept" in (scratch / "child.log").read_text()
    assert not list((tmp_path / "cache").iterdir())


def test_a_report_without_room_is_said_and_completed_later(tmp_path, scratch, plain_figures):
    out = write_comparison(tmp_path)
    sentence = without_room(2000, lambda: report(out, tmp_path / "report"), scratch)
    assert sentence.startswith(f"there is no room for '{tmp_path / 'report'}")
    assert not list((tmp_path / "report").glob(".*"))
    assert report(out, tmp_path / "report").read_text().endswith("</html>\n")


def test_an_upscaling_without_room_keeps_its_strips(tmp_path, scratch):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 12), dtype=np.uint8)).save(tmp_path / "a.png")
    target, choices = tmp_path / "out" / "b.png", Choices(resume=True)
    network = Blurring()
    upscale_it = partial(upscale_file, tmp_path / "a.png", target, choices=choices)
    sentence = without_room(2000, lambda: upscale_it(upscaler=upscaler(Blurring())), scratch)
    assert str(target) in sentence and "room" in sentence and not target.exists()
    upscale_it(upscaler=upscaler(network))
    assert network.windows == 1 + 2  # of four strips, two had found room
    upscale_file(tmp_path / "a.png", tmp_path / "whole.png", upscaler=upscaler(Blurring()))
    assert [path.name for path in target.parent.iterdir()] == ["b.png"]
    np.testing.assert_array_equal(Image.open(target), Image.open(tmp_path / "whole.png"))


def test_a_comparison_without_room_stops_and_goes_on_later(place, scratch):
    sentence = without_room(300, lambda: go(place, losses=("bce",)), scratch)
    assert "no room for" in sentence
    assert go(place, losses=("bce",)) == []


# ----------------------------------------------------------------------------------------------- no right to write


def tasks_that_write(tmp_path: Path) -> dict[str, object]:
    """Name -> work that writes into the folder it is given."""
    Image.new("L", (12, 8)).save(tmp_path / "a.png")
    nib.save(nib.Nifti1Image(np.zeros((4, 4), np.uint8), np.eye(4)), tmp_path / "image.nii.gz")
    item = {"id": "a", "case": "a", "task": 1, "image": str(tmp_path / "image.nii.gz"), "raters": [1]}
    (tmp_path / "runs").mkdir()
    return {
        "training": train_tiny,
        "text": lambda folder: write_text(folder / "a.txt", "text"),
        "upscale": lambda folder: upscale_file(tmp_path / "a.png", folder / "b.png", upscaler=upscaler(Blurring())),
        "masks": lambda folder: RaterWriter(folder).write_masks(item, torch.zeros(1, 4, 4)),
        "report": partial(report, write_comparison(tmp_path / "runs")),
    }


@pytest.mark.parametrize("name", ["training", "text", "upscale", "masks", "report"])
def test_a_folder_that_cannot_be_is_named(tmp_path, name):
    work = tasks_that_write(tmp_path)[name]
    in_the_way = tmp_path / "file"
    in_the_way.write_text("no folder")
    sentence = sentence_of(lambda: work(in_the_way / "out"))
    assert str(in_the_way) in sentence and "cannot be written" in sentence and "choose" in sentence
    assert in_the_way.read_text() == "no folder"


@pytest.mark.skipif(os.name == "posix" and os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("name", ["training", "text", "upscale", "masks", "report"])
def test_a_folder_without_the_right_to_write_is_named(tmp_path, name):
    work, folder = tasks_that_write(tmp_path)[name], tmp_path / "locked"
    folder.mkdir(mode=0o555)
    assert str(folder) in sentence_of(lambda: work(folder))


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_read_only_file_system_is_named(tmp_path, monkeypatch, number):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.tempfile, "mkstemp", refuse)
    with pytest.raises(WriteError, match=f"a.txt' cannot be written .{os.strerror(number)}.: choose a folder"):
        write_text(tmp_path / "a.txt", "text")


def test_a_bundle_run_that_cannot_write_says_so(lesion_phantoms, tmp_path):
    (tmp_path / "file").write_text("no folder")
    sentence = sentence_of(lambda: train(tmp_path / "file" / "run", lesion_phantoms))
    assert str(tmp_path / "file") in sentence


def test_a_comparison_that_cannot_write_says_so(place):
    (place / "out").write_text("no folder")
    assert f"'{place / 'out'}' cannot be written" in sentence_of(lambda: go(place))


# --------------------------------------------------------------------------------------------------- a dying worker


def test_a_dying_worker_fails_alone_and_is_repeated_by_the_same_command(place):
    dying = place / "bundle" / "control" / "die"
    dying.touch()
    code = f"import os; os.path.exists({str(dying)!r}) and os.kill(os.getpid(), 9)"

    def commands(plan: Plan, loss: str, fold: int, seed: int, folder: Path) -> tuple[tuple[str, ...], ...]:
        train_command, evaluate = fake_commands(plan, loss, fold, seed, folder)
        killed = (sys.executable, "-S", "-c", code)
        return (killed, train_command, evaluate) if loss == "dice" and fold == 0 else (train_command, evaluate)

    plan = Plan(place / "bundle", place / "data", place / "out", ("bce", "dice"), 2)
    start = partial(compare, plan, jobs=2, make_commands=commands, list_ids=lambda _: ["a", "b"])
    (failed,) = start()
    assert failed.run.name == "dice/fold0_seed0" and failed.error == "ended by SIGKILL (often: out of memory)"
    assert Counter(times(place, "evaluate").values()) == {1: 3}
    dying.unlink()
    assert start() == []
    assert Counter(times(place, "evaluate").values()) == {1: 4}  # the finished ones were not repeated
    assert not list((place / "out").glob("*/*/run.pid"))


def test_damaged_progress_of_a_run_repeats_it(place):
    (place / "bundle/control/fail_evaluate_bce").touch()
    go(place, losses=("bce",))
    for content, path in zip(("[[", "7"), sorted((place / "out").glob("*/*/completed.json")), strict=True):
        path.write_text(content)
    (place / "bundle/control/fail_evaluate_bce").unlink()
    assert go(place, losses=("bce",)) == []
    assert set(times(place, "train").values()) == {2}
