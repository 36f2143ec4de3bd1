"""Augmented pictures a second of each pipeline, and the CPU time of one."""

from __future__ import annotations

from functools import partial

from benchmarks import pipelines as ways
from benchmarks.measure import in_turn, middle, timed, times_cheaper
from benchmarks.report import Result, Table
from benchmarks.workbench import BATCH_SIZE, Bench

BUILDERS = {
    ways.PLAIN: ways.plain,
    ways.MONAI: ways.monai_dataset,
    ways.CACHED: ways.cached,
    ways.THREADED: ways.threaded,
    ways.FAST: ways.fast_recipe,
    ways.OURS: lambda bench, pictures: ways.ours(bench, pictures).__iter__,
    ways.OURS_COLOUR: lambda bench, pictures: ways.ours(bench, pictures, ways.COLOUR).__iter__,
}


def run(bench: Bench) -> Result:
    pictures = bench.photographs()
    epochs = {name: build(bench, pictures) for name, build in BUILDERS.items()}
    variants = {name: partial(timed, partial(ways.exhaust, epoch), bench.device) for name, epoch in epochs.items()}
    costs = in_turn(variants, rounds=bench.rounds)
    count = len(pictures.items) // BATCH_SIZE * BATCH_SIZE
    rows = [
        [
            name,
            f"{count / middle(costs[name], 'wall'):.0f}",
            f"{1000 * middle(costs[name], 'cpu') / count:.2f}",
            f"{times_cheaper(costs[name], costs[ways.PLAIN], 'wall'):.2f}",
            f"{times_cheaper(costs[ways.OURS], costs[name], 'wall'):.2f}",
        ]
        for name in costs
    ]
    size = " x ".join(map(str, pictures.size))
    table = Table(
        f"{count} photographs of 600 x 450 at {size}, batches of {BATCH_SIZE}, {bench.workers} workers, "
        f"median of {bench.rounds} rounds.",
        ["pipeline", "images/s", "CPU ms/image", "x faster than PyTorch's", "ours x faster"],
        rows,
    )
    values = {
        key: times_cheaper(costs[ways.OURS], costs[name], "wall")
        for key, name in {
            "data.plain": ways.PLAIN,
            "data.monai": ways.MONAI,
            "data.cached": ways.CACHED,
            "data.threaded": ways.THREADED,
            "data.fast": ways.FAST,
        }.items()
    }
    values["data.ms_per_image"] = 1000 * middle(costs[ways.OURS], "wall") / count
    return Result("Data path", [table], values)
