"""Cases of a run are known by their images, and none that was learnt from is scored."""

from __future__ import annotations

import shutil

import msgspec
import pytest

from monai_ext.data.run_cases import RUN_FILE, InitialWeights, RunCases, TrainedRun, case_digests, read_trained_run

PARTS = {"training": ["a", "b"], "validation": ["c", "d"]}


@pytest.fixture
def items(tmp_path):
    found = []
    for name in "abcd":
        (tmp_path / f"{name}.png").write_bytes(name.encode() * 9)
        found.append({"id": name, "image": str(tmp_path / f"{name}.png")})
    return found


def write_run(folder, items, parts=PARTS, **fields) -> None:
    digests = case_digests(items)
    cases = {part: {name: digests[name] for name in names} for part, names in parts.items()}
    folder.mkdir(exist_ok=True)
    (folder / RUN_FILE).write_bytes(msgspec.json.encode(TrainedRun(cases=cases, **fields)))


def ids(items) -> list[str]:
    return [item["id"] for item in items]


def test_digests_are_of_the_images_and_of_the_place_in_a_file(items, tmp_path):
    shutil.copy(items[0]["image"], tmp_path / "copy.png")
    rows = [{"id": i, "image": items[0]["image"], "slice": i} for i in range(2)]
    found = case_digests([*items, {"id": "copy", "image": tmp_path / "copy.png"}, {"id": "gone", "image": "no"}, *rows])
    assert found["a"] == found["copy"] != found["b"] and len(found["a"]) == 16 and found["gone"] == ""
    assert len({found["a"], found["0"], found["1"]}) == 3


def test_the_validation_part_is_found_again_whatever_was_added(items, tmp_path, caplog):
    write_run(tmp_path / "run", items)
    (tmp_path / "e.png").write_bytes(b"e")
    cases = RunCases(tmp_path / "run" / "model.pt")
    with caplog.at_level("INFO"):
        divided = cases.divide([{"id": "e", "image": str(tmp_path / "e.png")}, *items])
    assert ids(divided["validation"]) == ["c", "d"] and ids(divided["training"]) == ["a", "b"]
    assert "1 cases that the training did not have are left out" in caplog.text
    assert cases.origin == "the validation part of the training"


def test_a_part_that_is_not_all_there_beside_training_cases_is_refused(items, tmp_path):
    write_run(tmp_path / "run", items)
    with pytest.raises(ValueError, match=r"1 of the 2 cases of the validation part .* 2 of the 3 .* \(a, b\)"):
        RunCases(tmp_path / "run").divide(items[:3])


def test_a_data_set_without_training_cases_is_scored_whole_or_divided_anew(items, tmp_path):
    write_run(tmp_path / "run", items)
    other = [{"id": "x", "image": str(tmp_path / "x.png")}]
    (tmp_path / "x.png").write_bytes(b"x")
    assert RunCases(tmp_path / "run").divide(other) == {"validation": other}
    assert RunCases(tmp_path / "run", ("training", "validation")).divide(other) is None


def test_cases_of_another_id_with_a_training_image_are_refused(items, tmp_path):
    write_run(tmp_path / "run", items)
    with pytest.raises(ValueError, match=r"1 of the 2 cases were trained on by .* \(renamed\)"):
        RunCases(tmp_path / "run").check([{"id": "renamed", "image": items[0]["image"]}, items[2]])
    assert ids(RunCases(tmp_path / "run").check(items[2:])) == ["c", "d"]


def test_what_any_of_the_weights_or_their_beginning_learnt_from_is_left_out(items, tmp_path):
    write_run(tmp_path / "first", items)
    begun = InitialWeights(file="w.pt", sha256="", training={"c": case_digests(items)["c"]})
    write_run(tmp_path / "second", items, {"training": ["a"]}, init_weights=begun)
    cases = RunCases([tmp_path / "first", tmp_path / "second"])
    assert ids(cases.divide(items)["validation"]) == ["d"]
    assert cases.origin.endswith("without 1 whose images were trained on")
    write_run(tmp_path / "second", items, {"training": ["c", "d"]})
    with pytest.raises(ValueError, match="all 2 cases of the validation part have images that the weights"):
        cases.divide(items)


def test_weights_without_a_record_are_scored_with_a_warning(items, tmp_path, caplog):
    (tmp_path / "run").mkdir()
    assert read_trained_run(tmp_path / "run") is None
    assert RunCases(tmp_path / "run").divide(items) is None and "no run.json lies beside them" in caplog.text
    (tmp_path / "run" / RUN_FILE).write_text("{}")
    assert ids(RunCases(tmp_path / "run").check(items)) == list("abcd") and "does not record it" in caplog.text
    (tmp_path / "run" / RUN_FILE).write_text("[")
    with pytest.raises(ValueError, match="take it from a copy of the run"):
        read_trained_run(tmp_path / "run")
