"""Test-time augmentation: flips and sizes are undone before predictions are averaged."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_ext.inferers import TTAInferer, test_time_augmentation


def test_flips_are_undone_before_averaging():
    def brightest_left(x):
        return x * torch.linspace(1, 0, x.shape[-1])

    image = torch.rand(1, 1, 4, 6)
    given = TTAInferer([[3]])(image, brightest_left)
    torch.testing.assert_close(given, image * 0.5)


def test_outputs_of_another_size_are_mirrored_as_well():
    image = torch.rand(1, 1, 4, 6)
    doubled = image.repeat_interleave(2, 2).repeat_interleave(2, 3)
    given = TTAInferer()(image, lambda x: x.repeat_interleave(2, 2).repeat_interleave(2, 3))
    torch.testing.assert_close(given, doubled)


def test_no_flips_is_one_plain_pass():
    calls = []
    TTAInferer([])(torch.rand(1, 1, 2, 2), lambda x: calls.append(1) or x)
    assert len(calls) == 1


@pytest.mark.parametrize("at_once", [1, 2 * 24, 3 * 24, 1000])
def test_views_that_pass_together_are_those_that_pass_one_by_one(at_once, monkeypatch):
    images, passes = torch.rand(1, 1, 4, 6), []
    network = nn.Conv2d(1, 2, 3, padding=1)

    def counted(x):
        passes.append(len(x))
        return network(x)

    monkeypatch.setattr(test_time_augmentation, "PIXELS_AT_ONCE", at_once)
    given = TTAInferer()(images, counted)
    assert passes == {1: [1] * 4, 48: [2, 2], 72: [3, 1], 1000: [4]}[at_once]
    views = [torch.flip(network(torch.flip(images, dims)), dims) for dims in ((), (3,), (2,), (2, 3))]
    torch.testing.assert_close(given, sum(views) / 4)


def test_views_pass_one_by_one_with_further_arguments():
    latent = torch.rand(2, 1, 1, 1)
    images = torch.rand(2, 1, 4, 6)
    given = TTAInferer()(images, lambda x, z: x + z, latent)
    torch.testing.assert_close(given, images + latent)


def test_every_size_is_predicted_and_logits_come_back_at_the_size_of_the_batch():
    seen = []
    image = torch.linspace(0, 1, 16).expand(1, 1, 12, 16)
    inferer = TTAInferer([[3]], scales=[0.5, 1, 1.25], spatial_size=[8, 12])
    given = inferer(image, lambda x: seen.append(tuple(x.shape[-2:])) or x)
    assert seen == [(4, 6), (8, 12), (10, 15)]
    assert given.shape == image.shape
    torch.testing.assert_close(given, image, atol=0.06, rtol=0)  # a ramp survives resizing but near its ends


def test_bfloat16_predictions_are_averaged_in_float32():
    image = torch.tensor([[[[1.0, 1.0078125], [1.0, 1.0]]]])  # bfloat16 has both, but not their mean
    given = TTAInferer([[3]])(image, lambda x: x[..., :1].expand_as(x).bfloat16())
    assert given.tolist() == [[[[1.00390625] * 2, [1.0] * 2]]]
    sizes = TTAInferer([], scales=[0.5, 1])(image, lambda x: x.bfloat16())  # a CPU resizes no bfloat16
    assert sizes.dtype == torch.float32 and sizes.shape == image.shape


@pytest.mark.parametrize("scales", [[], [1, 0]])
def test_impossible_scales_are_refused(scales):
    with pytest.raises(ValueError, match="at least one factor"):
        TTAInferer(scales=scales)
