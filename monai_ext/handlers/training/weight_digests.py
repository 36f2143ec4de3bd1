"""Content hashes of weights, so that a calibration is only used with the weights it was made for."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from monai_ext.handlers.training.weights import load_checkpoint, unwrapped
from monai_ext.metrics.conformal import Calibration, read_calibration
from monai_ext.runtime.settings import listed_paths

__all__ = ["calibration_of_weights", "digest_of", "weight_digests"]

_logger = logging.getLogger(__name__)


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


def weight_digests(paths: str | Path | Sequence[str | Path]) -> tuple[str, ...]:
    """The digests of files of weights, whatever their order; of one, or of several as `listed_paths` takes them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: one is damaged.
    """
    return tuple(sorted(digest_of(unwrapped(load_checkpoint(path))) for path in listed_paths(paths)))


def calibration_of_weights(path: str | Path, checkpoints: Sequence[str | Path]) -> Calibration:
    """The calibration in `path`, if it was made with these weights; one that does not name any is used with a warning.

    Raises:
        FileNotFoundError: there is no calibration, or no such checkpoint.
        ValueError: it is damaged, or was made with other weights.
    """
    calibration = read_calibration(path)
    if not calibration.weights:
        _logger.warning(f"the calibration '{path}' does not record its weights: that it is of these is not checked")
    elif calibration.weights != weight_digests(checkpoints):
        raise ValueError(
            f"the calibration '{path}' was made with other weights than {', '.join(map(str, checkpoints))}, for which "
            "its intervals guarantee nothing: calibrate these (calibrate.json, --checkpoints for several), or leave "
            "out what needs it."
        )
    return calibration
