"""Devices by name, as options give them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from monai_ext.runtime.bundle_options import given_options

__all__ = ["known_device", "refuse_absent_device"]


def known_device(name: str, *, also: Sequence[str] = ()) -> torch.device:
    """The device of a name.

    Args:
        also: further words that an option takes, for the error.

    Raises:
        ValueError: there is no such device here.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        choices = ", ".join((*also, "cpu", "cuda or cuda:0, cuda:1 ..."))
        raise ValueError(f"device '{name}' is unknown: choose {choices}") from error
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise ValueError(f"device '{name}' is not here, there are {count} CUDA devices: choose another, such as cpu.")
    return device


def refuse_absent_device(arguments: Sequence[str]) -> None:
    """Of the command line `arguments` (`sys.argv`): nothing, unless it is a `monai.bundle run` with an absent device.

    Raises:
        ValueError: the device of `--device` is not here; references and expressions are left to MONAI.
    """
    name = (given_options(arguments) or {}).get("device", "")
    if name and name[0] not in "@$%{":
        known_device(name)
