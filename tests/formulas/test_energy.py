from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from monai_ext.formulas.energy import error_and_spread, mean_within


def distances(points: torch.Tensor) -> torch.Tensor:
    """|x - x'| of (B, N) numbers: (B, N, N)."""
    return (points[:, :, None] - points[:, None, :]).abs()


def test_means_within_a_hand_computed_set():
    matrix = distances(torch.tensor([[0.0, 1.0, 3.0]]))  # pairs 1, 2 and 3
    assert mean_within(matrix).item() == pytest.approx(2 * 6 / 9)
    assert mean_within(matrix, estimator="U").item() == pytest.approx(2 * 6 / 6)


def test_members_of_weight_zero_are_as_if_they_were_not_there():
    points = torch.rand(2, 4)
    weight = torch.tensor([[True, False, True, True]] * 2)
    for estimator in ("V", "U"):
        given = mean_within(distances(points), estimator=estimator, weight=weight)
        torch.testing.assert_close(given, mean_within(distances(points[:, [0, 2, 3]]), estimator=estimator))


def test_a_set_of_one_has_no_spread_and_no_pair():
    matrix = torch.zeros(1, 1, 1)
    assert mean_within(matrix).item() == 0 and mean_within(matrix, estimator="U").isnan()


def test_error_and_spread_are_means_over_samples_and_over_their_pairs():
    samples, target = torch.rand(4, 3), torch.rand(3)
    error, spread = error_and_spread(samples, target, lambda a, b: (a - b).abs())
    for i in range(3):
        column = samples[:, i].tolist()
        assert error[i].item() == pytest.approx(np.mean([abs(x - target[i].item()) for x in column]))
        assert spread[i].item() == pytest.approx(np.mean([abs(x - y) for x, y in itertools.combinations(column, 2)]))
