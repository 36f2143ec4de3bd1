"""Growth of cost with the number of pictures, and of memory in a long run."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from ignite.engine import Events

from benchmarks import loops
from benchmarks import pipelines as ways
from benchmarks.measure import in_turn, middle, resident_bytes, timed
from benchmarks.report import Result, Table
from benchmarks.workbench import BATCH_SIZE, Bench, probes, small_network

SIDE = 32
EPOCHS = 50
SETTLED = 10  # epochs until allocators and buffers have their size


def run(bench: Bench) -> Result:
    counts = bench.pick((256, 512, 1024, 2048), (64, 128))
    loaders = {count: ways.ours(bench, probes(count, side=SIDE)) for count in counts}
    variants = {
        f"{count}": partial(timed, partial(ways.exhaust, loader.__iter__), bench.device)
        for count, loader in loaders.items()
    }
    costs = in_turn(variants, rounds=bench.rounds)
    clock = "cpu" if bench.device.type == "cpu" else "wall"
    per_image = {name: 1e6 * middle(costs[name], clock) / int(name) for name in costs}
    rows = [
        [
            name,
            f"{1000 * middle(costs[name], clock):.1f}",
            f"{per_image[name]:.1f}",
            f"{loaders[int(name)].dataset.nbytes / int(name):.0f}",
        ]
        for name in costs
    ]
    by_count = Table(
        f"An epoch of augmented batches of {BATCH_SIZE} pictures of {SIDE} x {SIDE}, {clock} time, median of "
        f"{bench.rounds} rounds.",
        ["images", "ms/epoch", "us/image", "bytes held/image"],
        rows,
    )
    memory = memory_by_epoch(bench.device, epochs=bench.pick(EPOCHS, 12))
    settled = min(SETTLED, len(memory))
    grown = (memory[-1] - memory[settled - 1]) / 2**20
    by_epoch = Table(
        f"BatchTrainer with its handlers over {len(memory)} epochs of 8 iterations: memory held after an epoch.",
        ["epoch", "MiB"],
        [[f"{epoch}", f"{memory[epoch - 1] / 2**20:.1f}"] for epoch in sorted({1, settled, len(memory)})],
    )
    values = {
        "scaling.linear": max(per_image.values()) / min(per_image.values()),
        "scaling.memory_grown_mib": grown,
    }
    return Result("Scaling", [by_count, by_epoch], values)


def memory_by_epoch(device: torch.device, *, epochs: int) -> list[int]:
    """Bytes held after each epoch of a training run: by the process, or on the device if it is CUDA."""
    held = []

    def look() -> None:
        held.append(torch.cuda.memory_allocated(device) if device.type == "cuda" else resident_bytes())

    with TemporaryDirectory() as folder:
        bench = Bench(device, Path(folder))
        loader = ways.ours(bench, probes(8 * BATCH_SIZE, side=SIDE))
        parts = loops.Parts(small_network(), device)
        trainer = loops.our_trainer(parts, loader, epochs=epochs, folder=Path(folder), precision="fp32")
        trainer.add_event_handler(Events.EPOCH_COMPLETED, look)
        trainer.run()
    return held
