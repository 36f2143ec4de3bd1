"""Cases of a run are found again by id and image, and no case that was learnt from is scored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from monai_ext.data import RunCases, fold_items, split_by_place
from monai_ext.data.run_cases import case_digests, read_trained_run


def items_of(folder: Path, names: str, content: str = "") -> list[dict]:
    folder.mkdir(exist_ok=True)
    items = []
    for name in names:
        file = folder / f"{name}.png"
        file.write_text(content or name)
        items.append({"id": name, "image": str(file), "place": name})
    return items


def run_of(folder: Path, **parts: list[dict]) -> Path:
    """Weights of a run that had these items as its parts."""
    folder.mkdir()
    cases = {part: case_digests(items) for part, items in parts.items()}
    (folder / "run.json").write_text(json.dumps({"status": "finished", "cases": cases}))
    return folder / "model.pt"


@pytest.fixture
def items(tmp_path) -> list[dict]:
    return items_of(tmp_path / "data", "abcdef")


@pytest.fixture
def weights(tmp_path, items) -> Path:
    return run_of(tmp_path / "run", training=items[:4], validation=items[4:])


def ids(items: list) -> str:
    return "".join(item["id"] for item in items)


def test_digests_are_of_the_images_wherever_they_lie_and_tell_slices_apart(tmp_path, items):
    moved = items_of(tmp_path / "moved", "abcdef")
    assert case_digests(items) == case_digests(moved) and len(set(case_digests(items).values())) == 6
    slices = [{"id": f"a{number}", "image": items[0]["image"], "slice": number} for number in (0, 1)]
    assert len(set(case_digests(slices).values())) == 2
    assert case_digests([{"id": "x", "image": str(tmp_path / "none")}, {"id": "y"}]) == {"x": "", "y": ""}


def test_parts_of_a_run_are_found_wherever_the_data_lie(tmp_path, weights):
    moved = items_of(tmp_path / "moved", "fedcbagh")
    assert ids(RunCases(weights).divide(moved)["validation"]) == "fe"
    assert ids(fold_items(moved, 5, part="validation", recorded=RunCases(str(weights)))) == "fe"


def test_a_file_of_another_case_by_the_name_of_one_is_not_that_case(tmp_path, weights):
    changed = items_of(tmp_path / "data", "abcd") + items_of(tmp_path / "data", "ef", content="another")
    with pytest.raises(ValueError, match="2 of the 2 cases of the validation part .* 4 of the 6 here were trained on"):
        RunCases(weights).divide(changed)


def test_a_part_of_the_held_out_cases_alone_is_another_data_set(items, weights):
    recorded = RunCases(weights)
    assert ids(recorded.divide(items[4:5])["validation"]) == "e"
    assert recorded.origin == "another data set than that of the training"


def test_cases_named_for_an_evaluation_must_not_have_been_trained_on(tmp_path, items, weights):
    assert ids(RunCases(weights).check(items[4:])) == "ef"
    copies = items_of(tmp_path / "copies", "xy", content="a")
    with pytest.raises(ValueError, match=r"2 of the 2 cases were trained on by .*model.pt' \(x, y\)"):
        RunCases(weights).check(copies)


def test_a_case_that_any_of_several_weights_learnt_from_is_left_out(tmp_path, items, weights, caplog):
    other = run_of(tmp_path / "other", training=items[2:5], validation=items[:2])
    recorded = RunCases([weights, other])
    assert ids(recorded.divide(items)["validation"]) == "f"
    assert "1 of the 2 cases of the validation part are left out" in caplog.text
    third = run_of(tmp_path / "third", training=items, validation=[])
    with pytest.raises(ValueError, match="all 2 cases of the validation part .* score another data set"):
        RunCases([weights, third]).divide(items)


def test_a_case_that_the_initial_weights_learnt_from_is_left_out(items, weights):
    run = json.loads((weights.parent / "run.json").read_text())
    run["init_weights"] = {"file": "w.pt", "sha256": "", "training": {"other name": case_digests(items)["e"]}}
    (weights.parent / "run.json").write_text(json.dumps(run))
    recorded = RunCases(weights)
    assert ids(recorded.divide(items)["validation"]) == "f"
    assert recorded.origin == "the validation part of the training, without 1 whose images were trained on"


def test_parts_by_place_are_those_of_the_run(tmp_path, items):
    weights = run_of(
        tmp_path / "run", training=items[:2], validation=items[2:3], calibration=items[3:4], test=items[4:]
    )
    recorded = RunCases(weights, parts=("calibration", "test"))
    parts = split_by_place(items, test_fraction=0.5, seed=3, recorded=recorded)
    assert {part: ids(found) for part, found in parts.items()} == {
        "training": "ab", "validation": "c", "calibration": "d", "test": "ef"
    }  # fmt: skip


def test_a_run_that_held_nothing_out_is_scored_on_other_data_alone(tmp_path, items):
    recorded = RunCases(run_of(tmp_path / "run", training=items, test=[]), parts=["test"])
    assert ids(recorded.divide(items_of(tmp_path / "other", "xyz"))["test"]) == "xyz"
    with pytest.raises(ValueError, match="held nothing out as its test part, and 6 of the 6 cases here were trained"):
        recorded.divide(items)


def test_what_a_run_does_not_record_is_divided_anew_with_a_warning(tmp_path, items, caplog):
    assert RunCases(tmp_path / "nothing" / "model.pt").divide(items) is None
    weights = run_of(tmp_path / "run", training=items)
    assert RunCases(weights).divide(items) is None
    assert caplog.text.count("cannot be checked") == 2
    (weights.parent / "run.json").write_text('{"cases": 3}')
    with pytest.raises(ValueError, match="run.json is damaged .* remove it"):
        read_trained_run(weights)
