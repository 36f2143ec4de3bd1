"""Free memory."""

from __future__ import annotations

import os

import torch

from monai_ext.runtime.memory import free_memory, in_words


def test_free_memory_is_a_part_of_what_the_machine_has() -> None:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < free_memory(torch.device("cpu")) <= total
    assert free_memory(torch.device("meta")) is None
    assert [in_words(n) for n in (12, 2048, 3 * 2**20, 2.5 * 2**30)] == ["12 B", "2 KiB", "3 MiB", "2.5 GiB"]
