"""Size of the decoded set, and the time to make it and to read it again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from tempfile import TemporaryDirectory

import torch
from monai.data import CacheDataset
from monai.transforms import Compose

from benchmarks.measure import in_turn, middle, one_thread, timed, times_cheaper
from benchmarks.report import Result, Table
from benchmarks.workbench import KEYS, Bench, Pictures
from monai_ext.data import DecodeImaged, DeviceDataset

BUILD = "DeviceDataset, decoded"
DRAFT = "DeviceDataset, decoded at 192 x 256 with draft"
NO_DRAFT = "DeviceDataset, decoded at 192 x 256"
RELOAD = "DeviceDataset, from its file, every byte read"
MONAI = "CacheDataset"


@one_thread()
def run(bench: Bench) -> Result:
    pictures = bench.photographs()
    count = len(pictures.items)
    with TemporaryDirectory(dir=bench.folder) as cache_dir:
        decoded = build(bench, pictures, cache_dir=cache_dir)
        variants = builders(bench, pictures, cache_dir)
        costs = in_turn({name: partial(timed, work, bench.device) for name, work in variants.items()}, rounds=3)
    bytes_of = {
        BUILD: sum(decoded[0][key].nbytes for key in KEYS),
        MONAI: sum(monai_build(pictures)[0][key].nbytes for key in KEYS),
    }
    rows = [
        [
            name,
            f"{1000 * middle(costs[name], 'cpu') / count:.2f}",
            f"{1000 * middle(costs[name], 'wall') / count:.2f}",
            f"{times_cheaper(costs[name], costs[MONAI], 'cpu'):.1f}",
            f"{bytes_of[name]:,}" if name in bytes_of else "",
        ]
        for name in costs
    ]
    table = Table(
        f"{count} photographs of 600 x 450 at {' x '.join(map(str, pictures.size))}, one thread, median of 3 rounds; "
        "files in the page cache.",
        ["data set", "CPU ms/image", "ms/image", "x cheaper than CacheDataset", "bytes/image"],
        rows,
    )
    values = {
        "cache.bytes": bytes_of[MONAI] / bytes_of[BUILD],
        "cache.build": times_cheaper(costs[BUILD], costs[MONAI], "cpu"),
        "cache.draft": times_cheaper(costs[DRAFT], costs[NO_DRAFT], "cpu"),
        "cache.reload": times_cheaper(costs[RELOAD], costs[BUILD], "wall"),
    }
    return Result("Cache", [table], values)


def build(bench: Bench, pictures: Pictures, *, decode: Callable | None = None, cache_dir: str | None = None):
    """Our data set, decoded in the calling thread, or from its file if there is one in `cache_dir`."""
    return DeviceDataset(
        pictures.items,
        decode or pictures.decode,
        device=bench.device,
        cache_dir=cache_dir,
        num_workers=0,
        progress=False,
    )


def monai_build(pictures: Pictures) -> CacheDataset:
    """MONAI's, in one thread."""
    return CacheDataset(pictures.items, Compose(pictures.monai_decode), num_workers=1, progress=False)


def read_every_byte(dataset: DeviceDataset) -> None:
    """Mapping a file reads nothing; an epoch of batches does."""
    for rows in torch.arange(len(dataset)).split(64):
        dataset.batch(rows)


def builders(bench: Bench, pictures: Pictures, cache_dir: str) -> dict[str, Callable[[], object]]:
    """What is timed, by name."""
    draft, exact = DecodeImaged((192, 256), draft=True), DecodeImaged((192, 256))
    return {
        MONAI: partial(monai_build, pictures),
        BUILD: partial(build, bench, pictures),
        NO_DRAFT: partial(build, bench, pictures, decode=exact),
        DRAFT: partial(build, bench, pictures, decode=draft),
        RELOAD: lambda: read_every_byte(build(bench, pictures, cache_dir=cache_dir)),
    }
