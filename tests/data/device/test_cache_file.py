"""The file of decoded items: renewed when it is stale or damaged, in any bit."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from arrays import ReadArrays, dataset

from monai_ext.data.device.cache_file import DecodedFileError, file_key, read_decoded, write_decoded
from monai_ext.data.device.decoded_set import DecodedSet


def test_the_second_start_reads_the_file_twenty_times_faster(write_items, tmp_path: Path) -> None:
    items, transform = write_items(60), ReadArrays(seconds=0.01)
    start = time.perf_counter()
    decoded = dataset(items, transform, cache_dir=tmp_path / "cache", num_workers=0)
    middle = time.perf_counter()
    loaded = dataset(items, transform, cache_dir=tmp_path / "cache", num_workers=0)
    assert time.perf_counter() - middle < (middle - start) / 20
    assert len(ReadArrays.calls) == 60
    first, second = decoded.batch(range(60)), loaded.batch(range(60))
    assert first["id"] == second["id"] and all(torch.equal(first[key], second[key]) for key in ("image", "label"))
    loaded._groups[0]["image"].zero_()  # private: the file stays as it is
    assert dataset(items, transform, cache_dir=tmp_path / "cache")[3]["image"].any()


def test_a_changed_source_makes_the_file_stale(write_items, tmp_path: Path, caplog) -> None:
    items = write_items(3)
    dataset(items, cache_dir=tmp_path / "cache")
    np.save(items[1]["image"], np.full((3, 6, 8), 9, dtype=np.uint8))
    os.utime(items[1]["image"], (1, 1))
    data = dataset(items, cache_dir=tmp_path / "cache")
    assert "is stale: its source files have changed. It is made anew." in caplog.text
    assert data[1]["image"].unique().tolist() == [9]
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_other_settings_use_another_file(write_items, tmp_path: Path) -> None:
    items = write_items(3)
    dataset(items, ReadArrays(100), cache_dir=tmp_path / "cache")
    other = dataset(items, ReadArrays(200), cache_dir=tmp_path / "cache")
    assert torch.equal(other[0]["label"], ReadArrays(200)(items[0])["label"])
    assert len(list((tmp_path / "cache").iterdir())) == 2


@pytest.mark.parametrize("damage", ["cut", "empty", "header", "magic", "data", "longer"])
def test_a_damaged_file_is_made_anew_with_a_word(write_items, tmp_path: Path, caplog, damage: str) -> None:
    items = write_items(4)
    expected = dataset(items, cache_dir=tmp_path / "cache").batch(range(4))
    path = next((tmp_path / "cache").iterdir())
    content = bytearray(path.read_bytes())
    if damage == "header":
        content[40] ^= 1
    elif damage == "magic":
        content[0] ^= 1
    elif damage == "data":
        content[-1] ^= 1
    path.write_bytes({"cut": content[:-64], "empty": b"", "longer": content + b"x"}.get(damage, content))
    data = dataset(items, cache_dir=tmp_path / "cache")
    assert f"{path} is damaged" in caplog.text and "It is made anew." in caplog.text
    assert torch.equal(data.batch(range(4))["image"], expected["image"])
    caplog.clear()
    dataset(items, cache_dir=tmp_path / "cache")
    assert "is damaged" not in caplog.text


def test_a_folder_that_cannot_be_written_costs_a_warning_only(write_items, tmp_path: Path, caplog) -> None:
    (tmp_path / "file").write_text("no folder")
    data = dataset(write_items(3), cache_dir=tmp_path / "file" / "cache")
    assert len(data) == 3 and "the next start decodes again" in caplog.text


def test_writers_at_the_same_time_leave_one_whole_file(write_items, tmp_path: Path) -> None:
    items = write_items(20)
    start = threading.Barrier(4)

    def build() -> None:
        start.wait()
        dataset(items, cache_dir=tmp_path / "cache", num_workers=1)

    threads = [threading.Thread(target=build) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list((tmp_path / "cache").iterdir())) == 1
    ReadArrays.calls.clear()
    assert dataset(items, cache_dir=tmp_path / "cache")[7]["image"][0, 0, 0] == 7 and not ReadArrays.calls


def test_the_file_keeps_groups_and_all_types(tmp_path: Path) -> None:
    kinds = [torch.bool, torch.int16, torch.float16, torch.bfloat16, torch.float64, torch.int64]

    def decode(item: dict) -> dict:
        return {str(kind): torch.ones(item["n"] % 2 + 1, 3).to(kind) for kind in kinds}

    items = [{"n": n} for n in range(5)]
    first, second = (dataset(items, decode, cache_dir=tmp_path) for _ in range(2))
    assert len(second.members) == 2
    for index in range(5):
        for kind in kinds:
            assert second[index][str(kind)].dtype == kind
            assert torch.equal(second[index][str(kind)], first[index][str(kind)])


def test_files_on_another_key_are_refused(write_items, tmp_path: Path) -> None:
    items = write_items(2)
    dataset(items, cache_dir=tmp_path / "cache")
    key = file_key(items, ReadArrays())
    path = tmp_path / "cache" / key.name
    assert read_decoded(path, key.fingerprint).ids == ["case0", "case1"]
    with pytest.raises(DecodedFileError, match="is stale"):
        read_decoded(path, "another")


def test_any_flipped_bit_is_found(tmp_path: Path) -> None:
    path, rng = tmp_path / "decoded.safetensors", np.random.default_rng(0)
    group = {"image": torch.arange(96, dtype=torch.uint8).reshape(4, 2, 3, 4), "label": torch.ones(4, 1)}
    write_decoded(path, "key", DecodedSet(list("abcd"), [0, 1, 2, 5], [group], [[0, 1, 2, 3]]))
    content = path.read_bytes()
    assert read_decoded(path, "key").kept == [0, 1, 2, 5]
    for position in rng.integers(len(content), size=400):
        damaged = bytearray(content)
        damaged[position] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        with pytest.raises(DecodedFileError):
            read_decoded(path, "key")


def test_the_file_is_mapped_and_writing_to_the_tensors_leaves_it_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "decoded.safetensors"
    write_decoded(path, "key", DecodedSet(["a"], [0], [{"image": torch.zeros(1, 3, 512, 512)}], [[0]]))
    content = path.read_bytes()
    image = read_decoded(path, "key").groups[0]["image"]
    assert path.name in Path("/proc/self/maps").read_text()
    image.fill_(7)
    assert path.read_bytes() == content and read_decoded(path, "key").groups[0]["image"].eq(0).all()
