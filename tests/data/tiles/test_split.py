"""Tiles split by place."""

from __future__ import annotations

import logging
from collections import Counter

import pytest

from monai_ext.data.run_cases import RunCases
from monai_ext.data.tiles.listing import tile_items
from monai_ext.data.tiles.split import split_by_place, take_places


def grid_items(columns, rows, block=8):
    return [{"id": f"{x}_{y}", "place": f"{x // block} {y // block}"} for x in range(columns) for y in range(rows)]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_fifth_is_for_testing_and_no_block_is_in_both_parts(seed):
    items = grid_items(120, 100)
    train, test = take_places(items, 0.2, seed=seed)
    assert not {item["place"] for item in train} & {item["place"] for item in test}
    assert sorted(item["id"] for item in train + test) == sorted(item["id"] for item in items)
    assert len(test) / len(items) == pytest.approx(0.2, abs=0.005)


def test_the_split_depends_on_the_seed_and_not_on_the_order():
    items = grid_items(40, 40)
    chosen = {item["id"] for item in split_by_place(items, seed=3)["test"]}
    assert {item["id"] for item in split_by_place(items[::-1], seed=3)["test"]} == chosen
    assert {item["id"] for item in split_by_place(items, seed=4)["test"]} != chosen


def test_parts_keep_the_order_and_all_places_take_their_turn():
    items = grid_items(40, 8)  # five places
    tested = Counter()
    for seed in range(60):
        train, test = take_places(items, 0.2, seed=seed)
        assert [item for item in items if item in test] == test
        assert len(test) == 64
        tested.update({item["place"] for item in test})
    assert len(tested) == 5 and min(tested.values()) >= 4


def test_places_too_large_for_the_share_are_told(caplog):
    items = [{"id": str(i), "place": "large" if i < 90 else "small"} for i in range(100)]
    with caplog.at_level(logging.WARNING):
        train, test = take_places(items, 0.2, seed=0)
    assert {item["place"] for item in test} == {"small"}
    assert "10 % of the tiles are for the test part, not 20 %" in caplog.text
    halves = [{"id": str(i), "place": str(i % 2)} for i in range(10)]
    assert list(map(len, take_places(halves, 0.1, seed=0))) == [5, 5]  # one place is the least
    assert list(map(len, take_places(halves, 0.9, seed=0))) == [5, 5]  # and one is left


def test_parts_share_no_place_and_stay_those_that_shipped_weights_were_trained_with():
    items = grid_items(64, 64)
    parts = split_by_place(items, test_fraction=0.2, validation_fraction=0.1, calibration_fraction=0.12)
    places = {part: {item["place"] for item in members} for part, members in parts.items()}
    assert sum(map(len, places.values())) == len(set.union(*places.values())) == 64
    assert {part: len(members) for part, members in parts.items()} == {
        "training": 2560, "test": 832, "validation": 320, "calibration": 384
    }  # fmt: skip
    assert places["validation"] == {"0 5", "1 0", "3 0", "6 2", "7 2"}
    assert places["calibration"] == {"0 2", "0 6", "1 6", "3 1", "4 4", "5 1"}
    whole = split_by_place(items, test_fraction=0.2, validation_fraction=0.1)
    assert whole["test"] == parts["test"] and whole["calibration"] == []
    assert len(whole["training"]) == 2560 + 384


def test_items_that_name_their_part_stay_in_it():
    items = [item | {"part": "training"} for item in grid_items(40, 8)]
    items += [{"id": f"{part}{n}", "place": part, "part": part} for part in ("validation", "test") for n in range(2)]
    parts = split_by_place(items, validation_fraction=0.5, calibration_fraction=0.2)
    assert [item["id"] for item in parts["validation"] + parts["test"]] == [
        "validation0",
        "validation1",
        "test0",
        "test1",
    ]
    assert len(parts["calibration"]) == 64 and len(parts["training"]) == 256


def test_what_cannot_be_split_is_refused():
    with pytest.raises(ValueError, match=r"the 2 tiles have 1 place\(s\)"):
        split_by_place([{"id": "a", "place": "x"}, {"id": "b", "place": "x"}])
    with pytest.raises(ValueError, match="item 'a' has no place"):
        split_by_place([{"id": "a"}, {"id": "b", "place": "x"}])
    with pytest.raises(ValueError, match="the fraction of the test part is 1: choose"):
        split_by_place(grid_items(16, 16), test_fraction=1)


def test_real_tiles_split_into_whole_places(real_data):
    folder = real_data / "aerial"
    if not folder.is_dir():
        pytest.skip("MONAI_EXT_DATA has no folder aerial")
    items = tile_items(folder)
    test = split_by_place(items)["test"]
    assert len({item["place"] for item in items}) == 7
    assert 0.1 < len(test) / len(items) < 0.3


def test_parts_may_be_places_by_name_and_the_rest_is_for_training():
    items = [{"id": str(i), "place": "abcd"[i % 4], "part": "validation"} for i in range(12)]
    parts = split_by_place(items, test_places=["b", "d"], validation_places="a")
    assert {part: {item["place"] for item in members} for part, members in parts.items()} == {
        "training": {"c"}, "validation": {"a"}, "test": {"b", "d"}, "calibration": set(),
    }  # fmt: skip
    with pytest.raises(ValueError, match="no tile is left of 'x', a place for the test part: there are a, b, c, d"):
        split_by_place(items, test_places=["a", "x"])
    with pytest.raises(ValueError, match="no tile is left of 'a', a place for the validation part"):
        split_by_place(items, test_places=["a"], validation_places=["a"])
    with pytest.raises(ValueError, match="none is left to train on"):
        split_by_place(items, test_places=["a", "b", "c", "d"])


def test_a_run_on_everything_watches_some_training_tiles(caplog):
    items = [{"id": str(i), "place": str(i // 10)} for i in range(100)]
    parts = split_by_place(items, test_fraction=0, validation_fraction=0, watched=8)
    assert len(parts["training"]) == 100 and len(parts["validation"]) == 8
    assert len({item["place"] for item in parts["validation"]}) == 8
    assert "scores are of 8 tiles that are trained on" in caplog.text
    held = split_by_place(items, test_fraction=0, validation_fraction=0.1, watched=8)
    assert len(held["validation"]) == 10 and len(held["training"]) == 90


def test_places_for_calibration_may_be_named():
    items = [{"id": str(i), "place": "abcd"[i % 4]} for i in range(12)]
    parts = split_by_place(items, test_fraction=0, calibration_fraction=0.5, calibration_places=["a", "c"])
    assert {item["place"] for item in parts["calibration"]} == {"a", "c"} and len(parts["training"]) == 6


def test_a_calibration_may_take_all_tiles(tmp_path, caplog):
    items = [{"id": str(i), "place": "here"} for i in range(2)]
    with pytest.raises(ValueError, match="none is left to train on"):
        split_by_place(items, test_fraction=0, calibration_places=["here"])
    shipped = RunCases(tmp_path / "model.pt", ["calibration", "test"])  # no run.json beside
    parts = split_by_place(items, test_fraction=0, calibration_places=["here"], watched=4, recorded=shipped)
    assert parts == {"training": [], "test": [], "validation": [], "calibration": items}
    assert "that are trained on" not in caplog.text
