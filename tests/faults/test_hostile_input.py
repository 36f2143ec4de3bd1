"""Files that are damaged, lie about themselves or have odd names: a clear error or the right result, never more."""

from __future__ import annotations

import gzip
import json
import os
import resource
import shutil
import struct
import time
import zlib
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from fabricated_comparison import write_comparison
from fuzz_readers import fuzz
from many_files import EVERY, cases
from odd_names import ODD_NAMES
from PIL import Image

from monai_ext.commands.comparison.figures import case_figure
from monai_ext.commands.comparison.report import report
from monai_ext.commands.comparison.results import ResultsError, read_results
from monai_ext.data.isic import DatasetLayoutError, image_items, lesion_items
from monai_ext.data.raters.qubiq import qubiq_items
from monai_ext.data.raters.writer import RaterWriter
from monai_ext.data.tiles.images import read_tile
from monai_ext.data.tiles.listing import tile_items
from monai_ext.handlers import EpochTable, PredictionWriter, RaterPredictionWriter, StageCheckpoints, UpscaledWriter
from monai_ext.raster import gdal as raster_gdal
from monai_ext.raster.images import ImageFileError, image_size, read_image
from monai_ext.raster.masks import read_mask
from monai_ext.raster.nifti import open_nifti, read_nifti
from monai_ext.raster.opening import open_raster
from monai_ext.runtime.errors import explain
from monai_ext.storage.files import inside, table_rows, write_text
from monai_ext.storage.records import read_record

MANY = 4_000


def test_mutated_files_of_every_kind_raise_errors_of_one_sentence_only(tmp_path):
    counts, faults = fuzz(300, 7, tmp_path)
    assert not faults, [(fault.number, fault.target, fault.reason) for fault in faults[:5]]
    refused = sum(number for name, number in counts.items() if name.endswith("refused"))
    assert refused > 120  # the mutations do something


