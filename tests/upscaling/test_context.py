"""The context that a network needs around a window."""

from __future__ import annotations

from torch import nn

from monai_ext.upscaling import Upscaler
from monai_ext.upscaling.context import needed_context


def test_a_wide_receptive_field_needs_more_context_and_a_global_one_is_warned_about(caplog):
    far = nn.Conv2d(1, 1, 41, padding=20)  # radius 20
    nn.init.constant_(far.weight, 1 / 41**2)
    assert needed_context(far, channels=1) == 24
    assert needed_context(lambda image: image - image.mean(), channels=1) == 64
    assert "the network's receptive field is wider than 64 pixels" in caplog.text
    assert Upscaler(far).inferer.overlap == 48 and Upscaler(far, tile=60).inferer.overlap == 30
    assert Upscaler(far, tile=60, mode="feather").inferer.overlap == 20
