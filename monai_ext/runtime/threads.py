"""Work on several items at a time, by threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["map_in_threads"]

T = TypeVar("T")
R = TypeVar("R")


def map_in_threads(function: Callable[[T], R], items: Iterable[T], jobs: int) -> Iterator[R]:
    """`map` by `jobs` threads, in order; after an error nothing further is begun.

    >>> list(map_in_threads(abs, [-1, 2], 2))
    [1, 2]
    """
    if jobs == 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(function, items)  # which cancels what waits, when it ends early
