"""A disk that is truly full, a small one in memory: one sentence, nothing finished is lost, and with room the same
command ends. It shows what a limit on the size of files does not: writes of which the disk takes a part, and writers
that say nothing of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from fabricated_comparison import write_comparison
from killing import SmallDisk, on_small_disk, sentence_or_none
from many_hr import SETTINGS, build, contents, write_tiles
from tiny_training import assert_equal_results, epoch_kept, result, shown, start_with_cache, train_tiny
from upscaling_toys import Blurring, needs_rasterio, noise, read, save_picture, save_raster, upscaler

from monai_ext.commands.comparison.report import report
from monai_ext.raster import gdal_write as raster_gdal_write
from monai_ext.raster import pillow as raster_pillow
from monai_ext.raster.info import RasterInfo
from monai_ext.storage.files import atomic_path, write_text
from monai_ext.upscaling import Choices, upscale_file

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="works with forks of this process")

AMPLE = 32 << 10  # KiB
AFRESH = "MONAI_EXT_TESTED_AFRESH"


@pytest.fixture
def on_disk(tmp_path, scratch) -> Callable[..., None]:
    """Do something in a process in which tmp_path / "disk" is a small disk."""
    return lambda action, *, kib: on_small_disk(action, tmp_path / "disk", kib=kib, scratch=scratch)


def done_afresh(request: pytest.FixtureRequest) -> bool:
    """The test done by a pytest of its own on one core: GDAL's threads, of which it then has none, survive no fork."""
    if AFRESH in os.environ:
        return False
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")} | {AFRESH: "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", request.node.nodeid]
    core = {min(os.sched_getaffinity(0))}
    done = subprocess.run(
        command,
        cwd=request.config.rootpath,
        env=environment,
        capture_output=True,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, core),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return True


def assert_no_room(sentence: str | None, path: Path) -> None:
    """`sentence` says that there was no room for `path`, or for something in it, and what to do."""
    assert sentence is not None and f"no room for '{path}" in sentence and "No space left on device" in sentence
    assert "give the same command again" in sentence and "\n" not in sentence


def hidden(disk: SmallDisk) -> set[str]:
    """Files that are not under a final name."""
    return {name for name in disk.names() if Path(name).name.startswith(".")}


# -------------------------------------------------------------------------------------------------------- commands


def test_a_training_keeps_its_checkpoints_and_ends_as_if_there_had_been_room(on_disk, whole):
    def train(disk: SmallDisk) -> None:
        folder, stopped_at, kept = disk.folder / "run", set(), set()
        for kib in range(4, 96, 4):  # each time the same command goes on with a page of memory more
            disk.resize(kib)
            sentence = sentence_or_none(partial(train_tiny, folder))
            if sentence is None:
                break
            assert_no_room(sentence, folder)
            assert not hidden(disk)
            stopped_at.add(sentence.split("'")[1].rpartition("/")[2])
            kept.add(epoch_kept(folder))
        assert {0, 1} <= kept <= {0, 1, 2}  # the third epoch needs hardly more than the second
        assert stopped_at == {"model.pt", "epochs.csv", "last.pt"}
        disk.resize(AMPLE)
        train_tiny(folder)
        assert_equal_results(result(folder), whole)

    on_disk(train, kib=4)


def test_a_cache_of_decoded_images_costs_a_warning_and_is_kept_later(on_disk, scratch):
    def start(disk: SmallDisk) -> None:
        for kib in (4, 16, 32):
            disk.resize(kib)
            assert start_with_cache(disk.folder / "cache")[:, 0, 0, 0].tolist() == list(range(8))
            assert disk.names() == set()
        disk.resize(AMPLE)
        assert start_with_cache(disk.folder / "cache")[:, 0, 5, 5].tolist() == list(range(8))
        (name,) = disk.names()
        assert name.endswith(".safetensors")

    on_disk(start, kib=4)
    assert (scratch / "child.log").read_text().count("cannot be kept in") == 3


@pytest.mark.parametrize(
    "suffix",
    [".png", ".jpg", pytest.param(".tif", marks=needs_rasterio), pytest.param(".cog.tif", marks=needs_rasterio)],
)
def test_an_upscaling_keeps_its_strips_and_no_half_of_an_image(on_disk, tmp_path, suffix, request):
    if suffix.endswith(".tif") and done_afresh(request):
        return
    source = save_raster if suffix.endswith(".tif") else save_picture
    source = source(tmp_path / f"a{suffix}", noise(1, 96, 40))
    choices = Choices(resume=True, cog=suffix == ".cog.tif")
    upscale_file(source, tmp_path / f"whole{suffix}", upscaler=upscaler(Blurring()), choices=choices)
    windows = Blurring()
    upscale_file(source, tmp_path / f"other{suffix}", upscaler=upscaler(windows), choices=choices)

    def upscale_it(disk: SmallDisk) -> None:
        target, network = disk.folder / f"b{suffix}", Blurring()
        write_text(target, "precious")
        again = partial(upscale_file, source, target, upscaler=upscaler(network), choices=choices)

        def filled_at(strip: int, done: int, count: int) -> None:
            if done == (strip if strip >= 0 else count + 1 + strip):
                disk.fill()

        assert f"{target} needs 15 KiB for its rows" in sentence_or_none(again)
        disk.resize(AMPLE)
        for strip, told in ((2, disk.folder), (-1, target)):  # in the midst; when only the image is left to write
            assert_no_room(sentence_or_none(partial(again, progress=partial(filled_at, strip))), told)
            assert target.read_text() == "precious"
            assert hidden(disk) == {f".b{suffix}.partial", f".b{suffix}.partial.json"}
            (disk.folder / "ballast").unlink()
        again()
        assert network.windows < 1.5 * windows.windows
        assert disk.names() == {target.name}
        np.testing.assert_array_equal(read(target), read(tmp_path / f"whole{suffix}"))

    on_disk(upscale_it, kib=12)


