"""What a trainer adds to each iteration of a loop written by hand."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from monai.data import MetaTensor

from benchmarks import loops
from benchmarks.measure import Cost, excess, in_turn, middle, one_thread, timed
from benchmarks.report import Result, Table
from benchmarks.workbench import BATCH_SIZE, Bench, batches_on_device, small_network

BARE = "bare loop"
OURS = "BatchTrainer"
OUR_BUNDLE = "BatchTrainer, the bundle's handlers"
USUAL = "SupervisedTrainer, decollate off, no handlers"
USUAL_BUNDLE = "typical MONAI bundle"
USUAL_BUNDLE_META = "typical MONAI bundle, batches with metadata"


def trainers(device: torch.device, *, iterations: int) -> dict[str, Callable[[], Cost]]:
    """Name -> cost of one iteration in the second epoch of a run on B x 3 x 8 x 8 batches."""
    batches = batches_on_device(device, 4, (8, 8))
    plain = (batches * -(-iterations // len(batches)))[:iterations]
    tracked = [{key: MetaTensor(value) for key, value in batch.items()} for batch in plain]

    def bare() -> Cost:
        parts = loops.Parts(small_network(), device)
        loops.bare_training(parts, plain)
        return timed(partial(loops.bare_training, parts, plain), device) / iterations

    def bundle(build: Callable, data: list) -> Cost:
        with TemporaryDirectory() as folder:
            trainer = build(loops.Parts(small_network(), device), data, epochs=2, folder=Path(folder))
            return loops.cost_of_last_epoch(trainer) / iterations

    def engine_alone(build: Callable) -> Cost:
        return loops.cost_of_last_epoch(build(loops.Parts(small_network(), device), plain, epochs=2)) / iterations

    ours = partial(loops.our_trainer, precision="fp32")
    return {
        BARE: bare,
        OURS: partial(engine_alone, ours),
        OUR_BUNDLE: partial(bundle, ours, plain),
        USUAL: partial(engine_alone, loops.usual_trainer),
        USUAL_BUNDLE: partial(bundle, loops.usual_trainer, plain),
        USUAL_BUNDLE_META: partial(bundle, loops.usual_trainer, tracked),
    }


@one_thread()
def run(bench: Bench) -> Result:
    iterations = bench.pick(100, 10)
    clock = "cpu" if bench.device.type == "cpu" else "wall"
    costs = in_turn(trainers(bench.device, iterations=iterations), rounds=bench.rounds)
    added = {name: 1000 * excess(costs[name], costs[BARE], clock) for name in costs}
    rows = [
        [
            name,
            f"{1000 * middle(costs[name], clock):.3f}",
            f"{added[name]:.3f}",
            f"{added[name] / added[OUR_BUNDLE]:.1f}",
        ]
        for name in costs
    ]
    table = Table(
        f"Batches of {BATCH_SIZE} pictures of 8 x 8, three convolutions, {clock} time with one thread; second epoch of "
        f"{iterations} iterations, median of {bench.rounds} rounds. The cost of an epoch's end (table, checkpoint) is "
        "part of its iterations.",
        ["loop", "ms/iteration", "ms over the bare loop", "x ours"],
        rows,
    )
    values = {
        "engine.overhead_ms": added[OUR_BUNDLE],
        "engine.alone_ms": added[OURS],
        "engine.typical_ms": added[USUAL_BUNDLE],
        "engine.typical_ratio": added[USUAL_BUNDLE] / added[OUR_BUNDLE],
    }
    return Result("Trainer overhead", [table], values)
