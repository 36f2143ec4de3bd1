"""The data set on the device: items, types, memory, errors."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from arrays import ReadArrays, dataset
from monai.data import MetaTensor
from torch.utils.data import DataLoader

from monai_ext.data.device import dataset as resident
from monai_ext.data.device.decoding import DecodeError
from monai_ext.runtime.memory import DeviceMemoryError


@pytest.mark.parametrize("num_workers", [0, 3])
def test_items_and_batches_are_what_the_transform_returned(write_items, num_workers: int) -> None:
    items = write_items(7)
    data = dataset(items, num_workers=num_workers)
    batch = data.batch([5, 0, 5])
    for row, index in enumerate([5, 0, 5]):
        expected = ReadArrays()(items[index])
        for key in ("image", "label"):
            assert torch.equal(data[index][key], expected[key]) and data[index][key].dtype == torch.uint8
            assert torch.equal(batch[key][row], expected[key])
    assert batch["id"] == ["case5", "case0", "case5"] and batch["index"].tolist() == [5, 0, 5]
    assert len(data) == 7 and data.data == items and data.nbytes == 7 * 4 * 48
    assert data[-1]["id"] == "case6"
    with pytest.raises(IndexError, match="index 7 is out of range"):
        data[7]


def test_changing_an_item_leaves_the_data_set_as_it_is(write_items) -> None:
    data = dataset(write_items(2))
    data[1]["image"].zero_()
    assert data[1]["image"].any()


def test_metadata_is_stripped_and_types_are_kept() -> None:
    def decode(item: dict) -> dict:
        return {
            "scan": MetaTensor(torch.full((1, 2, 2), -7, dtype=torch.int16), meta={"filename": "a"}),
            "size": (480, 640),
            "weight": np.float32(0.5),
            "path": "left in data",
        }

    data = dataset([{"n": 0}, {"n": 1}], decode)
    batch = data.batch(torch.tensor([1, 0]))
    assert type(batch["scan"]) is torch.Tensor and batch["scan"].dtype == torch.int16
    assert batch["size"].tolist() == [[480, 640]] * 2 and batch["weight"].dtype == torch.float32
    assert batch["id"] == ["1", "0"] and "path" not in batch


def test_it_is_a_map_style_data_set_for_a_plain_loader(write_items) -> None:
    batches = list(DataLoader(dataset(write_items(5)), batch_size=2))
    assert [len(batch["id"]) for batch in batches] == [2, 2, 1]
    assert batches[1]["image"].shape == (2, 3, 6, 8)


def test_too_little_memory_is_said_before_decoding(write_items, monkeypatch) -> None:
    monkeypatch.setattr(resident, "free_memory", lambda device: 1000)
    with pytest.raises(DeviceMemoryError) as error:
        dataset(write_items(40), num_workers=0)
    assert str(error.value) == (
        "the decoded set needs 8 KiB, but 7 KiB are missing on cpu (1000 B free, 80% of it for data): set a smaller "
        "spatial_size in the transform, share the items among more ranks, or raise memory_fraction."
    )
    assert len(ReadArrays.calls) == 1


def test_memory_is_asked_again_when_later_items_are_larger(write_items, monkeypatch) -> None:
    sizes = [(6, 8)] + [(60, 80)] * 39
    monkeypatch.setattr(resident, "free_memory", lambda device: 100_000)
    with pytest.raises(DeviceMemoryError, match="the decoded set needs"):
        dataset(write_items(40, sizes), num_workers=0)
    assert len(ReadArrays.calls) < 10


def test_a_device_with_too_little_memory_is_fed_from_the_host(write_items, monkeypatch, caplog) -> None:
    monkeypatch.setattr(resident, "free_memory", lambda device: 100 if device.type == "meta" else None)
    items = write_items(5)
    data = dataset(items, device="meta")
    assert data.spilled and "stays in host memory and is copied batch by batch" in caplog.text
    batch = data.batch(torch.tensor([3, 1]))
    assert batch["image"].device.type == "meta" and batch["image"].shape == (2, 3, 6, 8)
    assert batch["id"] == ["case3", "case1"]
    data.device = torch.device("cpu")  # what would have been copied
    assert data.batch(torch.tensor([3, 1]))["image"][:, 0, 0, 0].tolist() == [3, 1]
    with pytest.raises(DeviceMemoryError, match="or set spill='host'"):
        dataset(items, device="meta", spill="error")


def test_enough_memory_is_announced(write_items, caplog) -> None:
    with caplog.at_level(logging.INFO):
        dataset(write_items(16))
    assert "the decoded set takes 3 KiB on cpu" in caplog.text


def test_an_item_that_cannot_be_read_can_be_left_out(write_items, tmp_path: Path, caplog) -> None:
    items = write_items(4)
    Path(items[1]["image"]).write_bytes(b"broken")
    for start in ("decoded", "from the file"):
        data = dataset(items, on_error="skip", cache_dir=tmp_path / "cache")
        assert data.ids == ["case0", "case2", "case3"], start
        assert data.data == [items[0], items[2], items[3]]
        assert data.batch([1])["image"][0, 0, 0, 0] == 2
    assert caplog.text.count("case1") == 1 and "the item is left out" in caplog.text
    with pytest.raises(DecodeError, match="case1"):  # a file with gaps does not hide them
        dataset(items, cache_dir=tmp_path / "cache")


def test_items_with_other_keys_are_named() -> None:
    with pytest.raises(ValueError, match=r"item 1 \(1\) has the keys \['b'\], the first has \['a'\]"):
        dataset([{"n": 0}, {"n": 1}], lambda item: {"ab"[item["n"]]: 1.0})


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"spill": "disk"}, "spill='disk' must be"),
        ({"on_error": "ignore"}, "on_error='ignore' must be"),
        ({"shard": (2, 2)}, r"shard=\(2, 2\) must be"),
        ({"shard": (0, 4)}, "3 items are too few for 4 rank"),
    ],
)
def test_wrong_settings_are_named(write_items, settings: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        dataset(write_items(3), **settings)
