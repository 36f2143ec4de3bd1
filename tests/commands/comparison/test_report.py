"""The report of fabricated runs whose winner, gaps and traps are known."""

from __future__ import annotations

import base64
import csv
import json
import re
from pathlib import Path

import pytest
from compared_runs import edit, pair, tags
from fabricated_comparison import CASES, dice_of, write_comparison, write_run

from monai_ext.commands.comparison import report as module
from monai_ext.commands.comparison.figures import (
    case_figure,
)
from monai_ext.commands.comparison.report import report
from monai_ext.commands.comparison.results import METRICS


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a whole comparison, to be read only."""
    return report(write_comparison(tmp_path_factory.mktemp("whole"))).parent


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


def test_the_report_names_the_winner_and_shows_the_table_of_the_work(reported):
    page = (reported / "report.md").read_text()
    assert "Highest mean Dice over cases: Dice, 83.89 %" in page
    assert "it ranks first in 100 % of bootstrap resamples" in page
    assert "6 of 6 runs finished, 40 cases, 0.30 hours" in page
    assert re.search(r"^\| Dice \| 83\.89 ± 0\.43 \| .* \| 40 \| 2 \| 1 \|$", page, re.MULTILINE)
    assert "* No difference between BCE and Jaccard can be claimed (Holm p = " in page
    assert "* Dice is better than BCE (by 2.19 points" in page
    assert "92.55 ± 1.29" not in page and "Tversky" not in page
    assert "One seed" in page and "Legacy average precision" in page


def test_what_the_repeated_study_printed_is_shown_when_it_is_asked_for(reported, tmp_path):
    page = (report(reported.parent, tmp_path, reported=True).parent / "report.md").read_text()
    assert "| BCE | 92.55 ± 1.29 | 86.67 ± 1.99 | 88.31 ± 1.54 |" in page and "Tversky" not in page


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


def test_distances_between_boundaries_have_a_table_of_their_own_and_lower_is_better(tmp_path):
    for loss, distance in (("bce", 4.0), ("dice", 3.0)):
        for fold in (0, 1):
            columns = {"hd95": lambda case, d=distance: d + case % 3, "surface_dice": lambda case: 0.5}
            write_run(tmp_path, loss, fold, **columns)
    folder = report(tmp_path).parent
    page = (folder / "report.md").read_text()
    assert "Distances between boundaries: mean ± standard deviation over folds, pixels" in page
    assert re.search(r"^\| Dice \| 3\.98 ± 0\.0\d \| 40 \|", page, re.MULTILINE) and "Surface Dice" in page
    with (folder / "losses.csv").open() as file:
        first = {row["loss"]: row["probability_of_first"] for row in csv.DictReader(file) if row["metric"] == "hd95"}
    assert (float(first["dice"]), float(first["bce"])) == (1, 0)


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
