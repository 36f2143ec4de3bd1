"""Masks as bits: what is packed comes back, and other values are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_ext.data import DeviceDataset
from monai_ext.data.device.bits import pack_bits, unpack_bits


@pytest.mark.parametrize("count", [1, 4, 8, 9, 17])
def test_masks_come_back_from_their_bits(count):
    masks = torch.randint(0, 2, (3, count, 2, 5, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    packed = torch.stack([pack_bits(each) for each in masks])
    expected = np.packbits(masks.numpy(), axis=1, bitorder="little")
    assert np.array_equal(packed.numpy(), expected)
    assert torch.equal(unpack_bits(packed, count), masks)


def test_other_values_cannot_be_bits():
    with pytest.raises(ValueError, match="masks hold 0 to 2: only 0 and 1 can be bits"):
        pack_bits(torch.tensor([[0, 1, 2]]))


def test_a_data_set_holds_masks_as_bits_and_gives_them_as_they_were(tmp_path):
    generator = torch.Generator().manual_seed(0)
    sizes = [(4, 6, 5), (4, 6, 5), (3, 3, 3)]
    items = [
        {
            "id": f"{number}",
            "image": torch.randint(0, 256, (1, *size), dtype=torch.uint8, generator=generator),
            "label": torch.randint(0, 2, (5, 2, *size), dtype=torch.uint8, generator=generator),
        }
        for number, size in enumerate(sizes)
    ]
    settings = {"progress": False, "num_workers": 0, "cache_dir": tmp_path}
    plain = DeviceDataset(items, dict, **settings)
    for start in ("decoded", "from the file"):
        data = DeviceDataset(items, dict, bit_keys=["label"], **settings)
        assert data.shapes("label") == [(5, 2, *size) for size in sizes], start
        assert set(data[0]) == {"id", "image", "label"}
        for index, item in enumerate(items):
            assert torch.equal(data[index]["label"], item["label"]) and data[index]["label"].dtype == torch.uint8
        assert torch.equal(data.batch([1, 0])["label"], torch.stack([items[1]["label"], items[0]["label"]]))
        voxels = sum(torch.Size(size).numel() for size in sizes)
        assert data.nbytes == voxels * (1 + 2) + 3 * 8 and plain.nbytes == voxels * (1 + 10)


def test_items_with_different_numbers_of_masks_are_refused():
    items = [{"image": torch.zeros(1, 2, 2), "label": torch.zeros(count, 2, 2)} for count in (2, 3)]
    with pytest.raises(ValueError, match="items have 2 to 3 masks under 'label': bit_keys need one number"):
        DeviceDataset(items, dict, bit_keys=["label"], progress=False)
