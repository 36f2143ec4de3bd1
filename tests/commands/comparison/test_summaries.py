"""Summaries of losses and of pairs of losses."""

from __future__ import annotations

import numpy as np
import pytest
from compared_runs import pair
from fabricated_comparison import CASES, dice_of, write_run

from monai_ext.commands.comparison.results import read_results
from monai_ext.commands.comparison.summaries import loss_summaries, pair_summaries


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
