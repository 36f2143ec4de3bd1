"""Standard normal noise on an unbounded plane, any part of it at any time: counter-based, nothing is stored.

Each value is a function of (seed, number, channel, row, column) alone: their 64-bit hash (the finaliser of splitmix64,
Steele et al. 2014) gives two uniform numbers, and those a normal one (Box and Muller 1958). So windows of one image
share one noise whatever their size and order, a resumed run continues with the same noise, and memory does not grow
with the image. The Philox generators of NumPy and PyTorch cannot jump to a position of normal noise: their rejection
sampling takes a varying count of words.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["CounterNoise"]

STEP = 0x9E3779B97F4A7C15 - 2**64  # 2^64 divided by the golden ratio, odd; as int64, whose products wrap around
FACTORS = ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64))
BITS = 24  # of each uniform number: as many as float32 holds


class CounterNoise:
    """Noise (channels, rows, columns) of a plane, in as many independent samples as needed.

    >>> noise = CounterNoise(2, seed=7)
    >>> whole = noise.at(0, torch.arange(6), torch.arange(5))
    >>> part = noise.at(0, torch.tensor([4, 5]), torch.tensor([3, 2, 1]))
    >>> torch.equal(part, whole[:, 4:, [3, 2, 1]])
    True

    Args:
        channels: number of channels.
        seed: another seed is another noise.

    Raises:
        ValueError: less than one channel.
    """

    def __init__(self, channels: int, *, seed: int = 0):
        if channels < 1:
            raise ValueError(f"channels={channels} must be at least 1.")
        self.channels, self.seed = channels, seed

    def at(self, number: int, rows: Tensor, columns: Tensor) -> Tensor:
        """The values (channels, len(rows), len(columns)) of sample `number`, float32, on the device of `rows`.

        Args:
            rows, columns: positions, int64, in any order; not negative.
        """
        key = _mix(_mix(torch.tensor(self.seed) + STEP) + number)
        channels = _mix(key + STEP * torch.arange(1, self.channels + 1)).to(rows.device)
        lines = _mix(channels[:, None] + STEP * (rows + 1))  # (channels, rows)
        bits = _mix(lines[..., None] + STEP * (columns + 1))
        first, second = (_uniform(bits >> shift) for shift in (64 - BITS, 8))
        return first.log_().mul_(-2).sqrt_().mul_(second.mul_(2 * torch.pi).cos_())


def _uniform(bits: Tensor) -> Tensor:
    """Multiples of 2^-24 and half of it, between 0 and 1, from the lowest 24 bits."""
    return (bits & (2**BITS - 1)).to(torch.float32).add_(0.5).mul_(2.0**-BITS)


def _mix(values: Tensor) -> Tensor:
    """Finaliser of splitmix64: each bit of the result depends on all of the value. In place."""
    for shift, factor in FACTORS:
        values ^= _shifted(values, shift)
        values *= factor
    values ^= _shifted(values, 31)
    return values


def _shifted(values: Tensor, count: int) -> Tensor:
    """`values`, taken as unsigned, moved right by `count` bits."""
    return (values >> count) & (2 ** (64 - count) - 1)
