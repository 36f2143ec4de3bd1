"""Memory that a step frees stays with the process while a trainer runs, and goes back afterwards."""

from __future__ import annotations

import ctypes
import resource
import sys

import pytest
import torch
from torch import nn

from monai_ext.engines import BatchTrainer, allocator
from monai_ext.engines.allocator import kept_memory

GLIBC = sys.platform.startswith("linux") and hasattr(ctypes.CDLL(None), "gnu_get_libc_version")
needs_glibc = pytest.mark.skipif(not GLIBC, reason="only glibc has these settings")
VALUES = 2**24  # 64 MiB as float32, above every threshold: glibc maps it
PAGES = 4 * VALUES // resource.getpagesize()


def faults_of(rounds: int) -> int:
    """Page faults of allocating and filling a large tensor some times over."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        torch.ones(VALUES)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def held() -> int:
    """Bytes of memory that this process has in use."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


@needs_glibc
def test_a_large_tensor_is_mapped_once_inside_and_each_time_outside():
    outside = faults_of(8)
    with kept_memory("cpu"):
        inside = faults_of(8)
        with kept_memory("cpu"):  # a trainer within a trainer
            faults_of(1)
        still = faults_of(8)
    again = faults_of(8)
    large_pages = outside < PAGES  # the system gives huge pages unasked: then there is little to save
    # What is free at the end of the heap may serve some of the tensors; kept memory would serve all but one.
    assert large_pages or (outside > 7 * PAGES and again > 1.5 * PAGES)
    assert inside < 4 * PAGES and still < 2 * PAGES  # other objects may be in the way of the first ones


@needs_glibc
def test_what_was_kept_goes_back_to_the_system():
    torch.ones(8)
    before = held()
    with kept_memory("cpu"):
        faults_of(2)
        assert held() > before + 3 * VALUES
    assert held() < before + 2 * VALUES


class Batches:
    def __len__(self) -> int:
        return 8

    def __iter__(self):
        for _ in range(8):
            yield {"image": torch.zeros(1, 1, 4, 4), "label": torch.zeros(1, 1, 4, 4)}


class Large(nn.Module):
    """A network whose activations take 64 MiB."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.faults: list[int] = []

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.faults.append(faults_of(1))
        return image * self.scale


@needs_glibc
def test_a_trainer_keeps_memory_while_it_runs_and_not_longer():
    network = Large()
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    BatchTrainer("cpu", 1, Batches(), network, optimizer, nn.MSELoss()).run()
    assert sum(network.faults) < 4 * PAGES
    assert allocator._users == 0


def test_an_error_inside_ends_it_and_other_devices_have_none(monkeypatch):
    calls: list[tuple[int, int]] = []
    monkeypatch.setattr(
        allocator, "_glibc", lambda name: (lambda *words: calls.append(words)) if name == "mallopt" else None
    )
    with pytest.raises(RuntimeError, match="in the middle"), kept_memory("cpu"):
        raise RuntimeError("in the middle")
    assert calls == [*allocator.KEEPING.items(), *allocator.USUAL.items()]
    calls.clear()
    with kept_memory("cuda"):
        pass
    monkeypatch.setattr(allocator, "_glibc", lambda name: None)
    with kept_memory("cpu"):
        pass
    assert not calls and allocator._users == 0
