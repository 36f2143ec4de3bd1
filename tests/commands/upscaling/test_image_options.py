"""Devices, ranges and calibrations as options name them."""

from __future__ import annotations

import pytest
import torch
from upscaling_toys import typed

from monai_ext.commands.upscaling import upscale as command


def test_devices_and_ranges_are_checked(capsys):
    assert command.devices("cpu,cpu") == [torch.device("cpu")] * 2
    for name, sentence in (("gpu", "device 'gpu' is unknown"), ("cuda:99", "device 'cuda:99' is not here")):
        with pytest.raises(ValueError, match=sentence):
            command.devices(name)
    assert typed("a.png", "b.png", "--range", 0, 4095).range == (0.0, 4095.0)
    assert typed("a.png", "b.png", "--range", "data").range == "data"
    with pytest.raises(SystemExit):
        typed("a.png", "b.png", "--range", 1)
    assert "--range takes {FLOAT FLOAT}|{data}, not '1'" in capsys.readouterr().err
