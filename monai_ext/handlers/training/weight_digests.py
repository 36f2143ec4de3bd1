"""Content hashes of weights, so that a calibration is only used with the weights it was made for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from monai_ext.handlers.training.checkpoints import load_checkpoint, unwrapped

__all__ = ["digest_of", "weight_digests"]


def digest_of(state: Mapping[str, Any]) -> str:
    """16 hexadecimal digits for a network's `state_dict`, the same before and after rounding to half precision."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        if isinstance(value, torch.Tensor):
            value = value.detach().cpu()
            value = (value.half() if value.is_floating_point() else value).contiguous()
            digest.update(f"{name} {tuple(value.shape)} ".encode())
            digest.update(value.numpy().tobytes())
    return digest.hexdigest()[:16]


def weight_digests(paths: Sequence[str | Path]) -> tuple[str, ...]:
    """The digests of files of weights, whatever their order.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: one is damaged.
    """
    return tuple(sorted(digest_of(unwrapped(load_checkpoint(path))) for path in paths))
