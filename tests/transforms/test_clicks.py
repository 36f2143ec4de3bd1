"""Clicks drawn in training."""

from __future__ import annotations

import pytest
import torch

from monai_ext.transforms import BatchAugment, rater_augmentation


def batch(count: int, size=(12, 10)) -> dict:
    masks = torch.zeros(count, 2, *size, dtype=torch.uint8)
    masks[:, 0, 2:9, 2:7] = 1
    masks[:, 1, 3:6, 3:9] = 1
    image = torch.rand(count, 1, *size)
    clicks = torch.full((count, 2, *size), 7.0)  # those of the decoding, to be replaced
    return {"image": torch.cat([image, clicks], dim=1), "label": masks, "presence": torch.ones(count, 2)}


@pytest.mark.parametrize("size", [(12, 10), (12, 10, 3)])
def test_clicks_lie_in_the_augmented_consensus_and_outside_of_everybodys_masks(size):
    augment = rater_augmentation(noise=None, channels_last=False, spatial_dims=len(size), clicks=2, rotate=20)
    parameters = augment.draw(400, torch.Generator().manual_seed(0))
    found = augment.apply(batch(400, size), parameters)
    foreground, background = found["image"][:, 1].flatten(1), found["image"][:, 2].flatten(1)
    votes = found["label"].sum(1).flatten(1)
    clicked = foreground.amax(1) > 0
    assert 0.85 < clicked.float().mean() < 0.95 and 0.4 < (background.amax(1) > 0).float().mean() < 0.6
    peaks = foreground[clicked].argmax(1)
    assert (votes[clicked].gather(1, peaks[:, None]) >= 1).all() and (foreground[clicked].amax(1) == 1).all()
    shown = background.amax(1) > 0
    assert (votes[shown].gather(1, background[shown].argmax(1)[:, None]) == 0).all()
    again = augment.apply(batch(400, size), parameters)  # of other images
    assert torch.equal(again["image"][:, 1:], found["image"][:, 1:])  # of the parameters alone


def test_images_and_masks_are_augmented_as_without_clicks():
    with_clicks, without = (rater_augmentation(channels_last=True, clicks=clicks) for clicks in (2, 0))
    assert isinstance(without, BatchAugment)
    given = batch(4)
    found, plain = (
        augment.apply(each, augment.draw(4, torch.Generator().manual_seed(3)))
        for augment, each in ((with_clicks, given), (without, given | {"image": given["image"][:, :1]}))
    )
    assert torch.equal(found["image"][:, :1], plain["image"]) and torch.equal(found["label"], plain["label"])
    assert found["image"].is_contiguous(memory_format=torch.channels_last)
