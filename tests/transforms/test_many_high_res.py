"""Crops of records with several targets of one low-resolution image."""

from __future__ import annotations

import pytest
import torch

from monai_ext.transforms import RandomFlip, RandomQuarterTurn
from monai_ext.transforms.degradation import Degradation
from monai_ext.transforms.many_high_res import ManyHighResCrops

DEGRADATION = Degradation(4, levels=255)


TARGETS = 3


def records(count: int = 8, side: int = 32) -> dict:
    generator = torch.Generator().manual_seed(0)
    return {"label": torch.randint(256, (count, TARGETS, 3, side, side), dtype=torch.uint8, generator=generator)}


def test_each_record_shows_one_of_its_targets_drawn_anew_and_all_alike_often():
    crops = ManyHighResCrops(DEGRADATION, crop_size=32)
    batch = records() | {"id": list("abcdefgh"), "image": torch.zeros(8, 3, 8, 8, dtype=torch.uint8)}
    generator = torch.Generator().manual_seed(0)
    shown = []
    for _ in range(60):
        made = crops.apply(batch, crops.draw(8, generator))
        equal = ((made["label"][:, None] * 255).round() == batch["label"]).flatten(2).all(2)
        assert (equal.sum(1) == 1).all() and made["id"] == list("abcdefgh")
        assert torch.equal(made["image"], DEGRADATION(made["label"]))
        shown.append(equal.long().argmax(1))
    counts = torch.stack(shown).flatten().bincount(minlength=TARGETS)
    assert counts.min() > 480 / TARGETS - 40  # four standard deviations
    assert not torch.equal(shown[0], shown[1])


def test_crops_and_turns_are_drawn_too_and_a_draw_can_be_replayed():
    crops = ManyHighResCrops(DEGRADATION, [RandomFlip(), RandomQuarterTurn()], crop_size=16)
    parameters = crops.draw(8, torch.Generator().manual_seed(1))
    first, again = (crops.apply(records(), parameters) for _ in range(2))
    assert first["label"].shape == (8, 3, 16, 16) and torch.equal(first["label"], again["label"])
    assert torch.equal(first["image"], DEGRADATION(first["label"]))
    halves = [
        crops.apply({"label": records()["label"][i : i + 4]}, part)
        for i, part in zip((0, 4), parameters.split(4), strict=True)
    ]
    assert torch.equal(torch.cat([half["label"] for half in halves]), first["label"])


def test_whole_records_have_the_original_as_label_and_all_targets_beside_it():
    crops = ManyHighResCrops(DEGRADATION)
    batch = records()
    made = crops.apply(batch, crops.draw(8))
    assert set(made) == {"image", "label", "targets"} and made["targets"].shape == (8, TARGETS, 3, 32, 32)
    assert torch.equal(made["label"], made["targets"][:, 0])
    assert torch.allclose(made["targets"], batch["label"] / 255)


def test_what_does_not_fit_is_named():
    crops = ManyHighResCrops(DEGRADATION, crop_size=16)
    with pytest.raises(ValueError, match=r"label \(8, 3, 32, 32\) must be \(B, K, C, H, W\), B=8"):
        crops.apply({"label": records()["label"][:, 0]}, crops.draw(8))
    with pytest.raises(ValueError, match="B=5 as drawn"):
        crops.apply(records(), crops.draw(5))
    with pytest.raises(ValueError, match="whole targets are not augmented: set a crop_size"):
        ManyHighResCrops(DEGRADATION, [RandomFlip()])
