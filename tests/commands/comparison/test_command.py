"""The command `compare`: its options, the search before it, and the report after it."""

from __future__ import annotations

import functools

import pytest
from compare_command import command
from fake_bundle import IDS, fake_commands, times

from monai_ext.commands.command_line import option_pairs
from monai_ext.commands.comparison import command as module
from monai_ext.commands.comparison.compare import compare

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = functools.partial(compare, make_commands=fake_commands, list_ids=lambda _: IDS)
    monkeypatch.setattr("monai_ext.storage.pictures.DPI", 20)
    monkeypatch.setattr(module, "compare", stand_in)
    monkeypatch.setattr("monai_ext.commands.comparison.search.compare", stand_in)


def test_unknown_options_reach_the_bundle_and_are_never_taken_for_abbreviations(place):
    options, further = command(place, "--seeds", "0", "3", "--max_epochs", "10", "--loss", "x", "--train#lr=-1")
    assert (options.losses, options.seeds, options.no_report) == (("bce", "dice"), (0, 3), False)
    assert option_pairs(further) == {"max_epochs": "10", "loss": "x", "train#lr": "-1"}


def test_the_command_writes_the_report_and_fails_when_a_run_failed(place, faked, capfd):
    (place / "bundle/control/fail_train_dice").touch()
    assert module.run(*command(place)) == 1
    assert f"log: {place / 'out/dice/fold0_seed0/run.log'}" in capfd.readouterr().err
    assert "Incomplete: 2 of 4 runs are missing" in (place / "out/report/report.md").read_text()
    (place / "bundle/control/fail_train_dice").unlink()
    assert module.run(*command(place, "--no_report")) == 0
    assert "Incomplete" in (place / "out/report/report.md").read_text()  # not written again


def test_a_part_leaves_the_report_to_a_command_of_its_own(place, faked):
    assert module.run(*command(place, "--part", "2/2")) == 0
    assert set(times(place, "train")) == {"dice/fold0_seed0", "dice/fold1_seed0"}
    assert not (place / "out/report").exists()


def test_a_search_comes_before_the_comparison_and_stands_in_the_report(place, faked):
    search = ("--search", "lr", "0.1", "0.2")
    (place / "bundle/control/fail_train_dice").touch()
    assert module.run(*command(place, *search)) == 1 and not (place / "out/report").exists()
    (place / "bundle/control/fail_train_dice").unlink()
    assert module.run(*command(place, *search)) == 0
    page = (place / "out/report/report.md").read_text()
    assert (
        "lr, chosen on fold 0" in page
        and "its scores are optimistic" in page
        and "| BCE | 90.00 (chosen) | 90.00 |" in page
    )
