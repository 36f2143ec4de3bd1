"""Work by threads: results in order, and an end after the first error."""

from __future__ import annotations

import threading

import pytest

from monai_ext.runtime.threads import map_in_threads


@pytest.mark.parametrize("jobs", [1, 3])
def test_results_come_in_the_order_of_the_items(jobs):
    assert list(map_in_threads(lambda n: n * n, range(20), jobs)) == [n * n for n in range(20)]


@pytest.mark.parametrize("jobs", [1, 2])
def test_after_an_error_nothing_further_is_begun(jobs):
    begun, failed = [], threading.Event()

    def work(item: int) -> None:
        begun.append(item)
        if item == 0:
            failed.set()
            raise ValueError("the first")
        failed.wait(5)
        threading.Event().wait(0.02)

    with pytest.raises(ValueError, match="the first"):
        list(map_in_threads(work, range(500), jobs))
    assert len(begun) < 250
