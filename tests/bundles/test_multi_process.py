"""Bundles in two processes: the numbers of one, and a killed process that is started again.

Every bundle with a `multi_gpu.json` is covered without being named.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from bundle_runs import BUNDLES, rows, run_bundle
from monai.bundle import ConfigParser
from shared_order import batch_norm_of_all_ranks, calm_batch_norm
from torch import nn

from monai_ext.data import write_lesion_phantoms
from monai_ext.engines import BatchTrainer
from monai_ext.runtime.ranks import join_process_group

NAMES = sorted(path.parents[1].name for path in BUNDLES.glob("*/configs/multi_gpu.json"))
WORLD_SIZE = 2
TINY = {  # those that a bundle knows
    "phantom_count": 24, "batch_size": 4, "spatial_size": [32, 32], "crop_size": 32, "val_interval": 1,
    "log_interval": 1, "learning_rate": 0.01, "max_grad_norm": 1.0, "max_epochs": 2, "pretrain_epochs": 1,
    "adversarial_epochs": 1, "samples": 2, "precision": "fp32", "validation_fraction": 0.2,
    "dropout": 0.0, "weight_uncertainty": "none",  # draws that would differ
}  # fmt: skip
ONE_ORDER = {"train#dataset#shard": False, "train#dataloader#_target_": "shared_order.SharedOrder"}
# Adam makes a step of full size out of the rounding error of a gradient that should be zero; this does not.
PLAIN_STEPS = {"_target_": "torch.optim.SGD", "params": "$@network.parameters()", "lr": 0.01, "momentum": 0.9}
ON_CPU = {"device": "$torch.device('cpu')", "backend": "gloo"}
TOLERANCE = 1e-3


def one_rank(rank: int, port: int, bundle: str, files: list[str], options: dict, shared_statistics: bool) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(WORLD_SIZE)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if shared_statistics:
        nn.BatchNorm2d.forward = batch_norm_of_all_ranks
    run_bundle(bundle, files, **options)


def run_on_two_ranks(bundle: str, files: list[str], *, shared_statistics: bool = False, **options) -> None:
    """`run_bundle` as torchrun does it, in forks of this process, which need not import everything again."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = (port, bundle, [*files, "multi_gpu.json"], options | ON_CPU, shared_statistics)
    mp.start_processes(one_rank, args=given, nprocs=WORLD_SIZE, start_method="fork")


def tiny_options(bundle: str, files: list[str], data: Path) -> dict:
    """Small numbers for a bundle on phantoms, which are drawn into `data`."""
    parser = ConfigParser()
    parser.read_config([str(BUNDLES / bundle / "configs" / name) for name in files])
    chosen = {key: value for key, value in TINY.items() if key in parser and (key != "crop_size" or parser[key])}
    parser.update(chosen | {"dataset_dir": str(data)})
    parser.get_parsed_content("phantoms")
    return chosen | {"dataset_dir": str(data), "phantoms": None}


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")
@pytest.mark.parametrize("bundle", NAMES)
def test_two_processes_give_the_metrics_of_one_on_the_same_order_of_data(bundle, tmp_path, monkeypatch):
    files = ["train.json", "demo.json"]
    options = tiny_options(bundle, files, tmp_path / "data") | ONE_ORDER | {"optimizer": PLAIN_STEPS}
    for name in ("randn", "randn_like"):  # latents and noise are drawn for batches, which differ in size
        monkeypatch.setattr(torch, name, zeros_instead(getattr(torch, f"zeros{name.removeprefix('randn')}")))
    monkeypatch.setattr(nn.functional, "batch_norm", calm_batch_norm)
    run_bundle(bundle, files, output_dir=str(tmp_path / "one"), **options, device=ON_CPU["device"])
    run_on_two_ranks(bundle, files, shared_statistics=True, output_dir=str(tmp_path / "two"), **options)
    one, two = (rows(tmp_path / folder / "epochs.csv") for folder in ("one", "two"))
    assert len(one) == len(two) == 2 and len(one[0]) > 5
    for alone, together in zip(one, two, strict=True):
        told = {key: float(value) for key, value in alone.items() if key != "seconds" and value}
        assert {key: float(together[key]) for key in told} == pytest.approx(told, TOLERANCE, TOLERANCE, nan_ok=True)
    assert len({row["train_loss"] for row in one}) == 2  # something was learnt
    assert len(list((tmp_path / "two" / "tensorboard").iterdir())) == 1


