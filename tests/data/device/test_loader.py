"""Batches from a data set on the device: order, ragged sizes, shards, weights."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from arrays import dataset

from monai_ext.data.device.loader import DeviceLoader
from monai_ext.transforms import BatchAugment, RandomAffine, RandomColour, RandomFlip, RandomNoise
from monai_ext.transforms.parameters import AugmentParameters


def epoch_ids(loader: DeviceLoader) -> list[list[str]]:
    return [batch["id"] for batch in loader]


def test_order_depends_on_seed_and_epoch_alone(write_items) -> None:
    data = dataset(write_items(10))
    loader = DeviceLoader(data, 4, shuffle=True, seed=3)
    first, second = epoch_ids(loader), epoch_ids(loader)
    assert sorted(sum(first, [])) == sorted(data.ids) and first != second
    again = DeviceLoader(data, 4, shuffle=True, seed=3)
    again.set_epoch(1)
    assert epoch_ids(again) == second
    assert epoch_ids(DeviceLoader(data, 4, shuffle=True, seed=4)) != first
    assert [len(batch) for batch in first] == [4, 4, 2] and len(loader) == 3
    assert epoch_ids(DeviceLoader(data, 4)) == [data.ids[:4], data.ids[4:8], data.ids[8:]]
    assert [len(batch) for batch in epoch_ids(DeviceLoader(data, 4, drop_last=True))] == [4, 4]


def test_a_resumed_epoch_repeats_the_augmentation_whatever_the_batch_size(write_items) -> None:
    data = dataset(write_items(10))
    augment = BatchAugment([RandomFlip(), RandomAffine(90), RandomColour(0.2), RandomNoise(0.1)])
    run = DeviceLoader(data, 4, shuffle=True, transform=augment)
    next(iter(run))  # an epoch that was broken off
    second = torch.cat([batch["image"] for batch in run])
    resumed = DeviceLoader(data, 5, shuffle=True, transform=augment)
    resumed.set_epoch(1)
    torch.testing.assert_close(torch.cat([batch["image"] for batch in resumed]), second, atol=1e-5, rtol=0)


def test_batches_are_their_plans_made(write_items) -> None:
    data = dataset(write_items(10))
    for transform in (BatchAugment([RandomFlip(), RandomAffine(90)]), None, lambda batch: {"n": len(batch["id"])}):
        planned, made = (DeviceLoader(data, 4, shuffle=True, seed=1, transform=transform) for _ in range(2))
        for _ in range(2):  # both count epochs
            plans = list(planned.plans())
            for plan, batch in zip(plans, made, strict=True):
                assert plan["index"].tolist() == plan["host_index"]
                for key, value in planned.make(plan).items():
                    same = torch.equal(value, batch[key]) if isinstance(value, torch.Tensor) else value == batch[key]
                    assert same, key


def test_a_function_is_a_transform_too(write_items) -> None:
    loader = DeviceLoader(dataset(write_items(3)), 2, transform=lambda batch: {"n": len(batch["id"])})
    assert list(loader) == [{"n": 2}, {"n": 1}]


def test_sizes_are_kept_apart_and_every_item_is_seen_once(write_items) -> None:
    data = dataset(write_items(11, [(6, 8), (4, 4), (6, 8)]))
    loader = DeviceLoader(data, 3, shuffle=True, transform=BatchAugment([RandomAffine(30)]))
    for _ in range(2):
        batches = list(loader)
        assert sorted(sum((batch["id"] for batch in batches), [])) == sorted(data.ids)
        assert len(batches) == len(loader) == 5
    for batch in DeviceLoader(data, 3, shuffle=True):
        assert batch["image"][:, 0, 0, 0].tolist() == batch["index"].tolist()
        for i, name in zip(batch["index"].tolist(), batch["id"], strict=True):
            assert data[i]["image"].shape == batch["image"].shape[1:] and name == f"case{i}"
    with pytest.raises(ValueError, match="different sizes, .*: set spatial_size"):
        data.batch([0, 1])


@pytest.mark.parametrize("count", [7, 8, 9, 17])
@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_shards_hold_every_item_once_and_give_equal_numbers_of_batches(
    write_items, count: int, world_size: int, batch_size: int
) -> None:
    items = write_items(count)
    shards = [dataset(items, num_workers=0, shard=(rank, world_size)) for rank in range(world_size)]
    epochs = [epoch_ids(DeviceLoader(shard, batch_size, shuffle=True)) for shard in shards]
    assert len({len(epoch) for epoch in epochs}) == 1
    seen = [name for epoch in epochs for batch in epoch for name in batch]
    assert set(seen) == {item["id"] for item in items}
    assert all(0 < len(batch) <= batch_size for epoch in epochs for batch in epoch)
    if batch_size > 1:
        assert len(seen) == count
    if count // world_size >= batch_size:
        whole = [epoch_ids(DeviceLoader(shard, batch_size, drop_last=True)) for shard in shards]
        assert len({len(epoch) for epoch in whole}) == 1
        assert {len(batch) for epoch in whole for batch in epoch} == {batch_size}


def _rank_writes_what_it_saw(rank: int, items: list[dict], folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    data = dataset(items, num_workers=0, on_error="skip")
    batches = epoch_ids(DeviceLoader(data, 2, shuffle=True))
    Path(folder, f"rank{rank}.txt").write_text("\n".join(" ".join(batch) for batch in batches))
    dist.destroy_process_group()


def test_two_processes_share_the_items(write_items, tmp_path: Path) -> None:
    items = write_items(9)
    for broken in (2, 4):  # both of rank 0, which keeps 3 of 5; rank 1 has 4
        Path(items[broken]["image"]).write_bytes(b"broken")
    method = "fork" if sys.platform == "linux" else "spawn"  # spawned processes import everything again
    mp.start_processes(_rank_writes_what_it_saw, args=(items, str(tmp_path)), nprocs=2, start_method=method)
    ranks = [[line.split() for line in (tmp_path / f"rank{rank}.txt").read_text().splitlines()] for rank in range(2)]
    assert [len(rank) for rank in ranks] == [2, 2]
    assert sorted(sum(sum(ranks, []), [])) == [f"case{i}" for i in range(9) if i not in (2, 4)]
    assert sorted(sum(ranks[1], [])) == ["case1", "case3", "case5", "case7"]


def _rank_writes_batches_of_each_size(rank: int, items: list[dict], folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    data = dataset(items, num_workers=0)
    for name, options in {"all": {}, "drawn": {"shuffle": True}, "full": {"drop_last": True}}.items():
        loader = DeviceLoader(data, 3, **options)
        batches = [epoch_ids(loader) for _ in range(2)][-1]
        assert len(batches) == len(loader)
        Path(folder, f"{name}{rank}.txt").write_text("\n".join(" ".join(batch) for batch in batches))
    dist.destroy_process_group()


def test_two_processes_share_items_of_different_sizes(write_items, tmp_path: Path) -> None:
    large, small, other = (8, 8), (4, 4), (6, 4)
    # rank 0 has seven of one size; rank 1 has four, two and one of three sizes
    items = write_items(
        14, [large, large, large, large, large, small, large, small, large, other, large, large, large, large]
    )
    method = "fork" if sys.platform == "linux" else "spawn"
    mp.start_processes(_rank_writes_batches_of_each_size, args=(items, str(tmp_path)), nprocs=2, start_method=method)

    def batches(name: str) -> list[list[list[str]]]:
        ranks = [(tmp_path / f"{name}{rank}.txt").read_text().splitlines() for rank in range(2)]
        return [[line.split() for line in rank] for rank in ranks]

    for name in ("all", "drawn"):
        first, second = batches(name)
        assert len(first) == len(second) == 4  # 3 + 3 + 1, halved once; 3 + 1, 2, 1
        assert sorted(sum(first + second, [])) == sorted(item["id"] for item in items)
        assert sorted(map(len, second)) == [1, 1, 2, 3]
    assert [[len(batch) for batch in rank] for rank in batches("full")] == [[3], [3]]
    assert batches("full")[1] == [["case1", "case3", "case11"]]


def test_fewer_items_than_a_batch_are_one_batch(write_items) -> None:
    loader = DeviceLoader(dataset(write_items(3)), 4, drop_last=True, shuffle=True)
    assert [sorted(batch["id"]) for batch in loader] == [["case0", "case1", "case2"]] and len(loader) == 1


def test_wrong_loaders_are_named(write_items) -> None:
    data = dataset(write_items(3))
    with pytest.raises(ValueError, match="batch_size=0"):
        DeviceLoader(data, 0)
    with pytest.raises(ValueError, match="too few"):
        dataset([])
    ragged = dataset(write_items(8, [(6, 8), (6, 8), (4, 4), (4, 4)]), shard=(0, 2))
    with pytest.raises(ValueError, match="ranks cannot share items of different sizes: set spatial_size"):
        DeviceLoader(ragged, 2)


class FirstPixels:
    """Crops of 2 x 2 pixels from the corner, plus a number that is drawn for each item."""

    def draw(self, count, generator):
        return AugmentParameters(count, {}, {"number": torch.rand(count, generator=generator)})

    def apply(self, batch, parameters):
        crops = {key: batch[key][..., :2, :2] for key in ("image", "label")}
        return batch | crops | {"number": parameters.tensors["number"]}


def test_items_of_different_sizes_share_batches_where_crops_make_them_equal(write_items) -> None:
    data = dataset(write_items(10, sizes=[(6, 8), (4, 4)]))
    loader = DeviceLoader(data, 4, shuffle=True, drop_last=True, mixed_sizes=True, transform=FirstPixels())
    apart = DeviceLoader(data, 4, shuffle=True, drop_last=True)
    assert len(loader) == 2 and len(apart) == 2
    first, second = loader
    assert any(len({int(name[4:]) % 2 for name in batch["id"]}) == 2 for batch in (first, second))
    for batch in (first, second):
        assert batch["image"].shape == (4, 3, 2, 2) and len(set(batch["number"].tolist())) == 4
        assert [f"case{number}" for number in batch["image"][:, 0, 0, 0].tolist()] == batch["id"]
        assert [f"case{number}" for number in batch["index"].tolist()] == batch["id"]
    assert len({*first["id"], *second["id"]}) == 8
    with pytest.raises(ValueError, match=r"(image|label) has the sizes \(., 4, 4\), \(., 6, 8\) in one batch"):
        list(DeviceLoader(data, 10, mixed_sizes=True))


def test_weights_decide_how_often_an_item_is_drawn(write_items) -> None:
    data = dataset(write_items(4))
    loader = DeviceLoader(data, 2, shuffle=True, weights=[0, 1, 3, 0], seed=1)
    epochs = [sum(epoch_ids(loader), []) for _ in range(200)]
    names = sum(epochs, [])
    assert len(names) == 800 and set(names) == {"case1", "case2"} and len(set(map(tuple, epochs))) > 10
    assert names.count("case2") / 800 == pytest.approx(0.75, abs=0.05)
    loader.set_epoch(7)
    assert sum(epoch_ids(loader), []) == epochs[7]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"weights": [1, 1]}, r"weights of shape \(2,\) are not for 3 items"),
        ({"weights": [1, -1, 1]}, "not negative"),
        ({"weights": [0, 0, 0]}, "not all 0"),
        ({"weights": [1, 1, 1], "shuffle": False}, "need shuffle=True"),
    ],
)
def test_weights_that_cannot_be_drawn_by_are_refused(write_items, options, sentence) -> None:
    with pytest.raises(ValueError, match=sentence):
        DeviceLoader(dataset(write_items(3)), 2, **{"shuffle": True} | options)
