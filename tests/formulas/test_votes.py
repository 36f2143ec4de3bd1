from __future__ import annotations

import pytest
import torch

from monai_ext.formulas.votes import consensus_mask, mean_over_raters, present_raters, rater_votes, votes_reach

VOTES_NEEDED = {
    2: "111112222",
    3: "111222333",
    4: "112223344",
    5: "112233445",
    6: "122334556",
    7: "123345567",
    10: "123456789",
}


@pytest.mark.parametrize("raters", VOTES_NEEDED)
def test_votes_needed_at_the_nine_levels_are_those_of_the_table(raters):
    votes = torch.arange(raters + 1)
    needed = [int(votes[votes_reach(votes, torch.tensor(raters), tenths=i)].min()) for i in range(1, 10)]
    assert needed == [int(digit) for digit in VOTES_NEEDED[raters]]


@pytest.mark.parametrize("raters", range(1, 11))
def test_strict_votes_differ_exactly_where_a_share_is_a_level(raters):
    votes, voters = torch.arange(raters + 1), torch.tensor(raters)
    differing = {
        i
        for i in range(1, 10)
        if (votes_reach(votes, voters, tenths=i) != votes_reach(votes, voters, tenths=i, strict=True)).any()
    }
    assert differing == {i for i in range(1, 10) if (i * raters) % 10 == 0}
    assert bool(differing) == (raters not in (1, 3, 7, 9))


def test_majority_vote_takes_ties_unless_strict():
    masks = torch.tensor([[[[1, 1, 0]], [[1, 0, 0]]]])
    assert consensus_mask(masks)[0].tolist() == [[True, True, False]]
    assert consensus_mask(masks, strict=True)[0].tolist() == [[True, False, False]]


def test_votes_leave_out_missing_raters():
    masks = torch.tensor([[[[1, 1, 0]], [[1, 0, 0]], [[1, 1, 1]]]])
    votes, voters = rater_votes(masks, presence=torch.tensor([[1, 1, 0]]))
    assert (votes.tolist(), voters.tolist()) == ([[[2, 1, 0]]], [2])


def test_a_case_without_raters_has_an_empty_consensus():
    masks = torch.ones(2, 2, 2, 2, dtype=torch.bool)
    consensus = consensus_mask(masks, presence=torch.tensor([[0, 0], [0, 1]]))
    assert not consensus[0].any() and consensus[1].all()


def test_the_mean_over_raters_is_over_those_present():
    values = torch.tensor([[1.0, torch.nan, 4.0], [7.0, 8.0, 9.0]])
    present = torch.tensor([[True, False, True], [False] * 3])
    given = mean_over_raters(values, present)
    assert given[0].item() == 2.5 and given[1].isnan()


def test_a_missing_raters_mask_may_hold_labels_and_a_present_ones_not():
    masks = torch.tensor([[[[0, 1]], [[2, 3]]]])
    assert present_raters(masks, torch.tensor([[1, 0]])).tolist() == [[True, False]]
    with pytest.raises(ValueError, match="masks hold several values"):
        present_raters(masks, None)
    with pytest.raises(ValueError, match=r"presence \(1, 3\) must be \(B, R\) = \(1, 2\)"):
        present_raters(masks, torch.ones(1, 3))