def zeros_instead(zeros):
    return lambda *shape, generator=None, **options: zeros(*shape, **options)


def test_a_killed_process_is_started_again_and_the_run_ends_as_an_undisturbed_one(tmp_path):
    """`--resume true` is given from the start, when there is no checkpoint yet."""
    write_lesion_phantoms(tmp_path / "data", count=12, size=(48, 64))
    options = {
        "dataset_dir": str(tmp_path / "data"), "folds": 3, "spatial_size": [32, 32], "batch_size": 2, "max_epochs": 4,
        "network_def#width": 0.25, "network_def#decoder_channels": [16, 16, 16, 16, 16],
    }  # fmt: skip
    run_on_two_ranks("lesion_unet", ["train.json"], output_dir=str(tmp_path / "whole"), **options)
    fault = {"_target_": "killed_rank.KilledOnce", "marker": str(tmp_path / "killed"), "rank": 1, "epoch": 3}
    (tmp_path / "fault.json").write_text(json.dumps({"+train#handlers": [fault]}))
    configs = [str(BUNDLES / "lesion_unet" / "configs" / name) for name in ("train.json", "multi_gpu.json")]
    options |= ON_CPU | {"config_file": [*configs, str(tmp_path / "fault.json")], "resume": "true"}
    options |= {"bundle_root": str(BUNDLES / "lesion_unet"), "output_dir": str(tmp_path / "broken")}
    torchrun = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone"]
    torchrun += [f"--nproc_per_node={WORLD_SIZE}", "--max-restarts=1", "-m", "monai.bundle", "run"]
    words = [part for key, value in options.items() for part in (f"--{key}", str(value))]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1] / "support")}
    done = subprocess.run([*torchrun, *words], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "killed").exists()
    assert "after epoch 2 of 4" in done.stdout + done.stderr
    assert [row["epoch"] for row in rows(tmp_path / "broken" / "epochs.csv")] == ["1", "2", "3", "4"]
    whole, broken = (torch.load(tmp_path / folder / "final.pt", weights_only=True) for folder in ("whole", "broken"))
    assert all(torch.equal(value, broken[name]) for name, value in whole.items())
    assert not list((tmp_path / "broken").glob("*previous*")) and not list((tmp_path / "broken").glob("*.lock"))


def test_a_network_wrapped_before_it_is_laid_out_is_refused():
    """`DistributedDataParallel` keeps the strides that it saw, and puts the first gradients in wrong places."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        network = nn.Conv2d(2, 2, 3)
        for laid_out in (False, True):
            if laid_out:
                network.to(memory_format=torch.channels_last)
            wrapped = nn.parallel.DistributedDataParallel(network)
            settings = ("cpu", 1, [], wrapped, torch.optim.SGD(network.parameters(), 0.1), nn.MSELoss())
            BatchTrainer(*settings, channels_last=laid_out)
            if not laid_out:
                with pytest.raises(ValueError, match=r"wrap network.to\(memory_format=torch.channels_last\)"):
                    BatchTrainer(*settings)
    finally:
        dist.destroy_process_group()


def test_a_second_start_on_one_of_several_machines_needs_a_store_of_its_own(monkeypatch):
    elastic = {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "1", "GROUP_WORLD_SIZE": "2"}
    for name, value in elastic.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"):
        join_process_group("gloo")
