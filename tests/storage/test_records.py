"""Records in JSON files: what is read is what was written, and what is wrong is named with its place."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from monai_ext.runtime.errors import explain
from monai_ext.storage.records import Count, as_record, json_text, read_json_lines, read_record, write_record


class Area(msgspec.Struct, frozen=True):
    source: str
    zoom: Count
    bbox: tuple[float, float, float, float]
    finished: str | None = None


class Areas(msgspec.Struct, frozen=True):
    areas: list[Area]


AREA = {"source": "https://x.org/{z}", "zoom": 17, "bbox": [1, 2.5, 3, 4], "finished": None}


def test_what_was_written_is_read(tmp_path):
    record = Areas([Area("a", 3, (1.0, 2.0, 3.0, 4.0)), Area("b", 0, (0.0, 0.0, 0.0, 0.5), "now")])
    write_record(tmp_path / "a.json", record)
    assert read_record(tmp_path / "a.json", Areas) == record
    assert json.loads((tmp_path / "a.json").read_text())["areas"][1]["finished"] == "now"


def test_any_flipped_bit_of_a_record_is_noticed(tmp_path):
    path, record = tmp_path / "a.json", Areas([Area("a", 3, (1.0, 2.0, 3.0, 4.0))])
    write_record(path, record)
    whole, outcomes = path.read_bytes(), set()
    for place in range(len(whole) - 3):  # what follows ends the line
        for bit in range(7):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
            try:
                outcomes.add(read_record(path, Areas))
            except ValueError as error:
                outcomes.add("values" if "its values are not those of its checksum" in str(error) else "form")
    assert outcomes == {"values", "form"}


def test_a_record_written_by_hand_needs_no_checksum_and_one_of_fields_in_another_order_is_right(tmp_path):
    path, values = tmp_path / "a.json", {"b": 0.1, "a": [1, None, {"x": "é"}]}
    write_record(path, values)
    content = json.loads(path.read_text())
    path.write_text(json.dumps(dict(sorted(content.items())), ensure_ascii=False))
    assert read_record(path, dict) == values
    path.write_text(json.dumps(values | {"b": 0.2}))
    assert read_record(path, dict) == values | {"b": 0.2}
    path.write_text(json.dumps(content | {"b": 0.2}))
    with pytest.raises(ValueError, match='a.json is damaged .* without the field "checksum" they are taken'):
        read_record(path, dict)


def test_dataclasses_and_built_in_types_are_records_too(tmp_path):
    @dataclass(frozen=True)
    class Best:
        epoch: int
        value: float | None

    write_record(tmp_path / "best.json", {"pretrained": Best(3, 1.5)})
    assert read_record(tmp_path / "best.json", dict[str, Any]) == {"pretrained": {"epoch": 3, "value": 1.5}}
    assert as_record({"epoch": 3, "value": None}, Best) == Best(3, None)
    write_record(tmp_path / "number.json", 7)
    assert read_record(tmp_path / "number.json", int) == 7


def test_fields_that_the_record_does_not_have_are_ignored(tmp_path):
    write_record(tmp_path / "a.json", {"areas": [AREA | {"cloud": 3}], "more": [1]})
    assert read_record(tmp_path / "a.json", Areas).areas[0].bbox == (1.0, 2.5, 3.0, 4.0)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"zoom": True}, "at areas[1].zoom: expected int, got bool"),
        ({"zoom": 1.5}, "at areas[1].zoom: expected int, got float"),
        ({"zoom": -1}, "at areas[1].zoom: expected int >= 0"),
        ({"zoom": "3"}, "at areas[1].zoom: expected int, got str"),
        ({"source": None}, "at areas[1].source: expected str, got null"),
        ({"bbox": [1, 2, 3]}, "at areas[1].bbox: expected array of length 4, got 3"),
        ({"bbox": [1, 2, "3", 4]}, "at areas[1].bbox[2]: expected float, got str"),
        ({"bbox": [1, 2, float("nan"), 4]}, "at areas[1].bbox[2]: expected float, got null"),
        ({"bbox": [1, 2, 10**400, 4]}, "at areas[1].bbox[2]: number out of range"),
    ],
)
def test_a_wrong_value_is_named_with_file_place_and_remedy(tmp_path, change, sentence):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"areas": [AREA, AREA | change]}))
    with pytest.raises(ValueError) as caught:
        read_record(path, Areas, way_out="fetch the tiles again")
    assert str(caught.value) == f"{path} is damaged ({sentence}): fetch the tiles again."
    assert explain(caught.value) == str(caught.value)


@pytest.mark.parametrize(
    ("content", "kind", "sentence"),
    [
        ('{"areas": [{"zoom": 1}]}', Areas, "at areas[0]: object missing required field source"),
        ("[]", Areas, "Expected object, got array"),
        ("3", dict, "Expected object, got int"),
        ('{"a": {"b": 1}, "c": {"b": "x"}}', dict[str, dict[str, int]], "at *.*: expected int, got str"),
        ("", object, "Expecting value: line 1 column 1 (char 0)"),
        ("[1, 2", object, "Expecting ',' delimiter: line 1 column 6 (char 5)"),
        ("[" * 100_000, object, "maximum recursion depth exceeded"),
    ],
)
def test_what_is_no_such_record_is_named(tmp_path, content, kind, sentence):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ValueError) as caught:
        read_record(tmp_path / "a.json", kind)
    assert str(tmp_path / "a.json") in str(caught.value) and f"({sentence}" in str(caught.value)


def test_the_caller_chooses_the_class_of_the_error(tmp_path):
    class TableError(ValueError):
        pass

    (tmp_path / "a.json").write_bytes(b"\xff")
    with pytest.raises(TableError, match="a.json is damaged .*: make it again"):
        read_record(tmp_path / "a.json", dict, error=TableError, way_out="make it again")
    with pytest.raises(FileNotFoundError):
        read_record(tmp_path / "b.json", dict, error=TableError)


def test_numbers_that_are_not_finite_are_null_in_files_and_in_records(tmp_path):
    path = tmp_path / "a.json"
    content = {"a": float("nan"), "b": [np.float32("inf"), -np.inf, (np.float64(0.5),)], 3: 1}
    write_record(path, content, checksum=False)
    assert json.loads(path.read_text(), parse_constant=pytest.fail) == {"a": None, "b": [None, None, [0.5]], "3": 1}
    path.write_text('{"a": NaN, "b": -Infinity, "c": 1e999, "d": 2.5}')
    expected = {"a": None, "b": None, "c": None, "d": 2.5}
    assert read_record(path, dict) == read_record(path, dict[str, float | None]) == expected


def test_paths_and_unknown_objects_are_text_and_numpy_numbers_are_numbers():
    class Odd:
        def __str__(self) -> str:
            return "odd"

    values = {"path": Path("a/b"), "odd": Odd(), "count": np.int64(3), "flag": np.bool_(True)}
    assert json.loads(json_text(values)) == {"path": "a/b", "odd": "odd", "count": 3, "flag": True}


def test_an_error_in_json_lines_names_the_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json_text(AREA, sort_keys=True) + "\n" for _ in range(3)))
    assert read_json_lines(path, Area) == [as_record(AREA, Area)] * 3
    for bad, sentence in ((json_text(AREA | {"zoom": None}), "at zoom: expected int, got null"), ("{", "Expecting")):
        path.write_text(f"{json_text(AREA)}\n{bad}\n")
        with pytest.raises(ValueError, match=rf"a.jsonl is damaged \(line 2: {sentence}.*\): remove it\."):
            read_json_lines(path, Area)


def test_a_file_larger_than_any_record_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("monai_ext.storage.records.LARGEST_FILE", 2**20)
    (tmp_path / "a.json").write_text(" " * 2**21)
    with pytest.raises(ValueError, match="a.json is damaged .larger than 1 MiB"):
        read_record(tmp_path / "a.json", dict)
