"""Devices, ranges and calibrations as options name them."""

from __future__ import annotations

import pytest
import torch

from monai_ext.commands.upscaling import image_options
from monai_ext.commands.upscaling import upscale as command


def test_devices_and_ranges_are_checked():
    assert command.devices("cpu,cpu") == [torch.device("cpu")] * 2
    for name, sentence in (("gpu", "device 'gpu' is unknown"), ("cuda:99", "device 'cuda:99' is not here")):
        with pytest.raises(ValueError, match=sentence):
            command.devices(name)
    assert image_options.pixel_limits(["0", "4095"]) == (0.0, 4095.0)
    with pytest.raises(ValueError, match="--range 1: give two numbers, or 'data'"):
        image_options.pixel_limits(["1"])
