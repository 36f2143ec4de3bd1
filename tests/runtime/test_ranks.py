"""Ranks without a process group, and what several launchers cannot do; tests/bundles/test_multi_process.py has more."""

from __future__ import annotations

import pytest
import torch

from monai_ext.runtime.ranks import is_distributed, is_main_process, join_process_group, mean_over_ranks, rank_device


def test_a_single_process_is_the_main_one_and_its_values_are_the_means():
    value = torch.tensor([1.0, 2.0])
    assert not is_distributed() and is_main_process()
    assert mean_over_ranks(value) is value


def test_a_process_has_the_gpu_of_its_rank_where_there_are_any(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert rank_device() == torch.device("cuda:3")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert rank_device() == torch.device("cpu")


def test_a_second_start_on_several_machines_is_refused(monkeypatch):
    for name, value in (("TORCHELASTIC_RESTART_COUNT", "1"), ("TORCHELASTIC_USE_AGENT_STORE", "True")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GROUP_WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"):
        join_process_group("gloo")
