"""Random crops: numpy slicing as reference, shares, seeds, sizes, where data lie."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_ext.data import DeviceDataset, DeviceLoader, RandomCrops
from monai_ext.data.device import crops as crops_module
from monai_ext.data.device import dataset as resident
from monai_ext.transforms import BatchAugment, RandomFlip

SIZES = [(12, 10, 8), (9, 14, 6), (12, 10, 8), (5, 20, 3)]


def volumes(sizes=SIZES, raters=3, structures=None):
    """Volumes of noise, in which rater r marked the voxels 2 ... 4 + r along each axis, each structure one less."""
    rng, items = np.random.default_rng(0), []
    for number, size in enumerate(sizes):
        label = np.zeros((raters, structures or 1, *size), np.uint8)
        for rater in range(raters):
            for structure in range(structures or 1):
                label[rater, structure][tuple(slice(2, 4 + rater - structure) for _ in size)] = 1
        items.append(
            {
                "id": f"{number}",
                "image": rng.integers(10, 256, (2, *size), dtype=np.uint8),
                "label": label if structures else label[:, 0],
                "presence": np.ones(raters, bool),
                "affine": np.eye(4) * number,
            }
        )
    return items


def held(items, **settings):
    return DeviceDataset(items, dict, progress=False, num_workers=0, **settings)


def sliced(array, start, size, outside):
    """A crop by numpy, surrounded where the array ends."""
    sides = array.shape[-len(size) :]
    reach = [(max(0, -s), max(0, s + n - side)) for s, n, side in zip(start, size, sides, strict=True)]
    lead = [(0, 0)] * (array.ndim - len(size))
    padded = np.stack(
        [np.pad(each, [*lead[1:], *reach], constant_values=value) for each, value in zip(array, outside, strict=True)]
    )
    places = tuple(slice(s + low, s + low + n) for s, n, (low, _) in zip(start, size, reach, strict=True))
    return padded[(..., *places)]


@pytest.mark.parametrize("structures", [None, 2])
@pytest.mark.parametrize("bit_keys", [(), ("label",)])
@pytest.mark.parametrize("size", [(4, 5, 3), (8, 12, 6)])
def test_crops_are_what_numpy_slices(size, bit_keys, structures):
    items = volumes(structures=structures)
    crops = RandomCrops(size, foreground_share=0.4, disagreement_share=0.3, per_item=5)
    loader = DeviceLoader(held(items, bit_keys=bit_keys), 3, shuffle=True, crops=crops)
    seen = []
    for plan in loader.plans():
        batch = loader.make(plan)
        assert batch["image"].shape == (len(batch["id"]), 2, *size) and batch["image"].dtype == torch.uint8
        for row, (number, start) in enumerate(zip(plan["host_index"], plan["starts"], strict=True)):
            image, label = items[number]["image"], items[number]["label"]
            lowest = image.reshape(2, -1).min(1)
            assert np.array_equal(batch["image"][row], sliced(image, start, size, lowest))
            assert np.array_equal(batch["label"][row], sliced(label, start, size, [0] * 3))
            assert batch["affine"][row, 0, 0] == number and batch["presence"][row].all()
            seen.append(number)
    assert sorted(seen) == sorted(5 * list(range(4))) and len(loader) == 7


def test_pictures_are_cropped_as_well():
    items = volumes([(9, 11), (12, 8)])
    loader = DeviceLoader(held(items), 2, crops=RandomCrops((4, 5), foreground_share=1.0))
    (plan,) = loader.plans()
    batch = loader.make(plan)
    for row, start in enumerate(plan["starts"]):
        assert np.array_equal(batch["image"][row], sliced(items[row]["image"], start, (4, 5), [0, 0]))


def centres(loader, items, count):
    """The middle voxels of the crops of `count` epochs, as (item, place)."""
    found = []
    for _ in range(count):
        for plan in loader.plans():
            starts = np.array(plan["starts"]) + np.array(loader.crops.size) // 2
            found += zip(plan["host_index"], map(tuple, starts), strict=True)
    return found


def test_shares_of_crops_lie_around_foreground_and_disagreement():
    items = volumes([(40, 40, 40)] * 2)  # far from the border, so that no crop is moved
    for item in items:
        item["label"] = np.roll(item["label"], (18, 18, 18), (1, 2, 3))
    crops = RandomCrops((5, 5, 5), foreground_share=0.3, disagreement_share=0.5, per_item=500)
    loader = DeviceLoader(held(items, bit_keys=["label"]), 8, crops=crops, seed=3)
    found = centres(loader, items, 2)
    marked = np.mean([items[i]["label"][(slice(None), *place)].any() for i, place in found])
    disputed = np.mean([0 < items[i]["label"][(slice(None), *place)].sum() < 3 for i, place in found])
    # of 4 x 4 x 4 marked voxels 2 x 2 x 2 are agreed on: the foreground's share of disagreement is 56 / 64
    spread = 4 * np.sqrt(0.25 / len(found))
    assert abs(marked - 0.8) < spread and abs(disputed - (0.5 + 0.3 * 56 / 64)) < spread


def test_crops_anywhere_reach_every_place_alike():
    crops = RandomCrops((3, 3, 3), per_item=4000)
    starts = crops.draw(torch.zeros(4000, dtype=torch.long), crops.places(held(volumes([(5, 5, 6)])), "image"))
    counts = torch.unique(starts, dim=0, return_counts=True)[1]
    assert len(counts) == 3 * 3 * 4 and counts.min() > 60 and counts.max() < 180  # 111 each


def test_a_missing_rater_is_no_disagreement_and_an_empty_item_is_cropped_anywhere():
    items = volumes([(20, 20, 20)] * 2, raters=2)
    items[0]["presence"] = np.array([True, False])
    items[0]["label"][1] = 0
    items[1]["label"][:] = 0
    crops = RandomCrops((2, 2, 2), disagreement_share=1.0, per_item=50)
    dataset = held(items)
    places = crops.places(dataset, "image")
    assert [len(flat) for flat, _ in (places.foreground, places.disagreement)] == [8, 0]
    found = centres(DeviceLoader(dataset, 10, crops=crops), items, 1)
    assert all(items[0]["label"][(0, *place)] for i, place in found if i == 0)
    assert len({place for i, place in found if i == 1}) > 40


def test_many_places_are_kept_in_part(monkeypatch):
    monkeypatch.setattr(crops_module, "KEPT_PLACES", 5)
    flat, begins = RandomCrops((2, 2, 2), foreground_share=1.0).places(held(volumes()), "image").foreground
    assert begins.tolist() == [0, 5, 10, 15, 20] and len(set(flat[:5].tolist())) == 5


def test_a_resumed_epoch_has_the_crops_of_an_uninterrupted_one_whatever_the_batch_size():
    crops = RandomCrops((4, 4, 4), foreground_share=0.5, per_item=3)
    dataset = held(volumes(), bit_keys=["label"])
    augment = BatchAugment([RandomFlip()], spatial_dims=3)
    first = DeviceLoader(dataset, 4, shuffle=True, seed=5, crops=crops, transform=augment)
    epochs = [list(first), list(first)]
    again = DeviceLoader(dataset, 6, shuffle=True, seed=5, crops=crops, transform=augment)
    again.set_epoch(1)
    epochs.append(list(again))
    for key in ("image", "label"):
        whole, resumed = (torch.cat([batch[key] for batch in batches]) for batches in epochs[1:])
        assert torch.equal(whole, resumed)
        assert not torch.equal(whole, torch.cat([batch[key] for batch in epochs[0]]))
    other = list(DeviceLoader(dataset, 4, shuffle=True, seed=6, crops=crops, transform=augment))
    assert not torch.equal(other[0]["image"], epochs[0][0]["image"])


def test_weights_draw_items_and_sizes_share_batches_over_ranks():
    dataset = held(volumes(), shard=(1, 2))
    loader = DeviceLoader(dataset, 2, shuffle=True, crops=RandomCrops((3, 3, 3), per_item=4), weights=[0.0, 1.0])
    assert [batch["id"] for batch in loader] == [["3", "3"]] * 4


def test_what_is_too_large_for_the_device_is_cropped_on_the_host(monkeypatch):
    monkeypatch.setattr(resident, "free_memory", lambda device: 100 if device.type == "meta" else None)
    data = held(volumes(), device="meta", bit_keys=["label"])
    loader = DeviceLoader(data, 4, crops=RandomCrops((8, 12, 6), foreground_share=1.0))
    assert data.spilled
    (batch,) = loader
    assert batch["image"].device.type == "meta" and batch["label"].shape == (4, 3, 8, 12, 6)
    data.device = torch.device("cpu")  # what would have been copied
    (plan,) = loader.plans()
    moved = loader.make(plan)
    assert np.array_equal(moved["image"][0], sliced(volumes()[0]["image"], plan["starts"][0], (8, 12, 6), [10, 10]))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"size": (4,)}, "give two or three sides"),
        ({"size": (4, 0)}, "and at least 1"),
        ({"size": (4, 4), "per_item": 0}, "and at least 1"),
        ({"size": (4, 4), "foreground_share": 0.7, "disagreement_share": 0.4}, "together not above 1"),
        ({"size": (4, 4), "foreground_share": -0.1}, "must not be negative"),
    ],
)
def test_wrong_settings_are_named(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        RandomCrops(**settings)


def test_crops_around_marks_need_masks():
    items = [{"image": item["image"]} for item in volumes()]
    with pytest.raises(ValueError, match="item 0 has no 'label', the masks around which crops are wanted"):
        DeviceLoader(held(items), 2, crops=RandomCrops((3, 3, 3), foreground_share=0.5))
    assert len(list(DeviceLoader(held(items), 2, crops=RandomCrops((3, 3, 3))))) == 2
