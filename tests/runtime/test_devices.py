"""Devices by name."""

from __future__ import annotations

import pytest
import torch

from monai_ext.runtime.devices import known_device, refuse_absent_device

RUN = ["/x/monai/bundle/__main__.py", "run", "--device"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("gpu", "device 'gpu' is unknown: choose cpu, cuda or cuda:0"),
        ("cuda:99", "device 'cuda:99' is not here, .*such as cpu"),
    ],
)
def test_a_device_that_is_not_here_is_refused(name, sentence):
    with pytest.raises(ValueError, match=sentence):
        known_device(name)
    with pytest.raises(ValueError, match=sentence):
        refuse_absent_device([*RUN, name])


def test_devices_that_are_here_and_what_monai_evaluates_pass():
    assert known_device("cpu") == torch.device("cpu")
    for name in ("cpu", "@other", "$torch.device('cuda:99')"):
        refuse_absent_device([*RUN, name])
    refuse_absent_device(["other.py", "run", "--device", "cuda:99"])
