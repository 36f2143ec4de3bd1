"""Decoding in threads, and items that cannot be decoded."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch
from arrays import ReadArrays, dataset

from monai_ext.data.device.decoding import DecodeError, decode_items


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_item_that_cannot_be_read_stops_with_its_name(write_items, num_workers: int) -> None:
    items = write_items(6)
    Path(items[4]["image"]).write_bytes(b"broken")
    with pytest.raises(DecodeError, match=r"cannot decode item 4 \(id='case4', image='.*4.npy'\): ") as error:
        dataset(items, num_workers=num_workers)
    assert isinstance(error.value.__cause__, Exception)


def test_an_error_ends_the_decoding_threads(write_items) -> None:
    items = write_items(60)
    Path(items[1]["image"]).write_bytes(b"broken")
    with pytest.raises(DecodeError):
        dataset(items, ReadArrays(seconds=0.005), num_workers=2)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]
    assert len(ReadArrays.calls) < 10


def test_nothing_readable_is_an_error(write_items) -> None:
    items = write_items(2)
    for item in items:
        Path(item["image"]).unlink()
    with pytest.raises(DecodeError, match="none of the 2 items could be decoded"):
        dataset(items, on_error="skip")


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        (None, "returned NoneType: expected a mapping"),
        ({"id": "a"}, "returned no tensor"),
        ({"meta": {}}, "'meta' is dict: expected a tensor"),
    ],
)
def test_results_that_are_no_tensors_are_named(result: object, sentence: str) -> None:
    with pytest.raises(DecodeError, match=sentence):
        dataset([{"n": 0}], lambda item: result)


def test_a_system_error_of_the_interpreter_is_tried_once_more_and_a_lasting_one_is_reported():
    """CPython 3.11 raises it at random where several threads parse literals."""
    tries = []

    def racing(item):
        tries.append(item["id"])
        if len(tries) == 1:
            raise SystemError("AST constructor recursion depth mismatch")
        return {"image": torch.zeros(1)}

    assert [name for _, name, _ in decode_items([{"id": "a"}], racing, num_workers=0)] == ["a"]
    assert tries == ["a", "a"]

    def broken(item):
        raise SystemError("always")

    with pytest.raises(DecodeError, match="SystemError: always"):
        list(decode_items([{"id": "a"}], broken, num_workers=0))
