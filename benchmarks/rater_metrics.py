"""Time and memory of the metrics for several raters, beside the network that they score."""

from __future__ import annotations

import multiprocessing
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.measure import in_turn, middle, one_thread, timed, times_cheaper
from benchmarks.report import Result, Table
from benchmarks.workbench import Bench
from monai_ext.metrics import generalized_energy_distance, qubiq_score, set_scores
from monai_ext.networks import HolisticNet, ProbabilisticUNet

RATERS, SAMPLES = 4, 16
NETWORKS = {
    "probabilistic U-Net, as in prob_unet": partial(ProbabilisticUNet, 1, features=(32, 64, 128, 192, 192)),
    "holistic network, as in qubiq_holistic": partial(HolisticNet, RATERS, features=16),
}
GED = f"energy distance of {SAMPLES} samples and {RATERS} raters"
ALL_OF_SETS = "all scores of sets together"
QUBIQ = "QUBIQ score"


def discs(batch: int, count: int, side: int, *, seed: int = 0) -> Tensor:
    """Masks (B, n, side, side), bool: discs of random place and size, drawn one by one so that memory stays low."""
    generator = torch.Generator().manual_seed(seed)
    axis = torch.linspace(0, 1, side)
    masks = torch.empty(batch, count, side, side, dtype=torch.bool)
    for mask in masks.flatten(0, 1):
        y, x, radius = torch.rand(3, generator=generator)
        mask.copy_((axis[:, None] - 0.3 - 0.4 * y) ** 2 + (axis - 0.3 - 0.4 * x) ** 2 < (0.1 + 0.2 * radius) ** 2)
    return masks


@one_thread()
def run(bench: Bench) -> Result:
    batch, side = bench.pick((32, 128), (2, 32))
    samples, masks = (discs(batch, count, side, seed=count).to(bench.device) for count in (SAMPLES, RATERS))
    image = torch.rand(batch, 1, side, side, device=bench.device)
    works = {
        GED: partial(generalized_energy_distance, samples, masks),
        ALL_OF_SETS: partial(set_scores, samples, masks),
        QUBIQ: partial(qubiq_score, _share_of_samples(samples), masks),
    }
    for name, build in NETWORKS.items():
        torch.manual_seed(0)
        works[f"forward pass, {name}"] = partial(_forward, build().to(bench.device).eval(), image)
    costs = in_turn({name: partial(timed, work, bench.device) for name, work in works.items()}, rounds=bench.rounds)
    clock = "cpu" if bench.device.type == "cpu" else "wall"
    passes = [name for name in works if name.startswith("forward")]
    rows = [
        [name, f"{1000 * middle(costs[name], clock):.1f}", *(f"{_share(costs, name, p, clock):.4f}" for p in passes)]
        for name in works
    ]
    caption = (
        f"{batch} cases of {side} x {side}, {clock} time with one thread, median of {bench.rounds} rounds; shares of "
        "one forward pass of the network for the same batch."
    )
    table = Table(caption, ["work", "ms", *(f"share of {name.partition(', ')[2]}" for name in passes)], rows)
    large = bench.pick((8, 496), (1, 64))
    held, given = _peak_growth(*large)
    memory = Table(
        f"{large[0]} cases of {large[1]} x {large[1]}, {SAMPLES} samples and {RATERS} raters: growth of the peak "
        "memory of a fresh process on the CPU while all scores of sets and the QUBIQ score are computed.",
        ["", "MiB"],
        [["masks handed in (bool)", f"{given:.1f}"], ["growth of the peak beyond them", f"{held:.1f}"]],
    )
    values = {
        "raters.ged_share": max(_share(costs, GED, name, clock) for name in passes),
        "raters.peak_mib": held,
        "raters.masks_mib": given,
    }
    return Result("Measures for several raters", [table, memory], values)


@torch.no_grad()
def _forward(network: torch.nn.Module, image: Tensor) -> None:
    network(image)


def _share(costs: dict, name: str, network: str, clock: str) -> float:
    return 1 / times_cheaper(costs[name], costs[network], clock)


def _peak_growth(batch: int, side: int) -> tuple[float, float]:
    """MiB: growth of the peak resident memory, and the masks themselves."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_measured_growth, (batch, side))


def _measured_growth(batch: int, side: int) -> tuple[float, float]:
    torch.set_num_threads(1)
    tiny = discs(1, RATERS, 16)
    _scores(tiny, tiny)  # what is made once, whatever the size
    samples, masks = discs(batch, SAMPLES, side), discs(batch, RATERS, side)
    held = (samples.numel() + masks.numel()) / 2**20
    forget_peak = Path("/proc/self/clear_refs")
    if not forget_peak.exists():  # Linux only
        return float("nan"), held
    forget_peak.write_text("5")
    before = _status("VmRSS")
    _scores(samples, masks)
    return (_status("VmHWM") - before) / 1024, held


def _status(name: str) -> int:
    """KiB, of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def _scores(samples: Tensor, masks: Tensor) -> None:
    set_scores(samples, masks)
    qubiq_score(_share_of_samples(samples), masks)


def _share_of_samples(samples: Tensor) -> Tensor:
    return samples.sum(1, dtype=torch.float32) / samples.shape[1]
