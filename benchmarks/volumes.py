"""Crops of volumes from memory: host time, operations and waits of a batch, crops a second, and bytes held."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from benchmarks import volume_pipelines as ways
from benchmarks.measure import (
    Cost,
    CountOperations,
    in_turn,
    middle,
    one_thread,
    operations_of_second,
    timed,
    times_cheaper,
)
from benchmarks.pipelines import Pipeline, exhaust, without_metadata
from benchmarks.report import Result, Table
from benchmarks.workbench import Bench

SMALL = ((6, 6, 6), (4, 4, 4))  # volumes and crops that cost the host alone
LARGE = ((128, 128, 112), (96, 96, 96))
LARGE_QUICK = ((24, 24, 20), (16, 16, 16))


def pipelines(bench: Bench, data: ways.Volumes, *, workers: int = 0) -> dict[str, Pipeline]:
    """An epoch of each way, from memory."""
    epochs: dict[str, Pipeline] = {
        ways.CACHED: ways.batches(ways.cached(data), workers=workers).__iter__,
        ways.SMART: ways.smart_epochs(data),
        ways.FAST: ways.fast(data, bench.device),
    }
    if ways.has_torchio():
        epochs[ways.TORCHIO] = ways.torchio_queue(data)
    return {**epochs, ways.OURS: ways.ours(bench.device, data).__iter__}


def counts(bench: Bench) -> dict[str, CountOperations]:
    """Operations of one batch of each pipeline; the recipe is counted without its thread."""
    data = ways.volumes(3 * ways.VOLUMES, *SMALL)
    epochs: dict[str, Pipeline] = {
        ways.CACHED: ways.batches(ways.cached(data)).__iter__,
        ways.FAST: without_metadata(ways.batches(ways.fast_cache(data, bench.device))),
        ways.OURS: ways.ours(bench.device, data).__iter__,
    }
    return {name: operations_of_second(epoch()) for name, epoch in epochs.items()}


@one_thread()
def run(bench: Bench) -> Result:
    clock = "cpu" if bench.device.type == "cpu" else "wall"
    small = ways.volumes(bench.pick(16, 2) * ways.VOLUMES, *SMALL)
    large = ways.volumes(ways.VOLUMES, *bench.pick(LARGE, LARGE_QUICK))
    epochs = [pipelines(bench, data) for data in (small, large)]
    costs = [in_turn(_variants(each, bench.device), rounds=bench.rounds) for each in epochs]
    counted = counts(bench)
    many, few = (len(data.items) // ways.VOLUMES for data in (small, large))
    held = {
        ways.CACHED: ways.held_bytes(ways.cached(large)),
        ways.FAST: ways.held_bytes(ways.fast_cache(large, torch.device("cpu"))),
        ways.OURS: ways.ours(torch.device("cpu"), large).dataset.nbytes,
    }
    rows = []
    for name in costs[0]:
        operations = counted.get(name)
        rows.append(
            [
                name,
                f"{1000 * middle(costs[0][name], clock) / many:.3f}",
                f"{times_cheaper(costs[0][ways.OURS], costs[0][name], clock):.1f}",
                f"{len(operations.names)}" if operations else "",
                f"{len(operations.waiting)}" if operations else "",
                f"{few * ways.BATCH / middle(costs[1][name], clock):.1f}",
                f"{times_cheaper(costs[1][ways.OURS], costs[1][name], clock):.2f}",
                f"{held[name] / len(large.items) / 2**20:.1f}" if name in held else "",
            ]
        )
    by = " x ".join
    table = Table(
        f"Batches of {ways.BATCH} crops, {ways.CROPS} of each of {ways.VOLUMES} volumes, half of them around the "
        f"foreground; {clock} time with one thread, median of {bench.rounds} rounds. Host time and operations are of "
        f"crops of {by(map(str, SMALL[1]))}, crops a second of {by(map(str, large.crop))} from volumes of "
        f"{by(map(str, large.items[0]['image'].shape[1:]))}, and bytes of such a volume with one mask.",
        ["pipeline", "host ms/batch", "ours x cheaper", "operations/batch", "waits/batch", "crops/s", "ours x faster",
         "MiB/volume"],
        rows,
    )  # fmt: skip
    values = {
        "volumes.fast": times_cheaper(costs[0][ways.OURS], costs[0][ways.FAST], clock),
        "volumes.operations": float(len(counted[ways.OURS].names)),
        "volumes.waits": float(len(counted[ways.OURS].waiting)),
        "volumes.rate": times_cheaper(costs[1][ways.OURS], costs[1][ways.FAST], clock),
        "volumes.bytes": held[ways.FAST] / held[ways.OURS],
    }
    notes = [] if ways.has_torchio() else ["TorchIO is not installed and left out: pip install torchio."]
    return Result("Crops of volumes", [table], values, notes)


def _variants(epochs: dict[str, Pipeline], device: torch.device) -> dict[str, Callable[[], Cost]]:
    return {name: partial(timed, partial(exhaust, epoch), device) for name, epoch in epochs.items()}