@pytest.mark.parametrize(
    "content", [b"", b"\0", b"\0" * 4096, b"<html>404</html>"], ids=["empty", "nul", "nuls", "html"]
)
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".nii", ".nii.gz"])
def test_files_that_hold_something_else_are_named(tmp_path, suffix, content):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    readers = [read_nifti, open_nifti] if "nii" in suffix else [read_image, read_mask, image_size, read_tile]
    for read in readers:
        with pytest.raises(ImageFileError) as caught:
            read(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


# ---------------------------------------------------------------------------------------------------------- bombs


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of(width: int, height: int, *, text: bytes = b"") -> bytes:
    """A PNG of one bit whose few bytes promise so many pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    rows = zlib.compress(bytes(10_000_000), 9)
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + (chunk(b"zTXt", text) if text else b"")
        + chunk(b"IDAT", rows)
        + chunk(b"IEND", b"")
    )


def nifti_of(shape: tuple[int, ...], *, voxels: bytes = b"") -> bytes:
    header = nib.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header["dim"][: len(shape) + 1] = (len(shape), *shape)
    header["vox_offset"] = 352
    header["magic"] = b"n+1"
    return header.binaryblock + bytes(4) + voxels


def packed_text() -> bytes:
    return b"a\0\0" + zlib.compress(bytes(80_000_000), 9)


BOMBS = {
    "pixels.png": (lambda: png_of(60_000, 60_000), (read_image, read_mask, open_raster, read_tile)),
    "text.png": (lambda: png_of(8, 8, text=packed_text()), (read_image, read_mask)),
    "voxels.nii": (lambda: nifti_of((30_000, 30_000, 3_000)), (open_nifti, read_nifti)),
    "voxels.nii.gz": (lambda: gzip.compress(nifti_of((30_000, 30_000, 3_000))), (open_nifti, read_nifti)),
    "zeros.nii.gz": (lambda: gzip.compress(nifti_of((32_767, 32_767, 4), voxels=bytes(2**22))), (read_nifti,)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_few_bytes_that_promise_gigabytes_are_refused_in_little_memory_and_time(tmp_path, name):
    make, readers = BOMBS[name]
    path = tmp_path / name
    path.write_bytes(make())
    assert path.stat().st_size < 2**20
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    for read in readers:
        with pytest.raises(ImageFileError, match=name):
            read(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 * 1024  # KiB
    assert time.perf_counter() - start < 10


@pytest.mark.skipif(not raster_gdal.available(), reason="needs rasterio")
def test_a_sparse_geotiff_of_many_gigabytes_is_opened_by_rows_and_no_tile(tmp_path):
    import rasterio

    shape = {"driver": "GTiff", "height": 100_000, "width": 100_000, "count": 3, "dtype": "uint8"}
    with rasterio.open(tmp_path / "huge.tif", "w", sparse_ok=True, tiled=True, bigtiff="yes", **shape):
        pass
    assert open_raster(tmp_path / "huge.tif").rows(0, 2).shape == (3, 2, 100_000)
    with pytest.raises(ImageFileError, match=r"huge.tif takes 27.9 GiB of memory"):
        read_tile(tmp_path / "huge.tif")


def test_a_volume_that_does_not_fit_into_the_free_memory_is_refused(tmp_path, monkeypatch):
    nib.save(nib.Nifti1Image(np.zeros((200, 200, 30), np.uint8), np.eye(4)), tmp_path / "a.nii.gz")
    monkeypatch.setattr("monai_ext.raster.nifti.READ_UNCHECKED", 2**20)
    monkeypatch.setattr("monai_ext.raster.nifti.free_memory", lambda device: 2**22)
    with pytest.raises(ImageFileError, match=r"a.nii.gz takes 9 MiB of memory, of which 4 MiB are free"):
        read_nifti(tmp_path / "a.nii.gz")
    assert read_nifti(tmp_path / "a.nii.gz", slice_index=3).shape == (200, 200)


def test_json_and_tables_that_would_exhaust_the_reader_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    for content in (b"[" * 100_000, b'{"a": 1' + b"0" * 10_000 + b"}", b"\xed\xa0\x80", b"", b"nul"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="a.json is damaged"):
            read_record(path, object)
    monkeypatch.setattr("monai_ext.storage.records.LARGEST_FILE", 2**20)
    path.write_text(" " * 2**21)
    with pytest.raises(ValueError, match="larger than 1 MiB"):
        read_record(path, object)
    (tmp_path / "a.csv").write_text("id,x\n" + "y" * 10**6)
    with pytest.raises(ValueError, match=r"a.csv is damaged .field larger than field limit"):
        list(table_rows(tmp_path / "a.csv"))


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ("plan.json", "folds", 10**9),
        ("plan.json", "losses", [{}]),
        ("plan.json", "seeds", ["0"]),
        ("bce/fold0_seed0/finished.json", "fold", 10**9),
        ("bce/fold0_seed0/finished.json", "loss", "../../../etc"),
    ],
)
def test_records_that_would_fill_the_memory_or_name_other_folders_are_refused(tmp_path, file, key, value):
    out = write_comparison(tmp_path)
    record = json.loads((out / file).read_text())
    (out / file).write_text(json.dumps(record | {key: value}))
    with pytest.raises(ResultsError, match=Path(file).name):
        read_results(out)


def test_an_epoch_beyond_all_reason_is_refused(tmp_path):
    out = write_comparison(tmp_path)
    with (out / "bce/fold0_seed0/epochs.csv").open("a") as file:
        file.write("1e15,0,0,0,0\n")
    with pytest.raises(ResultsError, match="epochs.csv is damaged .an epoch out of range"):
        read_results(out)


# --------------------------------------------------------------------------------------- files that point elsewhere


@pytest.mark.skipif(not raster_gdal.available(), reason="needs rasterio")
@pytest.mark.parametrize("name", ["evil.tif", "evil.png", "evil.jp2", "evil.img"])
def test_a_virtual_raster_under_another_name_reads_no_other_file(tmp_path, name):
    import rasterio

    shape = {"driver": "GTiff", "height": 4, "width": 4, "count": 1, "dtype": "uint8"}
    with rasterio.open(tmp_path / "secret.tif", "w", **shape) as dataset:
        dataset.write(np.full((1, 4, 4), 42, np.uint8))
    band = '<VRTRasterBand dataType="Byte" band="1"><SimpleSource><SourceFilename relativeToVRT="1">secret.tif'
    (tmp_path / name).write_text(
        f'<VRTDataset rasterXSize="4" rasterYSize="4">{band}</SourceFilename><SourceBand>1</SourceBand></SimpleSource>'
        "</VRTRasterBand></VRTDataset>"
    )
    (tmp_path / "honest.vrt").write_bytes((tmp_path / name).read_bytes())
    assert open_raster(tmp_path / "honest.vrt").rows(0, 4).max() == 42
    for read in (open_raster, read_tile):
        with pytest.raises(ImageFileError, match=name):
            read(tmp_path / name)


def test_postscript_under_the_name_of_a_photograph_starts_no_interpreter(tmp_path, monkeypatch):
    monkeypatch.setattr("PIL.EpsImagePlugin.EpsImageFile.load", lambda *_: pytest.fail("it would be run"))
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"
    for suffix in (".jpg", ".png", ".tif"):
        (tmp_path / f"a{suffix}").write_bytes(content)
        with pytest.raises(ImageFileError, match="a" + suffix):
            read_image(tmp_path / f"a{suffix}")


def test_links_in_a_circle_or_to_nothing_end(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        Image.new("L", (4, 4)).save(tmp_path / name / "a.png")
        (tmp_path / name / "circle").symlink_to(tmp_path / name, target_is_directory=True)
    assert [item["id"] for item in lesion_items(tmp_path)] == ["a"]
    assert {item["id"] for item in tile_items(tmp_path)} == {"images_a", "masks_a"}
    (tmp_path / "images" / "b.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "images" / "c.png").symlink_to(tmp_path / "images" / "c.png")
    for item in image_items(tmp_path / "images")[1:]:
        with pytest.raises(ImageFileError, match=item["id"]):
            read_image(item["image"])


@pytest.mark.parametrize("name", ["../a", "/etc/a", "a/../../b", "", ".", "..", "a\0b", "a/.."])
def test_a_name_that_leads_out_of_the_output_folder_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="cannot name a file in"):
        inside(tmp_path / "out", name)
    nib.save(nib.Nifti1Image(np.zeros((4, 4), np.uint8), np.eye(4)), tmp_path / "image.nii")
    item = {"id": name, "case": name, "task": 1, "image": str(tmp_path / "image.nii"), "raters": [1]}
    with pytest.raises(ValueError, match="cannot name a file in"):
        RaterWriter(tmp_path / "out").write_masks(item, torch.zeros(1, 4, 4))
    assert [path.name for path in tmp_path.iterdir()] == ["image.nii"]


def engine_of(item: dict, output: dict) -> SimpleNamespace:
    """As much of an evaluator as a writer of predictions looks at, after a batch of one item."""
    return SimpleNamespace(state=SimpleNamespace(batch=[item], output=[output]))


@pytest.mark.parametrize("name", ["../../a", "/etc/a", "a/../../../b", "a\0b"])
def test_no_writer_of_predictions_leaves_its_folder_by_an_id(tmp_path, name):
    picture, out = tmp_path / "a.png", tmp_path / "deep" / "out"
    Image.new("RGB", (4, 4)).save(picture)
    item = {"id": name, "image": str(picture), "image_path": str(picture), "levels": 255}
    prediction, mask = {"pred": torch.zeros(3, 4, 4)}, {"pred": torch.zeros(1, 4, 4)}
    answers = {"pred": {"probability": torch.zeros(1, 1, 4, 4), "samples": torch.zeros(1, 2, 4, 4)}}
    case = SimpleNamespace(state=SimpleNamespace(batch={"id": [name]}, output=answers))
    for write, engine in (
        (PredictionWriter(out), engine_of(item, mask)),
        (PredictionWriter(out, masks=False, probabilities=False, overlays=True), engine_of(item, mask)),
        (UpscaledWriter(out), engine_of(item, prediction)),
        (RaterPredictionWriter(out, [item | {"case": name, "task": 1}]), case),
    ):
        with pytest.raises(ValueError, match="cannot name a file in"):
            write.write(engine)
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"a.png"}


# ---------------------------------------------------------------------------------- records of a run that goes on


@pytest.mark.parametrize(
    "content",
    [b"epoch,seconds\n1,2\n\xff,3\n", b"epoch\n-1\n", b"epoch\n1.5\n", b"epoch\n" + b"9" * 5000, b"", b"a\n1\n"],
)
def test_a_damaged_table_of_epochs_is_named_when_a_run_goes_on(tmp_path, content):
    (tmp_path / "epochs.csv").write_bytes(content)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1)
    table = EpochTable(tmp_path / "epochs.csv", optimizer=optimizer)
    with pytest.raises(ValueError, match=r"epochs.csv (is damaged|has no column 'epoch')") as caught:
        table._begin(SimpleNamespace(state=SimpleNamespace(epoch=3)))
    assert explain(caught.value) == str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"[]", b'{"pretrained": 1}', b'{"other": {"epoch": 1, "value": 2}}', b'{"adversarial": {"epoch": true}}',
     b'{"pretrained": {"epoch": 1, "value": "high"}}', b"\xff", b""],
)  # fmt: skip
def test_a_damaged_record_of_the_best_weights_is_named_when_a_run_goes_on(tmp_path, content):
    (tmp_path / "best.json").write_bytes(content)
    stages = StageCheckpoints(torch.nn.Linear(1, 1), tmp_path, pretrain_epochs=1)
    with pytest.raises(ValueError, match=r"best.json is damaged .*: remove it, then the next epoch counts as the best"):
        stages._before(5)


# ------------------------------------------------------------------------------------------------------- odd names


def test_pictures_of_any_name_are_listed_and_read(tmp_path):
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
        for level, name in enumerate(ODD_NAMES):
            Image.new("L", (4, 4), 10 * level if part == "images" else 255).save(tmp_path / part / f"{name}.png")
    items = {item["id"]: item for item in lesion_items(tmp_path)}
    listed = {name for name in ODD_NAMES if not name.startswith(".")}
    assert items.keys() == listed == {item["id"] for item in image_items(tmp_path / "images")}
    for name in listed:
        assert read_image(items[name]["image"]).unique().tolist() == [10 * ODD_NAMES.index(name)]
    assert len(tile_items(tmp_path / "images")) == len(listed)


def test_cases_of_any_name_are_listed_in_their_order(tmp_path):
    names = [name for name in (*ODD_NAMES, "²", "case2", "case10", "٣") if not name.startswith(".")]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "image.nii.gz").touch()
        (tmp_path / name / "task01_seg01.nii.gz").touch()
    listed = [item["case"] for item in qubiq_items(tmp_path)]
    assert sorted(listed) == sorted(names) and listed.index("case2") < listed.index("case10")


def test_a_name_that_is_no_unicode_is_shown_escaped(tmp_path):
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    try:
        Path(os.fsdecode(os.fsencode(tmp_path / "images") + b"/a\xff.png")).touch()
    except OSError:
        pytest.skip("this file system takes no such names")
    Image.new("L", (4, 4)).save(tmp_path / "images" / "b.png")
    for listing in (lesion_items, lambda folder: image_items(folder / "images"), tile_items):
        with pytest.raises(DatasetLayoutError, match=r"a\\udcff.png' is not UTF-8 and cannot be an id: rename it"):
            listing(tmp_path)


class Tags(HTMLParser):
    """All tags of a page, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags |= {tag, *(name for name, _ in attrs)}


def test_a_report_shows_names_of_cases_as_text(tmp_path, plain_figures, monkeypatch):
    monkeypatch.setattr("monai_ext.commands.comparison.report.case_figure", case_figure)  # which shows them
    monkeypatch.setattr("monai_ext.storage.pictures.DPI", 15)
    out = write_comparison(tmp_path)
    for loss in ("dice", "jaccard"):
        shutil.rmtree(out / loss)
    names = ("<script>alert(1)<script>", "$\\frac$", "a|b`c*", "<img src=x onerror=alert(1)>", "$x^{$", "{0}%s")
    kept = ("case00", "case07", "case12", "case13", "case21", "case38")
    for table in out.glob("*/*/evaluation/cases.csv"):
        text = table.read_text()
        for old, name in zip(kept, names, strict=True):
            text = text.replace(old + ",", name.replace("/", "") + ",")
            picture = table.parent / "probabilities" / f"{old}.png"
            if picture.exists():
                picture.rename(picture.with_name(f"{name}.png"))
        table.write_text(text)
    plan = json.loads((out / "plan.json").read_text())
    (out / "plan.json").write_text(json.dumps(plan | {"command": "<script>alert(2)</script> && $\\frac$"}))
    page = report(out)
    found = Tags()
    found.feed(page.read_text())
    assert not found.tags & {"script", "iframe", "onerror", "onload", "svg"} and "img" in found.tags
    assert (page.parent / "cases.png").exists()  # the names stood in a figure
    assert "<script" not in (page.parent / "report.md").read_text()


# ----------------------------------------------------------------------------------------------------- many files


@pytest.mark.parametrize("make", EVERY)
def test_listing_asks_the_disk_about_no_single_file_and_looks_into_each_folder_at_most_twice(
    make, tmp_path, monkeypatch
):
    counts = Counter()
    for name in ("stat", "lstat", "scandir", "listdir"):
        real = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *args, real=real, name=name, **kw: counts.update([name]) or real(*args, **kw)
        )
    seen = {}
    for number in (20, 220):
        read = make(tmp_path / str(number), number)
        counts.clear()
        assert len(read()) == number
        seen[number] = dict(counts)
    for name in ("stat", "lstat"):
        assert seen[220].get(name, 0) == seen[20].get(name, 0) < 12
    looks = [seen[number].get("scandir", 0) + seen[number].get("listdir", 0) for number in (20, 220)]
    assert looks[1] - looks[0] == (200 if make is cases else 0)


def test_folders_of_many_files_are_listed_in_seconds(tmp_path):
    for number in range(MANY):
        (tmp_path / f"{number}.png").touch()
    start = time.process_time()
    assert len(image_items(tmp_path)) == len(tile_items(tmp_path)) == MANY
    for number in range(20):
        write_text(tmp_path / f"{number}.txt", "x")  # which does not look at the others
    assert time.process_time() - start < MANY / 1000
