"""Counter-based noise: the hash of its position, standard normal, independent."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from monai_ext.upscaling.counter_noise import CounterNoise

GOLDEN, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


MASK = 2**64 - 1


def splitmix(value: int) -> int:
    """Its finaliser, in Python's integers."""
    value &= MASK
    value = (value ^ (value >> 30)) * FIRST & MASK
    value = (value ^ (value >> 27)) * SECOND & MASK
    return value ^ (value >> 31)


def slow_noise(seed: int, sample: int, channel: int, row: int, column: int) -> float:
    state = splitmix(splitmix(seed + GOLDEN) + sample)
    state = splitmix(state + GOLDEN * (channel + 1))
    state = splitmix(state + GOLDEN * (row + 1))
    state = splitmix(state + GOLDEN * (column + 1))
    first, second = (((state >> shift & 0xFFFFFF) + 0.5) / 2**24 for shift in (40, 8))
    return float(np.sqrt(-2 * np.log(first)) * np.cos(2 * np.pi * second))


def test_noise_is_the_hash_of_its_place_written_out_in_pythons_integers():
    rows, columns = torch.tensor([0, 5, 40_000]), torch.tensor([3, 2**31])
    for seed, draw in ((0, 0), (-3, 7), (2**40, -2)):
        found = CounterNoise(2, seed=seed).at(draw, rows, columns)
        for (c, i, j), value in np.ndenumerate(found.numpy()):
            expected = slow_noise(seed, draw, c, int(rows[i]), int(columns[j]))
            assert value == pytest.approx(expected, abs=2e-6)


def test_noise_is_standard_normal_and_independent_of_its_neighbours():
    field, places = CounterNoise(2, seed=5), torch.arange(300)
    first, second = (field.at(draw, places, places).double() for draw in (0, 1))
    values = first.flatten().numpy()  # 180,000
    assert abs(values.mean()) < 0.01 and abs(values.std() - 1) < 0.01
    assert stats.kstest(values, "norm").pvalue > 1e-3
    other = CounterNoise(2, seed=6).at(0, places, places).double()
    pairs = [
        (first[:, 1:], first[:, :-1]),
        (first[..., 1:], first[..., :-1]),
        (first[0], first[1]),
        (first, second),
        (first, other),
        (first.square()[..., 1:], first.square()[..., :-1]),
    ]
    for a, b in pairs:
        together = torch.stack([a.flatten(), b.flatten()])
        assert abs(torch.corrcoef(together)[0, 1]) < 5 / together.shape[1] ** 0.5


def test_noise_has_at_least_one_channel():
    with pytest.raises(ValueError, match="channels=0 must be at least 1"):
        CounterNoise(0)
