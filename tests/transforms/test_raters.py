"""One rater drawn for each case."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from monai_ext.data import DeviceLoader, write_rater_phantoms
from monai_ext.transforms import BatchAugment, OneRaterAugment, RandomAffine, RandomFlip, RandomGamma, RaterConsensusd
from monai_ext.transforms.raters import pick_rater


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantoms")
    write_rater_phantoms(folder, count=3, size=(32, 32))
    return folder


def test_every_rater_present_is_picked_equally_often_and_a_missing_one_never():
    masks = torch.arange(4).view(1, 4, 1, 1).expand(300, -1, -1, -1)
    presence = torch.tensor([True, False, True, True]).expand(300, -1)
    picked = pick_rater(masks, presence, torch.arange(300) / 300)
    assert picked.shape == (300, 1, 1, 1)
    assert torch.bincount(picked.flatten(), minlength=4).tolist() == [100, 0, 100, 100]


def test_the_largest_float_below_one_picks_the_last_rater():
    u = torch.nextafter(torch.ones(1), torch.zeros(1))
    masks, presence = torch.arange(3).view(1, 3, 1, 1), torch.ones(1, 3)
    assert pick_rater(masks, presence, u).item() == 2


def rater_batch(count: int = 40) -> dict:
    """Rater r marks row r alone; rater 1 is missing from odd cases."""
    label = torch.zeros(count, 3, 4, 4, dtype=torch.uint8)
    for r in range(3):
        label[:, r, r] = 1
    presence = torch.ones(count, 3, dtype=torch.bool)
    presence[1::2, 1] = False
    return {"image": torch.rand(count, 1, 4, 4), "label": label, "presence": presence}


def test_one_rater_a_case_is_kept_whole_and_the_same_seed_picks_the_same():
    batch, augment = rater_batch(), OneRaterAugment()
    first, again, other = (augment(batch, torch.Generator().manual_seed(seed))["label"] for seed in (0, 0, 1))
    assert first.shape == (40, 1, 4, 4) and torch.equal(first, again) and not torch.equal(first, other)
    rows = first[:, 0, :, 0].argmax(1)
    assert torch.equal(first.sum((1, 2, 3)), torch.full((40,), 4.0))
    assert set(rows.tolist()) == {0, 1, 2} and 1 not in rows[1::2].tolist()


def test_the_rater_is_drawn_beside_the_augmentation_which_stays_as_it_was():
    parts = [RandomFlip(), RandomAffine(10), RandomGamma([0.8, 1.25])]
    drawn = [kind(parts).draw(6, torch.Generator().manual_seed(0)) for kind in (BatchAugment, OneRaterAugment)]
    assert all(
        torch.equal(drawn[0].tensors[name], value) for name, value in drawn[1].tensors.items() if name != "rater"
    )
    assert [len(part.tensors["rater"]) for part in drawn[1].split([4, 2])] == [4, 2]


def test_an_epochs_raters_depend_on_the_epoch_and_the_seed_alone(phantoms):
    from monai_ext.data import DecodeRaters, DeviceDataset, qubiq_items

    dataset = DeviceDataset(qubiq_items(phantoms), DecodeRaters(normalise="minmax"), progress=False)

    def labels(epoch: int, batch_size: int) -> Tensor:
        loader = DeviceLoader(dataset, batch_size=batch_size, shuffle=True, seed=5, transform=OneRaterAugment())
        loader.set_epoch(epoch)
        return torch.cat([batch["label"] for batch in loader])

    assert torch.equal(labels(3, 1), labels(3, 3))
    assert len({labels(epoch, 3).sum().item() for epoch in range(6)}) > 1


def test_the_masks_of_a_case_become_their_consensus():
    item = {"id": "a", "label": torch.tensor([[[1, 1, 0]], [[1, 0, 0]], [[0, 0, 1]]]).byte()}
    item["presence"] = torch.tensor([True, True, False])
    found = RaterConsensusd("label", method="majority")(item)
    assert found["label"].tolist() == [[[1, 1, 0]]] and found["label"].dtype == torch.uint8 and found["id"] == "a"
    assert RaterConsensusd(method="soft_vote", soft=True)(item)["label"].tolist() == [[[1, 0.5, 0]]]
    assert item["label"].shape == (3, 1, 3)
    with pytest.raises(ValueError, match="method='vote' must be one of"):
        RaterConsensusd(method="vote")
