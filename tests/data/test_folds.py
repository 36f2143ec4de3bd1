"""Folds: what belongs together stays together, areas are spread, and only names, contents and the seed matter."""

from __future__ import annotations

import random
import shutil
from collections import Counter

import numpy as np
import pytest

from monai_ext.data import folds as folds_module
from monai_ext.data import near_duplicates
from monai_ext.data.folds import assign_folds, fold_items, split_by_fold
from monai_ext.data.isic import lesion_items
from monai_ext.data.near_duplicates import duplicate_groups
from monai_ext.raster.images import ImageFileError

COUNT = 40  # phantoms, see conftest.py; three of them are there twice


@pytest.mark.parametrize("folds", [2, 5, 7])
def test_folds_keep_groups_together_and_differ_in_size_by_at_most_the_largest(items, cache, folds):
    assigned = assign_folds(items, folds=folds, cache_dir=cache)
    sizes = Counter(assigned)
    assert sorted(sizes) == list(range(folds))
    assert max(sizes.values()) - min(sizes.values()) <= 2
    by_group: dict[str, set[int]] = {}
    for group, fold in zip(duplicate_groups(items, cache_dir=cache), assigned, strict=True):
        by_group.setdefault(group, set()).add(fold)
    assert all(len(members) == 1 for members in by_group.values())


def test_every_deal_of_neighbouring_areas_reaches_every_fold(monkeypatch):
    areas = np.random.default_rng(0).permutation(np.arange(100) / 100)
    contents = near_duplicates.Contents(np.arange(100), areas)
    monkeypatch.setattr(folds_module, "sorted_contents", lambda items, cache_dir: (list(range(100)), contents))
    assigned = np.array(assign_folds([{"id": str(n)} for n in range(100)], folds=5))
    for start in range(0, 100, 5):
        deal = (areas >= start / 100 - 1e-9) & (areas < (start + 5) / 100 - 1e-9)
        assert sorted(assigned[deal]) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("seed", range(5))
def test_sizes_stay_balanced_whatever_the_groups(monkeypatch, seed):
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(60), rng.integers(1, 9, 60))
    count = len(groups)
    contents = near_duplicates.Contents(groups, rng.random(count))
    monkeypatch.setattr(folds_module, "sorted_contents", lambda items, cache_dir: (list(range(count)), contents))
    sizes = Counter(assign_folds([{"id": str(n)} for n in range(count)], folds=4, seed=seed))
    assert max(sizes.values()) - min(sizes.values()) <= np.bincount(groups).max()


def test_order_and_place_of_the_files_do_not_matter_but_the_seed_does(items, dataset, cache, tmp_path):
    expected = dict(zip((item["id"] for item in items), assign_folds(items, cache_dir=cache), strict=True))
    shuffled = random.Random(0).sample(items, len(items))
    assert [expected[item["id"]] for item in shuffled] == assign_folds(shuffled, cache_dir=cache)
    moved = lesion_items(shutil.copytree(dataset, tmp_path / "elsewhere"))
    assert list(expected.values()) == assign_folds(moved, cache_dir=tmp_path / "cache")
    other = assign_folds(items, seed=1, cache_dir=cache)
    assert sum(a != b for a, b in zip(expected.values(), other, strict=True)) > COUNT / 2


def test_items_without_labels_are_dealt_by_chance(items, tmp_path):
    bare = [{"id": item["id"], "image": item["image"]} for item in items]
    sizes = Counter(assign_folds(bare, cache_dir=tmp_path))
    assert max(sizes.values()) - min(sizes.values()) <= 2


def test_all_cases_can_be_trained_on_which_leaves_none_to_validate_on(items):
    assert fold_items(items, "all") == items
    with pytest.raises(ValueError, match="fold is 'all'.*another part"):
        fold_items(items, "all", part="validation")


def test_a_run_on_all_cases_validates_some_of_them_with_a_warning(items, cache, caplog):
    parts = split_by_fold(items, "all", cache_dir=cache)
    assert parts["training"] == items and parts["validation"] == fold_items(
        items, 0, part="validation", cache_dir=cache
    )
    assert "are trained on as well, so that none has a score" in caplog.text


def test_training_and_validation_are_complementary_and_validation_parts_cover_all(items, cache):
    seen = []
    for fold in range(5):
        training = fold_items(items, fold, cache_dir=cache)
        validation = fold_items(items, fold, part="validation", cache_dir=cache)
        assert sorted(i["id"] for i in training + validation) == sorted(i["id"] for i in items)
        assert training == [item for item in items if item not in validation]
        seen += validation
    assert sorted(i["id"] for i in seen) == sorted(i["id"] for i in items)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda items, cache: fold_items(items, 5, cache_dir=cache), r"fold is 5: with folds=5 it lies in 0 \.\.\. 4"),
        (lambda items, cache: fold_items(items, -1, cache_dir=cache), "fold is -1"),
        (lambda items, cache: fold_items(items, 0, part="test", cache_dir=cache), "part is 'test': choose"),
        (lambda items, cache: assign_folds(items, folds=1, cache_dir=cache), "folds is 1: .* at least 2"),
        (lambda items, cache: assign_folds([], cache_dir=cache), "no items to divide"),
        (lambda items, cache: assign_folds(items + items[:1], cache_dir=cache), "two items have the id colour"),
        (
            lambda items, cache: assign_folds(items, folds=42, cache_dir=cache),
            f"folds is 42, but the {COUNT + 3} images form only {COUNT} groups .* choose folds <= {COUNT}",
        ),
    ],
)
def test_wrong_arguments_get_one_sentence(items, cache, call, message):
    with pytest.raises(ValueError, match=message):
        call(items, cache)


