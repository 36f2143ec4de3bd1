"""Ranges of random parameters: what a user may write, and uniform numbers within them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def symmetric_range(
    name: str, value: float | Sequence[float] | None, *, centre: float = 0.0, lowest: float = -math.inf
) -> tuple[float, float] | None:
    """`value` = v as (centre - v, centre + v), cut at `lowest`, a pair as it is, None or 0 as None (off)."""
    if value is None or value == 0:
        return None
    if isinstance(value, (int, float)):
        if value < 0:
            raise ValueError(f"{name}={value} is negative: give the largest deviation from {centre:g}, or (low, high).")
        return max(lowest, centre - value), centre + value
    low, high = ordered_pair(name, value)
    if low < lowest:
        raise ValueError(f"{name}={value} reaches below {lowest:g}.")
    return low, high


def symmetric_ranges(
    name: str, value: float | Sequence[float] | Sequence[float | Sequence[float] | None] | None
) -> list[tuple[float, float] | None]:
    """One `symmetric_range`, or three where `value` has as many parts; empty where all are off."""
    parts: list = list(value) if isinstance(value, Sequence) and len(value) == 3 else [value]
    ranges = [symmetric_range(name, part) for part in parts]
    return ranges if any(ranges) else []


def positive_range(name: str, value: float | Sequence[float] | None) -> tuple[float, float] | None:
    """`value` = v as (0, v), a pair as it is, None or 0 as None (off); never below 0."""
    if value is None or value == 0:
        return None
    low, high = (0.0, float(value)) if isinstance(value, (int, float)) else ordered_pair(name, value)
    if low < 0 or high < 0:
        raise ValueError(f"{name}={value} reaches below 0: give the largest value, or a pair 0 <= low <= high.")
    return low, high


def ratio_range(name: str, value: Sequence[float] | None) -> tuple[float, float] | None:
    """A pair of positive factors, None as None (off)."""
    return None if value is None else _ratios(name, value)


def ratio_ranges(
    name: str, value: Sequence[float] | Sequence[Sequence[float]] | None, dims: int
) -> list[tuple[float, float]] | None:
    """One pair of positive factors for all axes, or one for each of the `dims` spatial axes; None as None (off)."""
    if value is None:
        return None
    parts = list(value) if isinstance(value, Sequence) else [value]
    pairs = [part for part in parts if isinstance(part, Sequence)]
    if not pairs:
        return [_ratios(name, value)]
    if len(pairs) != len(parts) or len(pairs) != dims:
        raise ValueError(f"{name}={value} must be one pair (low, high) or {dims}, one for each spatial axis.")
    return [_ratios(name, pair) for pair in pairs]


def _ratios(name: str, value: Sequence) -> tuple[float, float]:
    if not isinstance(value, Sequence):
        raise ValueError(f"{name}={value} must be a pair of factors (low, high), for example (0.8, 1.25).")
    low, high = ordered_pair(name, value)
    if low <= 0:
        raise ValueError(f"{name}={value} must be positive: factors are drawn log-uniformly.")
    return low, high


def ordered_pair(name: str, value: Sequence[float]) -> tuple[float, float]:
    """`value` as (low, high), finite and in order, or ValueError."""
    pair = [float(v) for v in value]
    if len(pair) != 2 or not all(map(math.isfinite, pair)) or pair[0] > pair[1]:
        raise ValueError(f"{name}={value} must be a pair (low, high) with low <= high.")
    return pair[0], pair[1]


def per_axis(name: str, value: float | Sequence[float], dims: int) -> tuple[float, ...]:
    """`value` for each of the `dims` spatial axes."""
    values = (float(value),) * dims if isinstance(value, (int, float)) else tuple(float(v) for v in value)
    if len(values) != dims:
        raise ValueError(f"{name}={value} must be one number or {dims}, one for each spatial axis.")
    return values


def probability(name: str, value: float) -> float:
    """`value` if it lies in [0, 1], or ValueError."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name}={value} must be a probability in [0, 1].")
    return float(value)


def uniform(shape: Sequence[int], low: float, high: float, generator: torch.Generator | None) -> Tensor:
    """Uniform numbers in [low, high), float32, on the CPU."""
    return torch.rand(*shape, generator=generator) * (high - low) + low


def log_uniform(shape: Sequence[int], low: float, high: float, generator: torch.Generator | None) -> Tensor:
    """Numbers whose logarithm is uniform between log(low) and log(high)."""
    return uniform(shape, math.log(low), math.log(high), generator).exp()
