"""Crops of volumes: operations counted exactly, host time as a ratio within one run, with room to spare."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

import torch

from benchmarks import volume_pipelines as ways
from benchmarks import volumes
from benchmarks.measure import CountOperations, in_turn, operations_of_second, timed, times_cheaper
from benchmarks.pipelines import exhaust
from benchmarks.workbench import Bench
from monai_ext.data import DeviceLoader

CPU = torch.device("cpu")


def test_a_batch_of_crops_is_two_copies_the_bits_of_its_masks_and_its_augmentation() -> None:
    loader = ways.ours(CPU, ways.volumes(8, *volumes.SMALL))
    count = operations_of_second(loader)
    (plan, *_) = loader.plans()
    batch = loader.dataset.crops(plan["host_index"], plan["starts"], loader.crops.size, plan["index"])
    with CountOperations() as augmentation:
        loader.transform.apply(batch, plan["parameters"])
    added = Counter(count.names) - Counter(augmentation.names)
    bits = {"aten::arange": 1, "aten::__rshift__.Tensor": 1, "aten::bitwise_and.Scalar": 1}
    assert added == Counter({"aten::stack": 2} | bits)
    assert len(count.names) == 54 and not count.waiting


def test_operations_of_crops_depend_neither_on_the_batch_nor_on_the_sizes_of_volumes() -> None:
    loader = ways.ours(CPU, ways.volumes(8, *volumes.SMALL))
    sizes = [(7, 5, 9), (6, 6, 6), (9, 4, 4), (6, 6, 6)]
    items = [item for size in sizes for item in ways.volumes(1, size, (4, 4, 4)).items]
    mixed = ways.ours(CPU, ways.Volumes(items, (4, 4, 4)))
    small = DeviceLoader(mixed.dataset, 3, shuffle=True, crops=mixed.crops, transform=mixed.transform)
    assert operations_of_second(small).names == operations_of_second(loader).names


def test_monais_recipe_takes_more_than_ten_times_the_operations_and_waits(tmp_path: Path) -> None:
    counted = volumes.counts(Bench(CPU, tmp_path, quick=True))
    assert len(counted[ways.FAST].names) > 10 * len(counted[ways.OURS].names)
    assert counted[ways.FAST].waiting and not counted[ways.OURS].waiting


def test_host_time_of_a_batch_of_crops_is_a_small_part_of_monais() -> None:
    few, many = 1, 16  # batches
    theirs = ways.fast(ways.volumes(few * ways.VOLUMES, *volumes.SMALL), CPU)
    ours = ways.ours(CPU, ways.volumes(many * ways.VOLUMES, *volumes.SMALL))
    costs = in_turn(
        {
            ways.OURS: lambda: timed(partial(exhaust, ours.__iter__), CPU) / many,
            ways.FAST: lambda: timed(partial(exhaust, theirs), CPU) / few,
        },
        rounds=5,
    )
    assert times_cheaper(costs[ways.OURS], costs[ways.FAST], "cpu") > 5


def test_a_volume_takes_an_eighth_of_the_bytes_of_monais_cache() -> None:
    data = ways.volumes(2, (20, 20, 20), (8, 8, 8))
    ours, theirs = ways.ours(CPU, data).dataset, ways.cached(data)
    assert ours.nbytes == 2 * (20**3 * 2 + 8)  # a byte for the image, one for up to eight masks, and their number
    assert ways.held_bytes(theirs) == 2 * 20**3 * 8


def test_all_pipelines_give_batches_of_one_kind(tmp_path: Path) -> None:
    data = ways.volumes(2, (10, 9, 8), (6, 6, 6))
    for epoch in volumes.pipelines(Bench(CPU, tmp_path), data).values():
        (batch,) = epoch()
        assert {key: (batch[key].shape, batch[key].dtype) for key in ("image", "label")} == {
            key: (torch.Size([ways.BATCH, 1, 6, 6, 6]), torch.float32) for key in ("image", "label")
        }
        assert 0.2 < batch["image"].mean() < 0.8 and batch["image"].max() <= 1.001
        assert set(batch["label"].unique().tolist()) == {0.0, 1.0}
