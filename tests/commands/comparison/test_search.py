"""The search before a comparison, with a stand-in for the bundle whose scores are known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fake_bundle import IDS, fake_commands, times

from monai_ext.commands.comparison.compare import ComparisonError, Plan, compare
from monai_ext.commands.comparison.search import search

pytestmark = pytest.mark.usefixtures("impatient")

SCORES = {"bce": {"0.1": "0.5", "0.2": "0.7", "0.4": "0.6"}, "dice": {"0.1": "0.8", "0.2": "0.7", "0.4": "0.8"}}


def commands(plan: Plan, loss: str, fold: int, seed: int, folder: Path) -> tuple[tuple[str, ...], ...]:
    value = (plan.arguments | plan.loss_arguments.get(loss, {}))["lr"]
    return tuple((*words, SCORES[loss][value]) for words in fake_commands(plan, loss, fold, seed, folder))


HOW = {"make_commands": commands, "list_ids": lambda _: IDS}


def plan_of(place: Path, **changes: object) -> Plan:
    choices = {"losses": ("bce", "dice"), "folds": 2, "seeds": (3, 4)} | changes
    return Plan(place / "bundle", place / "data", place / "out", **choices)


def test_each_loss_keeps_its_best_value_and_the_runs_of_the_search_are_not_repeated(place):
    plan, failed = search(plan_of(place), ["lr", "0.1", "0.2", "0.4"], **HOW)
    assert failed == [] and plan.loss_arguments == {"bce": {"lr": "0.2"}, "dice": {"lr": "0.1"}}  # of equals the first
    record = json.loads((place / "out/search.json").read_text())
    assert record["dice"] == {"bce": [0.5, 0.7, 0.6], "dice": [0.8, 0.7, 0.8]}
    assert record["chosen"] == {"bce": "0.2", "dice": "0.1"}
    assert compare(plan, **HOW) == []
    assert set(times(place, "train")) == {f"{loss}/fold{f}_seed{s}" for loss in SCORES for f in (0, 1) for s in (3, 4)}
    of_search = [len(path.read_text().split()) for path in (place / "out/search").glob("*/*/*/train.txt")]
    assert of_search == [1] * 6  # one fold, one seed
    settings = json.loads((place / "out/bce/fold0_seed3/finished.json").read_text())["settings"]
    assert settings["arguments"] == {"lr": "0.2"}
    assert search(plan_of(place), ["lr", "0.1", "0.2", "0.4"], **HOW) == (plan, []) and compare(plan, **HOW) == []
    assert len((place / "out/bce/fold0_seed3/train.txt").read_text().split()) == 1


def test_losses_that_are_added_later_stand_beside_the_earlier_ones(place):
    words = ["lr", "0.1", "0.2"]
    for losses in (("bce",), ("dice",)):
        plan, failed = search(plan_of(place, losses=losses), words, **HOW)
        assert failed == [] and compare(plan, **HOW) == []
    assert plan.loss_arguments == {"bce": {"lr": "0.2"}, "dice": {"lr": "0.1"}}


def test_a_failed_run_leaves_the_choice_to_the_next_time(place):
    (place / "bundle/control/fail_train_dice").touch()
    plan, failed = search(plan_of(place), ["lr", "0.1", "0.2"], **HOW)
    assert [outcome.run.loss for outcome in failed] == ["dice"] * 2 and not plan.loss_arguments
    assert not (place / "out/search.json").exists() and not (place / "out/bce").exists()


def test_a_part_needs_what_a_search_has_chosen(place):
    words = ["lr", "0.1", "0.2"]
    with pytest.raises(ComparisonError, match="part 1/2: no lr has been chosen for bce yet.*without --part"):
        search(plan_of(place), words, part=(1, 2), **HOW)
    plan, _ = search(plan_of(place), words, **HOW)
    assert search(plan_of(place), words, part=(1, 2), **HOW) == (plan, [])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["lr", "0.1"], "search = lr 0.1: give the name of a setting and two or more"),
        (["lr", "0.1", "0.1"], "two or more of its values"),
        (["fold", "0", "1"], "fold has a value in this comparison already"),
        (["max_epochs", "1", "2"], "max_epochs has a value"),
        (["path", "a", "b/c"], "'b/c' cannot be part of a folder's name"),
        (["lr", "0.1", "0.4"], "search.json is of lr with the values 0.1, 0.2: search for the same"),
    ],
)
def test_a_search_that_cannot_be_made_is_refused(place, words, sentence):
    (place / "out").mkdir()
    (place / "out/search.json").write_text(json.dumps({"setting": "lr", "values": ["0.1", "0.2"]}))
    with pytest.raises(ComparisonError, match=sentence):
        search(plan_of(place, arguments={"max_epochs": "3"}), words, **HOW)


@pytest.mark.parametrize("change", [{"chosen": {"bce": "3"}}, {"chosen": {}}, {"dice": {"bce": [0.5]}}])
def test_a_damaged_record_is_named_with_the_way_out(place, change):
    (place / "out").mkdir()
    record = {"setting": "lr", "values": ["1", "2"], "dice": {"bce": [0.5, 0.6]}, "chosen": {"bce": "2"}}
    (place / "out/search.json").write_text(json.dumps(record | change))
    with pytest.raises(ComparisonError, match="search.json.*each loss needs.*remove it"):
        search(plan_of(place), ["lr", "1", "2"], **HOW)
