"""The report of fabricated runs whose winner, gaps and traps are known."""

from __future__ import annotations

import base64
import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from fabricated_comparison import CASES, dice_of, write_comparison, write_run
from PIL import Image

from monai_ext.commands.comparison import report as module
from monai_ext.commands.comparison.figures import (
    PairRow,
    case_figure,
    dice_figure,
    pair_figure,
)
from monai_ext.commands.comparison.report import report
from monai_ext.commands.comparison.results import METRICS, ResultsError, read_results
from monai_ext.commands.comparison.summaries import PairSummary, loss_summaries, pair_summaries
from monai_ext.commands.html import Heading, Picture, Table, Text, html_page, markdown_page
from monai_ext.commands.plotting import OKABE_ITO, colours_of


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return write_comparison(tmp_path)


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a whole comparison, to be read only."""
    return report(write_comparison(tmp_path_factory.mktemp("whole"))).parent


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch) -> list:
    """Figures are collected instead of drawn, which takes most of a report's time."""
    figures = []

    def keep(figure, path: Path) -> Path:
        figures.append(figure)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return path

    monkeypatch.setattr(module, "save_figure", keep)
    return figures


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


class _Checker(HTMLParser):
    """Collects tags, checks that they are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict]] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def tags(page: str) -> list[tuple[str, dict]]:
    checker = _Checker()
    checker.feed(page)
    assert not checker.open
    return checker.found


# --------------------------------------------------------------------------------------------------------- results


def test_results_are_the_written_numbers_in_their_places(runs):
    results = read_results(runs)
    assert (results.losses, results.folds, results.seeds) == (("bce", "dice", "jaccard"), 2, (0,))
    expected = [[[dice_of(loss, case) for case in range(CASES)]] for loss in results.losses]
    np.testing.assert_array_equal(results.values["dice"], expected)
    np.testing.assert_array_equal(results.fold_of, [np.arange(CASES) % 2])
    assert results.missing == () and results.groups is None
    assert results.seconds["bce", 0, 0] == 180.0
    np.testing.assert_allclose(results.curves["bce"]["train_loss"], [[1, 1 / 2, 1 / 3]] * 2)
    assert np.isnan(results.curves["bce"]["val_mean_dice"][:, 0]).all()


def test_missing_runs_are_listed_and_leave_holes(runs):
    (runs / "dice/fold1_seed0/finished.json").unlink()
    results = read_results(runs)
    assert results.missing == (("dice", 1, 0),)
    assert np.isnan(results.values["dice"][1, 0, 1::2]).all()
    assert not np.isnan(results.values["dice"][1, 0, 0::2]).any()


def test_an_undefined_precision_is_left_out_and_counted(runs):
    edit(runs / "bce/fold0_seed0/evaluation/cases.csv", "case00,0.7,0.5384615384615384,0.7,", "case00,0.7,0.538,,")
    results = read_results(runs)
    assert results.undefined["precision"] == 1 and results.undefined["dice"] == 0
    summary = loss_summaries(results, "precision")[0]
    assert summary.cases == CASES - 1
    assert summary.case_mean == pytest.approx(np.mean([dice_of("bce", case) for case in range(1, CASES)]))


def test_a_repeated_epoch_of_a_resumed_run_counts_once(runs):
    path = runs / "bce/fold0_seed0/epochs.csv"
    path.write_text(path.read_text() + "3,0.25,0.9,0.001,60\n")
    assert read_results(runs).curves["bce"]["train_loss"][0].tolist() == [1, 0.5, 0.25]


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("evaluation/cases.csv", "case02,", "case00,", "line 3: case 'case00' appears twice"),
        ("evaluation/cases.csv", "case02,0.712", "case02,71.2", "line 3: dice is '71.2', not a number from 0 to 1"),
        ("evaluation/cases.csv", "case02,0.712", "case02,high", "dice is 'high'"),
        ("evaluation/cases.csv", "specificity", "spec", "has no column 'specificity'"),
        ("epochs.csv", "epoch,", "step,", "epochs.csv is damaged"),
        ("finished.json", "{", "", "finished.json is damaged"),
        ("finished.json", '"fold"', '"part"', "missing required field fold"),
        ("finished.json", '"fold": 0', '"fold": 1', "does not name its loss, fold and seed"),
    ],
)
def test_a_damaged_run_is_named_with_file_and_reason(runs, file, old, new, message):
    edit(runs / "bce/fold0_seed0" / file, old, new)
    with pytest.raises(ResultsError, match=message) as error:
        read_results(runs)
    assert "fold0_seed0" in str(error.value)


def test_losses_that_saw_other_cases_cannot_be_paired(runs):
    edit(runs / "dice/fold0_seed0/evaluation/cases.csv", "case02,", "stranger,")
    with pytest.raises(ResultsError, match="validated different cases"):
        read_results(runs)


def test_a_case_in_two_folds_is_an_error(runs):
    for loss in ("bce", "dice", "jaccard"):
        edit(runs / loss / "fold1_seed0/evaluation/cases.csv", "case01,", "case00,")
    with pytest.raises(ResultsError, match="'case00' is validated in fold 0 and in fold 1 of seed 0"):
        read_results(runs)


def test_nothing_to_report_is_said(tmp_path):
    with pytest.raises(ResultsError, match="no finished run"):
        read_results(tmp_path)
    with pytest.raises(FileNotFoundError, match="give the --output_dir of a comparison"):
        read_results(tmp_path / "nothing")


# ------------------------------------------------------------------------------------------------------- summaries


def test_summaries_agree_with_a_plain_computation(runs):
    summary = loss_summaries(read_results(runs), "dice")[1]
    folds = [np.mean([dice_of("dice", case) for case in range(fold, CASES, 2)]) for fold in (0, 1)]
    assert summary.by_fold.mean == pytest.approx(np.mean(folds))
    assert summary.by_fold.sd == pytest.approx(np.std(folds, ddof=1))
    assert summary.case_mean == pytest.approx(np.mean(folds))
    assert summary.low < summary.case_mean < summary.high
    assert (summary.cases, summary.first) == (CASES, 1.0)


def test_the_constructed_winner_is_claimed_and_the_constructed_tie_is_not(runs):
    pairs = {(pair.first, pair.second): pair for pair in pair_summaries(read_results(runs), "dice")}
    winner, tie = pairs["bce", "dice"], pairs["bce", "jaccard"]
    assert winner.claimed and winner.rank_biserial == -1.0
    assert winner.difference == pytest.approx(-0.02 - 0.0001 * 19.5)
    assert (winner.folds_for_first, winner.folds, winner.n) == (0, 2, CASES)
    assert not tie.claimed and tie.difference == pytest.approx(0.0, abs=1e-9)


def test_groups_widen_the_interval_and_shrink_the_sample(tmp_path):
    for folder, columns in (("alone", {}), ("grouped", {"group": lambda case: f"patient{case // 8}"})):
        for loss in ("bce", "jaccard"):
            for fold in (0, 1):
                write_run(tmp_path / folder, loss, fold, **columns)
    alone, grouped = (loss_summaries(read_results(tmp_path / name), "dice")[0] for name in ("alone", "grouped"))
    assert grouped.high - grouped.low > 1.5 * (alone.high - alone.low)
    assert pair_summaries(read_results(tmp_path / "grouped"), "dice")[0].n <= 5


@pytest.mark.parametrize(
    ("changes", "claimed"),
    [
        ({}, True),
        ({"p_holm": 0.06}, False),
        ({"low": -0.01}, False),
        ({"low": -0.03, "high": -0.01}, False),  # mean and ranks on different sides
        ({"low": -0.03, "high": -0.01, "rank_biserial": -0.5}, True),
        ({"p_holm": float("nan")}, False),
    ],
)
def test_a_claim_needs_the_test_and_the_interval_on_one_side(changes, claimed):
    assert pair(**changes).claimed is claimed


def pair(**changes: object) -> PairSummary:
    values = {"metric": "dice", "first": "bce", "second": "dice", "difference": 0.02, "low": 0.01, "high": 0.03}
    values |= {"cases": 40, "n": 40, "p": 0.01, "p_holm": 0.02, "rank_biserial": 0.5, "folds_for_first": 2, "folds": 2}
    return PairSummary(**(values | changes))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "BCE is better than Dice (by 2.00 points, 95 % interval +1.00 to +3.00; Holm p = 0.020)."),
        (
            {"difference": -0.02, "low": -0.03, "high": -0.01, "rank_biserial": -0.5, "p_holm": 1e-6},
            "Dice is better than BCE (by 2.00 points, 95 % interval +1.00 to +3.00; Holm p < 0.001).",
        ),
        (
            {"p_holm": 0.4, "low": -0.01},
            "No difference between BCE and Dice can be claimed (Holm p = 0.400; 2.00 points, 95 % interval "
            "-1.00 to +3.00).",
        ),
        (
            {"low": -0.01},
            "No difference between BCE and Dice can be claimed (Holm p = 0.020; 2.00 points, 95 % interval "
            "-1.00 to +3.00): the ranks differ, but not clearly the means.",
        ),
        (
            {"n": 5, "p_holm": 0.0625},
            "No difference between BCE and Dice can be claimed (Holm p = 0.062; 2.00 points, 95 % interval "
            "+1.00 to +3.00): with 5 differing cases the test cannot reach p < 0.05.",
        ),
    ],
)
def test_a_pair_in_words(changes, sentence):
    assert module._sentence(pair(**changes), {"bce": "BCE", "dice": "Dice"}) == sentence


# ---------------------------------------------------------------------------------------------------------- report


def test_the_report_names_the_winner_and_shows_the_table_of_the_work(reported):
    page = (reported / "report.md").read_text()
    assert "Highest mean Dice over cases: Dice, 83.89 %" in page
    assert "it ranks first in 100 % of bootstrap samples" in page
    assert "6 of 6 runs finished, 40 cases, 0.30 hours" in page
    assert re.search(r"^\| Dice \| 83\.89 ± 0\.43 \| .* \| 40 \| 2 \| 1 \|$", page, re.MULTILINE)
    assert "* No difference between BCE and Jaccard can be claimed (Holm p = " in page
    assert "* Dice is better than BCE (by 2.19 points" in page
    assert "| BCE | 92.55 ± 1.29 | 86.67 ± 1.99 | 88.31 ± 1.54 |" in page and "Tversky" not in page
    assert "One seed" in page and "Legacy average precision" in page


def test_the_html_page_is_whole_escaped_and_alone(reported):
    page = (reported / "report.html").read_text()
    found = tags(page)
    pictures = [attributes for tag, attributes in found if tag == "img"]
    assert len(pictures) == 4 and all(p["alt"] for p in pictures)
    for picture in pictures:
        assert base64.b64decode(picture["src"].removeprefix("data:image/png;base64,")).startswith(b"\x89PNG")
    assert "compare &lt;x&gt;" in page and "<x>" not in page
    assert not {tag for tag, _ in found} & {"script", "link", "iframe"}
    assert "http" not in re.sub(r'src="[^"]*"', "", page)


def test_tables_can_be_read_back(reported):
    with (reported / "cases.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * CASES
    row = next(r for r in rows if r["loss"] == "dice" and r["id"] == "case07")
    assert (float(row["dice"]), row["fold"], row["seed"]) == (dice_of("dice", 7), "1", "0")
    content = json.loads((reported / "report.json").read_text())
    assert {(r["loss"], r["metric"]) for r in content["losses"]} == {
        (x, m) for x in ("bce", "dice", "jaccard") for m in METRICS
    }
    assert content["losses"][0]["sd_over_seeds"] is None
    with (reported / "pairs.csv").open() as file:
        claims = {(r["metric"], r["first"], r["second"]): r["claimed"] for r in csv.DictReader(file)}
    assert claims["dice", "bce", "dice"] == "True" and claims["dice", "bce", "jaccard"] == "False"


def test_a_partial_comparison_says_what_is_missing_and_pairs_what_it_has(runs, without_figures):
    (runs / "dice/fold1_seed0/finished.json").unlink()
    for fold in (0, 1):
        (runs / f"jaccard/fold{fold}_seed0/finished.json").unlink()
    report(runs)
    page = (runs / "report/report.md").read_text()
    assert "Incomplete: 3 of 6 runs are missing" in page and "Dice, fold 1, seed 0" in page
    assert re.search(r"^\| Dice \| [\d.]+ ± – \| .* \| 20 \| 1 \| 1 \|$", page, re.MULTILINE)
    assert "BCE v Dice" in page and "0 of 1 | 20 |" in page
    assert "BCE v Jaccard" not in page


def test_one_loss_has_a_table_and_no_pairs(tmp_path, without_figures):
    write_run(tmp_path, "bce", 0)
    report(tmp_path)
    page = (tmp_path / "report/report.md").read_text()
    assert "Pairs of losses" not in page and "no figure of cases" in page
    assert (tmp_path / "report/pairs.csv").read_text().strip() == ""


def test_seeds_have_a_table_of_their_own(runs, without_figures):
    for loss in ("bce", "dice", "jaccard"):
        for fold in (0, 1):
            write_run(runs, loss, fold, seed=1)
    edit(runs / "plan.json", "[0]", "[0, 1]")
    report(runs)
    page = (runs / "report/report.md").read_text()
    assert re.search(r"\| Loss \| Seed 0 \| Seed 1 \| Standard deviation \|", page)
    assert "| Dice | 83.89 | 83.89 | 0.00 |" in page
    assert "12 of 12 runs" in page and "One seed" not in page


def test_mixed_software_is_said(runs, without_figures):
    edit(runs / "bce/fold0_seed0/finished.json", "2.13.0", "2.12.0")
    report(runs)
    assert "made with different software" in (runs / "report/report.md").read_text()


def test_the_command_says_where_the_report_lies(runs, without_figures, capsys):
    assert module.run(module.ReportOptions(runs, output_dir=runs / "new")) == 0
    assert f"report: {runs / 'new' / 'report.html'}" in capsys.readouterr().err
    assert (runs / "new/report.html").is_file()


# --------------------------------------------------------------------------------------------------------- figures


def test_cases_run_from_best_to_worst_with_their_ranks(runs, without_figures, monkeypatch):
    shown = []

    def spy(rows, names, colours):
        shown.extend(rows)
        return case_figure(rows, names, colours)

    monkeypatch.setattr(module, "case_figure", spy)
    report(runs)
    assert [row.title.split("\n")[0] for row in shown] == [f"case{n}" for n in ("38", "21", "12", "13", "07", "00")]
    assert shown[0].title.endswith("rank 2 of 40") and shown[-1].title.endswith("rank 39 of 40")  # case01 is last
    assert shown[0].dice == {loss: dice_of(loss, 38) for loss in ("bce", "dice", "jaccard")}
    assert shown[0].probabilities["dice"] == runs / "dice/fold0_seed0/evaluation/probabilities/case38.png"


def test_the_case_figure_binarises_above_one_half_and_frames_in_the_losses_colour(runs, without_figures):
    report(runs)
    axes = np.array(without_figures[2].axes[:-1]).reshape(
        6, 8
    )  # image, truth, 3 binary, 3 probability; colour bar last
    titles = [axis.get_title() for axis in axes[0]]
    assert titles[:3] == ["Image", "Target", "BCE\nbinary"] and titles[-1] == "Jaccard\nprobability"
    odd, even = axes[1, 2].images[0].get_array(), axes[0, 2].images[0].get_array()  # case21 (200) and case38 (100)
    assert odd.sum() == 6 * 8 and even.sum() == 0
    frame = axes[0, 3].spines["top"].get_edgecolor()
    assert np.allclose(frame[:3], [int(OKABE_ITO[1][i : i + 2], 16) / 255 for i in (1, 3, 5)])


def test_a_loss_has_one_colour_and_neighbours_differ():
    colours = colours_of(["a", "b", "c", "d", "e"])
    assert len(set(colours.values())) == 5
    assert colours_of(["a"])["a"] == colours["a"]


def test_axes_carry_units_and_counts():
    dice = {"bce": np.array([0.5, 0.7, 0.9]), "new": np.empty(0)}
    axis = dice_figure(dice, {"bce": "BCE", "new": "New"}, colours_of(["bce", "new"])).axes[0]
    assert axis.get_ylabel() == "Dice per case (%)"
    assert [label.get_text() for label in axis.get_xticklabels()] == ["BCE\nn = 3", "New\nn = 0"]
    assert [text.get_text() for text in axis.texts] == ["70.0"]
    axis = pair_figure([PairRow("BCE v New", 1.0, 0.5, 1.5, "p", True)], cases="n = 3 cases").axes[0]
    assert axis.get_xlabel().endswith("(percentage points), n = 3 cases")


# ----------------------------------------------------------------------------------------------------------- pages


def test_hostile_text_stays_text(tmp_path):
    picture = tmp_path / "a b.png"
    Image.new("L", (2, 2)).save(picture)
    evil = '<script>alert("1")</script> | *x* `y` [z](u)'
    blocks = [
        Heading(evil, 1),
        Text(evil),
        Text(evil, evil),
        Table(evil, (evil, "n"), [(evil, "1")]),
        Picture(picture, evil),
    ]
    page = html_page(blocks, title=evil)
    assert "script" not in {tag for tag, _ in tags(page)}
    assert page.count("&lt;script&gt;") == 10
    markdown = markdown_page(blocks)
    assert "<script" not in markdown
    row = next(line for line in markdown.splitlines() if line.startswith("|") and line.endswith("| 1 |"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 3
    assert "](<a b.png>)" in markdown and r"\*x\* \`y\` \[z\]" in markdown


def test_a_table_in_markdown_by_hand():
    table = Table("T", ("Loss", "Dice"), [("dice_bce", "90.1 ± 0.2")])
    assert markdown_page([table]) == "**T**\n\n| Loss | Dice |\n| :-- | --: |\n| dice_bce | 90.1 ± 0.2 |\n"