def test_a_report_is_completed_later(on_disk, tmp_path, plain_figures):
    out = write_comparison(tmp_path)
    report(out, tmp_path / "whole")
    expected = {name: path.read_bytes() for name, path in shown(tmp_path / "whole").items()}

    def write(disk: SmallDisk) -> None:
        folder = disk.folder / "report"
        for kib in (4, 12, 40):
            disk.resize(kib)
            assert_no_room(sentence_or_none(lambda: report(out, folder)), folder)
            assert not hidden(disk)
            assert all(path.read_bytes() == expected[name] for name, path in shown(folder).items())
        disk.resize(AMPLE)
        report(out, folder)
        assert {name: path.read_bytes() for name, path in shown(folder).items()} == expected

    on_disk(write, kib=4)


def test_a_build_of_many_targets_keeps_its_shards(on_disk, tmp_path):
    tiles = write_tiles(tmp_path / "tiles")
    settings = replace(SETTINGS, patches=60, shard_records=1, targets=2)
    make = partial(build, tiles, records=4, settings=settings)
    make(tmp_path / "whole")

    def write(disk: SmallDisk) -> None:
        folder, kept = disk.folder / "set", {}
        for kib in (4, 20, 80, 140, 164):
            disk.resize(kib)
            assert_no_room(sentence_or_none(partial(make, folder)), folder)
            assert not hidden(disk) and not (folder / "index.json").exists()
            times = {path.name: path.stat().st_mtime_ns for path in folder.glob("shards/*.json")}
            assert kept.items() <= times.items()
            kept = times
        assert len(kept) == 4
        disk.resize(AMPLE)
        make(folder)
        assert contents(folder) == contents(tmp_path / "whole")

    on_disk(write, kib=4)


# --------------------------------------------------------------------------------------------------------- writers


def raster_writer(folder: Path, write: Callable, suffix: str, **options: object) -> tuple[str, Callable[[Path], None]]:
    pixels = noise(3, 128, 160)
    np.ascontiguousarray(pixels.transpose(1, 0, 2)).tofile(folder / "rows")
    info = RasterInfo(folder / "a.tif", (128, 160), 3, np.dtype(np.uint8), nodata=(None,) * 3)
    return suffix, lambda path: write(path, folder / "rows", info, scale=1, fingerprint="f", **options)


WRITERS = {
    "JPEG": lambda folder: raster_writer(folder, raster_pillow.write, ".jpg"),
    "PNG": lambda folder: raster_writer(folder, raster_pillow.write, ".png"),
    "TIFF": lambda folder: raster_writer(folder, raster_pillow.write, ".tif"),
    "GeoTIFF": lambda folder: raster_writer(folder, raster_gdal_write.write, ".tif", cog=False),
    "COG": lambda folder: raster_writer(folder, raster_gdal_write.write, ".tif", cog=True),
    "NPY": lambda folder: (".npy", lambda path: np.save(path, noise(60_000))),
    "NPZ": lambda folder: (".npz", lambda path: np.savez(path, noise(60_000))),
    "raw": lambda folder: (".raw", lambda path: noise(60_000).tofile(path)),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=needs_rasterio if n in ("GeoTIFF", "COG") else ()) for n in WRITERS]
)
def test_whatever_a_writer_leaves_out_on_a_full_disk_is_noticed(on_disk, tmp_path, name, request):
    if name in ("GeoTIFF", "COG") and done_afresh(request):
        return
    suffix, write = WRITERS[name](tmp_path)
    write(tmp_path / f"whole{suffix}")
    expected = (tmp_path / f"whole{suffix}").read_bytes()

    def on(disk: SmallDisk) -> None:
        target, number = disk.folder / f"a{suffix}", 0

        def save() -> None:
            with atomic_path(target) as temporary:
                write(temporary)

        for kib in range(4, AMPLE, 8):
            disk.resize(kib)
            sentence = sentence_or_none(save)
            if sentence is None:
                break
            assert_no_room(sentence, target)
            assert disk.names() == set()
            number += 1
        assert target.read_bytes() == expected and number >= len(expected) // (8 << 10)

    on_disk(on, kib=4)
