"""Time and memory of upscaling an image window by window, beyond the network.

The network returns an image made before, so that what is left is the machinery: windows cut out, outputs stitched, and
in ours the rounding to 8 bits. Both sides cut windows of 256 pixels that share 32.
"""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from torch import Tensor, nn

from benchmarks.measure import Cost, in_turn, middle, one_thread, resident_bytes, timed, times_cheaper
from benchmarks.report import Result, Table
from benchmarks.workbench import Bench
from monai_ext.raster.info import RasterInfo
from monai_ext.upscaling import Upscaler

SCALE, TILE, OVERLAP, BATCH = 4, 256, 32, 4
CONSTANT = "MONAI sliding_window_inference, constant, float32"
GAUSSIAN = "MONAI sliding_window_inference, gaussian, float32"
HALO = "Upscaler, halo, 8 bits"
FEATHER = "Upscaler, feather, 8 bits"


class Ready(nn.Module):
    """Answers windows of any shape with an image that it made when it saw the shape for the first time."""

    in_channels = 3

    def __init__(self) -> None:
        super().__init__()
        self.outputs: dict[tuple[int, ...], Tensor] = {}

    def forward(self, windows: Tensor) -> Tensor:
        shape = (*windows.shape[:2], *(SCALE * side for side in windows.shape[2:]))
        if shape not in self.outputs:
            self.outputs[shape] = torch.rand(shape, device=windows.device)
        return self.outputs[shape]


class Held:
    """A raster in memory."""

    def __init__(self, side: int):
        self.pixels = np.random.default_rng(0).integers(0, 256, (3, side, side), dtype=np.uint8)
        self.info = RasterInfo(Path("held"), (side, side), 3, np.dtype(np.uint8), (None,) * 3)

    def rows(self, top: int, bottom: int) -> np.ndarray:
        return self.pixels[:, top:bottom]

    def close(self) -> None:
        pass


def variants(device: torch.device, side: int) -> dict[str, Callable[[], object]]:
    """Name -> upscale an image of `side` x `side` pixels once."""
    network, raster = Ready().to(device), Held(side)
    image = torch.from_numpy(raster.pixels)[None].float() / 255

    def usual(mode: str) -> Tensor:
        return sliding_window_inference(
            image, TILE, BATCH, network, overlap=OVERLAP / TILE, mode=mode, sw_device=device, device=torch.device("cpu")
        )

    def ours(upscaler: Upscaler) -> None:
        for _ in upscaler.plan(raster):
            pass

    made = {
        name: Upscaler(network, tile=TILE, overlap=OVERLAP, mode=mode, batch_size=BATCH, device=device)
        for name, mode in ((HALO, "halo"), (FEATHER, "feather"))
    }
    return {
        CONSTANT: partial(usual, "constant"),
        GAUSSIAN: partial(usual, "gaussian"),
        **{name: partial(ours, upscaler) for name, upscaler in made.items()},
    }


def peak_bytes(work: Callable[[], object]) -> float:
    """Memory that this process holds at most while `work` runs, beyond what it held before; NaN where that is hidden.

    Linux reports the highest mark and allows it to be reset.
    """
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # free memory is not counted
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return float("nan")
    before = resident_bytes()
    work()
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * float(next(line for line in lines if line.startswith("VmHWM")).split()[1]) - before


@one_thread()
def run(bench: Bench) -> Result:
    side, rounds = bench.pick(2048, 320), min(bench.rounds, 5)
    work = variants(bench.device, side)
    clock = "wall" if bench.device.type == "cuda" else "cpu"

    def cost(name: str) -> Cost:
        return timed(work[name], bench.device)

    costs = in_turn({name: partial(cost, name) for name in work}, rounds=rounds)
    peaks = {name: peak_bytes(work[name]) for name in work}
    rows = [
        [
            name,
            f"{middle(costs[name], clock):.2f}",
            f"{times_cheaper(costs[name], costs[CONSTANT], clock):.2f}",
            f"{peaks[name] / 2**20:.0f}",
        ]
        for name in work
    ]
    table = Table(
        f"{side} x {side} to {SCALE * side} x {SCALE * side} pixels of 3 bands, windows of {TILE} that share "
        f"{OVERLAP}, a network that costs nothing; {clock} time, median of {rounds} rounds; memory of one run beyond "
        "what was held before.",
        ["inferer", "s", "x faster", "MiB at most"],
        rows,
    )
    values = {
        "tiling.time": times_cheaper(costs[HALO], costs[CONSTANT], clock),
        "tiling.feather_time": times_cheaper(costs[FEATHER], costs[CONSTANT], clock),
    }
    if os.path.exists("/proc/self/clear_refs") and peaks[HALO] > 0:
        values["tiling.memory"] = peaks[HALO] / peaks[CONSTANT]
    return Result("Tiled enlargement", [table], values)
