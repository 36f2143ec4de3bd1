"""Split files of every form."""

from __future__ import annotations

import json

import pytest

from monai_ext.data import fold_items, split_by_fold
from monai_ext.data.folds import assign_folds
from monai_ext.data.split_files import groups_in, read_split_file

ITEMS = [{"id": name, "image": name} for name in "abcd"]


def ids(parts) -> dict[str, str]:
    return {part: "".join(item["id"] for item in items) for part, items in parts.items()}


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("name", "content", "fold", "expected"),
    [
        ("s.csv", "id,fold\na,0\nb,1\nc,1\nd,2\n", 1, {"training": "ad", "validation": "bc"}),
        ("s.csv", "id,fold\na,0\nb,1\nc,1\nd,2\n", "all", {"training": "abcd", "validation": ""}),
        ("s.csv", "image_id,part\nd,Train\nc,val\nb,test\na,training\n", 4, {"training": "ad", "validation": "c"}),
        ("s.csv", "\ufeffid,split\na,train\nb,valid\nc,testing\nd,train\n", 0, {"training": "ad", "validation": "b"}),
        ("s.csv", "\ufeffid;split\r\na;train\r\nb;valid\r\nc;testing\r\nd;train\r\n", 0,
         {"training": "ad", "validation": "b"}),
        ("s.tsv", "id\tsplit\na\ttrain\nb\tvalid\nc\ttesting\nd\ttrain\n", 0, {"training": "ad", "validation": "b"}),
        ("s.json", [{"id": "a", "fold": 0}, {"id": "b", "fold": 1}, {"id": "c", "fold": 0}, {"id": "d", "fold": 0}], 0,
         {"training": "b", "validation": "acd"}),
        ("s.json", {"train": ["a", "b"], "val": ["c"], "test": ["d"]}, 0, {"training": "ab", "validation": "c"}),
        ("s.json", [{"train": list("abc"), "val": ["d"]}, {"train": list("bcd"), "val": ["a"]}], 1,
         {"training": "bcd", "validation": "a"}),
    ],
)  # fmt: skip
def test_parts_are_those_of_the_file(name, content, fold, expected, tmp_path):
    path = write(tmp_path / name, content)
    assert ids(split_by_fold(ITEMS, fold, split_file=path)) == expected
    for part, names in expected.items():
        assert "".join(item["id"] for item in fold_items(ITEMS, fold, part=part, split_file=path)) == names


def test_slices_and_tasks_are_named_by_their_case(tmp_path):
    path = write(tmp_path / "s.csv", "id,fold\nx,0\ny,1\n")
    items = [{"id": f"{case}_z{z}", "case": case} for case in "xy" for z in range(2)]
    assert [item["id"] for item in fold_items(items, 0, part="validation", split_file=path)] == ["x_z0", "x_z1"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("s.csv", "id,fold\na,0\nb,1\n", r"does not have 2 of the 4 cases \(c, d\)"),
        ("s.csv", "id,fold\na,1\nb,1\nc,1\nd,2\n", "has the folds 1, 2, and no fold 0"),
        ("s.csv", "id,fold\na,0\na,1\n", "has a twice, with fold 0 and 1"),
        ("s.csv", "id,fold\na,x\n", "has the fold 'x' for a"),
        ("s.csv", "id,part\na,dev\n", "has the part 'dev' for a: choose training"),
        ("s.csv", "id,part\na,train\nb,train\nc,test\nd,train\n", "leaves no case for validation in fold 0"),
        ("s.csv", "id,place\na,train\n", "has no column fold or part, only id, place"),
        ("s.csv", "name,fold\na,0\n", "has no column of the cases: name it id"),
        ("s.csv", "id,fold\n", "has no rows"),
        ("s.json", {"train": ["a"], "val": ["a"]}, "has a in two parts, training and validation"),
        ("s.json", {"train": ["a"], "dev": ["b"]}, "has the part 'dev'"),
        ("s.json", "{", "is no JSON"),
        ("s.json", "3", "is no split file"),
    ],
)
def test_a_wrong_file_is_one_sentence(name, content, message, tmp_path):
    path = write(tmp_path / name, content)
    with pytest.raises(ValueError, match=rf"{name} {message}"):
        split_by_fold(ITEMS, 0, split_file=path)


def test_a_missing_file_is_named(tmp_path):
    for name in ("none.csv", "none.json"):
        with pytest.raises(ValueError, match=rf"cannot read .*{name}"):
            read_split_file(tmp_path / name)


def test_what_a_column_names_stays_in_one_fold(tmp_path):
    path = write(tmp_path / "meta.csv", "lesion_id,image_id\nL1,a\nL1,b\nL2,c\nL3,d\n")
    assert groups_in(path, "lesion_id") == {"a": "L1", "b": "L1", "c": "L2", "d": "L3"}
    folds = assign_folds(ITEMS, folds=3, group=f"{path}:lesion_id")
    assert folds[0] == folds[1] and sorted(set(folds)) == [0, 1, 2]
    with pytest.raises(ValueError, match="has no column 'patient': there are lesion_id, image_id"):
        assign_folds(ITEMS, folds=2, group=f"{path}:patient")
    with pytest.raises(ValueError, match=r"meta\.csv does not have 1 of the cases \(e\)"):
        assign_folds([*ITEMS, {"id": "e"}], folds=2, group=f"{path}:lesion_id")