def test_an_unreadable_image_is_named(items, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    with pytest.raises(ImageFileError, match="bad.jpg"):
        assign_folds([*items, {"id": "bad", "image": str(tmp_path / "bad.jpg")}], cache_dir=tmp_path)


def slices_of(names, slices=1):
    return [{"case": name, "id": f"{name}_z{z}", "slice": z} for name in names for z in range(slices)]


def test_all_slices_of_a_case_share_a_fold_and_folds_partition_the_items():
    items = slices_of([f"case{n}" for n in range(11)], slices=3)
    parts = [fold_items(items, fold, part="validation", folds=4) for fold in range(4)]
    assert sorted(item["id"] for part in parts for item in part) == sorted(item["id"] for item in items)
    cases = [{item["case"] for item in part} for part in parts]
    assert sorted(map(len, cases)) == [2, 3, 3, 3] and sum(map(len, cases)) == len(set().union(*cases))
    training = fold_items(items, 1, folds=4)
    assert training == [item for item in items if item["case"] not in cases[1]]


def test_folds_of_cases_depend_on_names_and_seed_alone():
    items = slices_of([f"case{n}" for n in range(12)])
    folds = dict(zip((item["id"] for item in items), assign_folds(items, folds=3), strict=True))
    moved = [{**item, "image": f"/elsewhere/{item['id']}"} for item in items]
    random.Random(1).shuffle(moved)
    assert {i["id"]: f for i, f in zip(moved, assign_folds(moved, folds=3), strict=True)} == folds
    assert assign_folds(items, folds=3, seed=1) != assign_folds(items, folds=3)


def test_a_large_case_is_balanced_by_many_small_ones():
    items = slices_of(["large"], slices=6) + slices_of([f"small{n}" for n in range(6)])
    folds = assign_folds(items, folds=2)
    assert len(set(folds[:6])) == 1 and sorted((folds.count(0), folds.count(1))) == [6, 6]


@pytest.mark.parametrize("seed", range(5))
def test_with_as_many_folds_as_groups_each_group_is_a_fold(tmp_path, seed):
    sites = {f"image{number}": "abcd"[min(number // 3, 3)] for number in range(24)}  # three of a, b, c and fifteen of d
    table = tmp_path / "sites.csv"
    table.write_text("id,site\n" + "".join(f"{name},{site}\n" for name, site in sites.items()), encoding="utf-8")
    items = [{"id": name, "image": f"{name}.png"} for name in sites]
    assigned = assign_folds(items, folds=4, seed=seed, group=f"{table}:site")
    assert len(set(zip(assigned, sites.values(), strict=True))) == 4


@pytest.mark.parametrize("group", [r"case\d+", r"(\d+)-", lambda item: item["case"].split("-")[0]])
def test_groups_stay_together(group):
    items = slices_of([f"case{patient}-{part}" for patient in range(6) for part in (1, 2)])
    folds = assign_folds(items, folds=3, group=group)
    assert folds[::2] == folds[1::2] and sorted(folds) == [0] * 4 + [1] * 4 + [2] * 4


def test_impossible_folds_of_cases_are_refused():
    items = slices_of(["case1", "case2"])
    for settings, message in (
        ({"folds": 1}, "folds is 1: cross-validation needs at least 2"),
        ({"folds": 3}, "folds is 3, but the 2 items form only 2 groups"),
        ({"folds": 2, "group": "patient"}, "group is 'patient', which is not found in the name of case case1"),
    ):
        with pytest.raises(ValueError, match=message):
            assign_folds(items, **settings)
    with pytest.raises(ValueError, match="fold is 2: with folds=2"):
        fold_items(items, 2, folds=2)
    with pytest.raises(ValueError, match="part is 'test'"):
        fold_items(items, 0, part="test", folds=2)


def test_images_that_are_given_a_group_are_divided_by_it_and_not_read():
    items = [{"id": f"lesion{n // 3}_{n % 3}", "image": "nowhere.jpg"} for n in range(12)]
    assigned = assign_folds(items, folds=2, group=r"lesion(\d+)")
    assert sorted(Counter(assigned).values()) == [6, 6]
    assert all(len(set(assigned[3 * n : 3 * n + 3])) == 1 for n in range(4))


def test_the_assignments_that_shipped_weights_were_trained_with_stay(monkeypatch):
    cases = [{"case": f"case{n}"} for n in range(12)]
    assert assign_folds(cases, folds=3) == [0, 2, 1, 2, 0, 1, 1, 2, 0, 0, 2, 1]
    slices = [{"case": f"case{n // 2}"} for n in range(12)]
    assert assign_folds(slices, folds=3, seed=5) == [2, 2, 1, 1, 0, 0, 0, 0, 2, 2, 1, 1]
    groups = np.array([0, 0, 1, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9, 9, 10, 10, 11, 11])
    areas = np.array(
        [0.607, 0.729, 0.544, 0.935, 0.816, 0.003, 0.857, 0.034, 0.73, 0.176, 0.863, 0.541, 0.3, 0.423, 0.028, 0.124,
         0.671, 0.647]
    )  # fmt: skip
    contents = near_duplicates.Contents(groups, areas)
    monkeypatch.setattr(folds_module, "sorted_contents", lambda items, cache_dir: (list(range(18)), contents))
    assigned = assign_folds([{"id": f"i{n:02d}"} for n in range(18)], folds=3)
    assert assigned == [1, 1, 0, 0, 2, 2, 1, 2, 0, 1, 2, 0, 1, 1, 0, 0, 2, 2]
