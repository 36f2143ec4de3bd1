"""Cost of an epoch of training from pictures to weights, beside the bare step."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn

from benchmarks import loops
from benchmarks import pipelines as ways
from benchmarks.measure import Cost, in_turn, middle, timed, times_cheaper
from benchmarks.report import Result, Table
from benchmarks.workbench import BATCH_SIZE, Bench, Pictures, batches_on_device
from monai_ext.engines import autocast_dtype
from monai_ext.engines.allocator import kept_memory
from monai_ext.networks import MobileNetV2UNet

PLAIN = f"{ways.PLAIN}, bare loop, float32"
PLAIN_AUTO = f"{ways.PLAIN}, bare loop, precision auto"
SMP = f"{ways.PLAIN}, bare loop, float32, smp.Unet"
MONAI = f"{ways.CACHED}, typical MONAI bundle, float32"
FAST = f"{ways.FAST}, bare loop"
OURS_FLOAT = f"{ways.OURS}, BatchTrainer with handlers, float32"
OURS = f"{ways.OURS}, BatchTrainer with handlers, precision auto"
COMPILED = f"{OURS}, compiled"
LIMIT = "batches on the device, bare loop, precision auto"


class Epochs:
    """A pipeline as a loader for MONAI's engines: of known length, iterated once an epoch."""

    def __init__(self, epoch: ways.Pipeline, length: int):
        self.epoch, self.length = epoch, length

    def __len__(self) -> int:
        return self.length

    def __iter__(self):
        return iter(self.epoch())


def run(bench: Bench) -> Result:
    pictures, notes = _some(bench), []
    iterations = len(pictures.items) // BATCH_SIZE
    dtype = autocast_dtype(bench.device)
    variants = {
        PLAIN: _bare(bench, ways.plain(bench, pictures), MobileNetV2UNet(), dtype=None, channels_last=False),
        PLAIN_AUTO: _bare(bench, ways.plain(bench, pictures), MobileNetV2UNet(), dtype=dtype),
        MONAI: _engine(bench, Epochs(ways.cached(bench, pictures), iterations), loops.usual_trainer, False),
        FAST: _bare(bench, ways.fast_recipe(bench, pictures), MobileNetV2UNet(), dtype=dtype),
        OURS_FLOAT: _engine(bench, ways.ours(bench, pictures), _in_float32, False),
        OURS: _engine(bench, ways.ours(bench, pictures), loops.our_trainer, True),
        LIMIT: _bare(bench, _resident(bench, pictures, iterations), MobileNetV2UNet(), dtype=dtype, keep=True),
    }
    if bench.device.type == "cuda":
        variants[COMPILED] = _engine(
            bench, ways.ours(bench, pictures), partial(loops.our_trainer, compile="reduce-overhead"), True, epochs=2
        )
    smp = _smp_network()
    if isinstance(smp, nn.Module):
        variants[SMP] = _bare(bench, ways.plain(bench, pictures), smp, dtype=None, channels_last=False)
    else:
        notes.append(f"No row of segmentation-models-pytorch: {smp}")
    if dtype is None:
        notes.append("Precision auto is float32 on this device, which gains nothing by bfloat16.")
    costs = in_turn(variants, rounds=bench.pick(max(3, bench.rounds // 2), bench.rounds))
    rows = [
        [
            name,
            f"{middle(costs[name], 'wall'):.2f}",
            f"{times_cheaper(costs[name], costs[PLAIN], 'wall'):.2f}",
            f"{times_cheaper(costs[OURS], costs[name], 'wall'):.2f}",
        ]
        for name in costs
    ]
    size = " x ".join(map(str, pictures.size))
    table = Table(
        f"{iterations} iterations of MobileNetV2UNet at {size}, batch {BATCH_SIZE}, {bench.workers} workers; median of "
        f"{len(costs[OURS])} rounds.",
        ["pipeline and loop", "s/epoch", "x faster than PyTorch's", "ours x faster"],
        rows,
    )
    baseline = SMP if SMP in costs else PLAIN
    values = {
        "epoch.same_precision": times_cheaper(costs[OURS_FLOAT], costs[baseline], "wall"),
        "epoch.plain": times_cheaper(costs[OURS], costs[baseline], "wall"),
        "epoch.plain_same": times_cheaper(costs[OURS], costs[PLAIN_AUTO], "wall"),
        "epoch.fast": times_cheaper(costs[OURS], costs[FAST], "wall"),
        "epoch.default": times_cheaper(costs[OURS_FLOAT], costs[MONAI], "wall"),
        "epoch.share_of_step": times_cheaper(costs[LIMIT], costs[OURS], "wall") - 1,
        "epoch.bfloat16": float(dtype is not None),
    }
    return Result("End-to-end epoch", [table], values, notes)


def _some(bench: Bench) -> Pictures:
    """Fewer photographs on a CPU, where the step takes long and the data path is measured elsewhere."""
    pictures = bench.photographs()
    count = len(pictures.items) if bench.device.type == "cuda" else min(len(pictures.items), 3 * BATCH_SIZE)
    return Pictures(pictures.items[:count], pictures.size, pictures.decode, pictures.monai_decode)


def _bare(
    bench: Bench, epoch: ways.Pipeline, network: nn.Module, *, keep: bool = False, **how: Any
) -> Callable[[], Cost]:
    """`keep`: memory is kept from step to step, as `BatchTrainer` does it on a CPU."""
    parts = loops.Parts(network, bench.device, channels_last=how.get("channels_last", True))

    def work() -> None:
        with kept_memory(bench.device) if keep else nullcontext():
            loops.bare_training(parts, epoch(), **how)

    return partial(timed, work, bench.device)


def _engine(bench: Bench, loader: Any, build: Callable, channels_last: bool, *, epochs: int = 1) -> Callable[[], Cost]:
    """Cost of the last of `epochs` epochs of a new trainer."""
    parts = loops.Parts(MobileNetV2UNet(), bench.device, channels_last=channels_last)

    def epoch() -> Cost:
        with TemporaryDirectory() as folder:
            return loops.cost_of_last_epoch(build(parts, loader, epochs=epochs, folder=Path(folder)))

    return epoch


def _in_float32(*args: Any, **kwargs: Any) -> Any:
    return loops.our_trainer(*args, precision="fp32", channels_last=False, **kwargs)


def _resident(bench: Bench, pictures: Pictures, iterations: int) -> ways.Pipeline:
    batches = batches_on_device(bench.device, min(iterations, 4), pictures.size)
    return lambda: islice((batch for _ in range(iterations) for batch in batches), iterations)


def _smp_network() -> nn.Module | str:
    """smp's MobileNetV2 U-Net, or why there is none."""
    try:
        import segmentation_models_pytorch as smp  # optional: it needs a torchvision built for the torch at hand
    except (ImportError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}."
    return smp.Unet("mobilenet_v2", encoder_weights=None)
