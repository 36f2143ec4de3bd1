"""Cost of a cached batch on the host, which no GPU can hide: time on 8 x 8 pictures, operations and waits."""

from __future__ import annotations

from functools import partial

from benchmarks import pipelines as ways
from benchmarks.measure import CountOperations, in_turn, middle, one_thread, operations_of_second, timed, times_cheaper
from benchmarks.report import Result, Table
from benchmarks.workbench import BATCH_SIZE, Bench, probes

DEFAULT = "CacheDataset, defaults, RandRotated"
AFFINE = "CacheDataset, defaults, RandAffined"


def host_pipelines(bench: Bench, *, images: int) -> dict[str, ways.Pipeline]:
    """Pipelines from memory, in the calling thread but for the recipe's own."""
    pictures = probes(images)
    return {
        DEFAULT: ways.in_this_thread(ways.monai_cache(pictures)).__iter__,
        AFFINE: ways.in_this_thread(ways.monai_cache(pictures, rotate=ways.affine_rotation())).__iter__,
        ways.FAST: ways.fast_recipe(bench, pictures),
        ways.OURS: ways.ours(bench, pictures).__iter__,
        ways.OURS_COLOUR: ways.ours(bench, pictures, ways.COLOUR).__iter__,
    }


def counts(bench: Bench) -> dict[str, CountOperations]:
    """Operations of one batch of each pipeline; the recipe is counted without its thread."""
    pictures = probes(3 * BATCH_SIZE)
    epochs = host_pipelines(bench, images=3 * BATCH_SIZE)
    epochs[ways.FAST] = ways.without_metadata(ways.in_this_thread(ways.fast_cache(pictures, bench.device)))
    return {name: operations_of_second(epoch()) for name, epoch in epochs.items()}


@one_thread()
def run(bench: Bench) -> Result:
    images = bench.pick(32, 2) * BATCH_SIZE
    clock = "cpu" if bench.device.type == "cpu" else "wall"
    epochs = host_pipelines(bench, images=images)
    variants = {name: partial(timed, partial(ways.exhaust, epoch), bench.device) for name, epoch in epochs.items()}
    costs = in_turn(variants, rounds=bench.rounds)
    counted = counts(bench)
    batches = images // BATCH_SIZE
    rows = [
        [
            name,
            f"{1000 * middle(costs[name], clock) / batches:.3f}",
            f"{times_cheaper(costs[ways.OURS], costs[name], clock):.1f}",
            f"{len(counted[name].names)}",
            f"{len(counted[name].waiting)}",
        ]
        for name in costs
    ]
    table = Table(
        f"{batches} batches of {BATCH_SIZE} pictures of 8 x 8, {clock} time with one thread, median of {bench.rounds} "
        "rounds; an epoch's draw of order and augmentation is part of its batches.",
        ["pipeline", "host ms/batch", "ours x cheaper", "operations/batch", "waits/batch"],
        rows,
    )
    values = {
        "host.default": times_cheaper(costs[ways.OURS], costs[DEFAULT], clock),
        "host.fast": times_cheaper(costs[ways.OURS], costs[ways.FAST], clock),
        "host.colour_fast": times_cheaper(costs[ways.OURS_COLOUR], costs[ways.FAST], clock),
        "host.operations": float(len(counted[ways.OURS].names)),
        "host.operations_colour": float(len(counted[ways.OURS_COLOUR].names)),
        "host.waits": float(len(counted[ways.OURS].waiting) + len(counted[ways.OURS_COLOUR].waiting)),
    }
    return Result("Host cost of a batch", [table], values)
