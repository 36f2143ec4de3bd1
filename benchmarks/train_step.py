"""Cost of the bare step on batches in device memory, by number format and memory layout."""

from __future__ import annotations

from functools import partial

import torch

from benchmarks import loops
from benchmarks.measure import Cost, in_turn, middle, timed, times_cheaper
from benchmarks.report import Result, Table
from benchmarks.workbench import BATCH_SIZE, Bench, batches_on_device
from monai_ext.engines.allocator import kept_memory
from monai_ext.engines.precision import autocast_dtype, has_bfloat16
from monai_ext.networks import MobileNetV2UNet

PLAIN = "float32"
LAID_OUT = "float32, channels_last"
LAID_OUT_HALF = "bfloat16, channels_last"
KEPT = ", memory kept"  # as `BatchTrainer` does on a CPU


def run(bench: Bench) -> Result:
    size, count = bench.pick((256, 256), (64, 64)), 20 if bench.device.type == "cuda" else 1
    batches = batches_on_device(bench.device, 1, size) * count
    formats: dict[str, tuple[torch.dtype | None, bool]] = {PLAIN: (None, False), LAID_OUT: (None, True)}
    best, notes = LAID_OUT, []
    if has_bfloat16(bench.device):
        formats |= {"bfloat16": (torch.bfloat16, False), LAID_OUT_HALF: (torch.bfloat16, True)}
    else:
        notes.append("No bfloat16 rows: this device does not compute in it.")
    if autocast_dtype(bench.device) is None:
        notes.append("The engines leave bfloat16 off on this device.")
    else:
        best = LAID_OUT_HALF
    variants = {name: (*key, False) for name, key in formats.items()}
    if bench.device.type == "cpu":
        variants |= {name + KEPT: (*key, True) for name, key in formats.items()}
        best += KEPT

    def step_of(dtype: torch.dtype | None, channels_last: bool, kept: bool) -> Cost:
        parts = networks[dtype, channels_last]
        work = partial(loops.bare_training, parts, batches, dtype=dtype, channels_last=channels_last)
        if not kept:
            return timed(work, bench.device) / (count * BATCH_SIZE)
        with kept_memory(bench.device):
            work()  # takes from the system what later steps find
            return timed(work, bench.device) / (count * BATCH_SIZE)

    networks = {key: loops.Parts(MobileNetV2UNet(), bench.device, channels_last=key[1]) for key in formats.values()}
    costs = in_turn({name: partial(step_of, *key) for name, key in variants.items()}, rounds=bench.rounds)
    rows = [
        [
            name,
            f"{1000 * middle(costs[name], 'wall'):.2f}",
            f"{1000 * middle(costs[name], 'cpu'):.2f}",
            f"{times_cheaper(costs[name], costs[PLAIN], 'wall'):.2f}",
        ]
        for name in costs
    ]
    table = Table(
        f"MobileNetV2UNet at {size[0]} x {size[1]}, batch {BATCH_SIZE}: forward, backward, Adam; "
        f"median of {bench.rounds} rounds of {count} step(s).",
        ["step", "ms/image", "CPU ms/image", "x faster"],
        rows,
    )
    ms_per_image = 1000 * middle(costs[best], "wall")
    return Result("Train step", [table], {"step.ms_per_image": ms_per_image}, notes)
