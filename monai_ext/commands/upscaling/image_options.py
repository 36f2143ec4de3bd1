"""Options that the commands on images share: devices, bands, range, and draws of networks that know several answers."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch

from monai_ext.handlers.training.weight_digests import weight_digests
from monai_ext.metrics.conformal import Calibration, read_calibration

__all__ = ["add_draws", "add_pixels", "add_weights", "calibration_for", "devices", "draws", "pixel_limits"]

_logger = logging.getLogger(__name__)

WEIGHT_SAMPLES, LATENT_SAMPLES = 8, 4


def devices(text: str) -> list[torch.device]:
    """The devices that `text` names: "auto", "all" (CUDA devices), or a list such as "cuda:0,cuda:1".

    Raises:
        ValueError: one does not exist.
    """
    count = torch.cuda.device_count()
    if text in ("auto", "all"):
        names = [f"cuda:{number}" for number in range(count if text == "all" else min(count, 1))] or ["cpu"]
    else:
        names = text.split(",")
    found = []
    for name in names:
        try:
            device = torch.device(name)
        except RuntimeError as error:
            raise ValueError(f"device '{name}' is unknown: choose cpu, cuda, cuda:0,cuda:1, all or auto.") from error
        if device.type == "cuda" and (device.index or 0) >= count:
            raise ValueError(f"device '{name}' is not here: there are {count} CUDA devices.")
        found.append(device)
    return found


def add_pixels(parser: argparse.ArgumentParser) -> None:
    """--bands and --range."""
    parser.add_argument("--bands", type=_numbers, metavar="N,N", help="bands to take, numbered from 1 (all)")
    parser.add_argument(
        "--range",
        nargs="+",
        metavar="V",
        help="pixel values of black and white, or 'data' for each file's own lowest and highest "
        "(default: 0 and the highest value of 8 and 16 bits, 0 and 1 for floats)",
    )


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def pixel_limits(values: Sequence[str] | None) -> tuple[float, float] | Literal["data"] | None:
    """What --range says, see `Upscaler.coding`.

    Raises:
        ValueError: neither two numbers nor "data".
    """
    if values is None:
        return None
    if list(values) == ["data"]:
        return "data"
    try:
        low, high = map(float, values)
    except ValueError:
        raise ValueError(f"--range {' '.join(values)}: give two numbers, or 'data'.") from None
    return low, high


def add_draws(parser: argparse._ActionsContainer) -> None:
    """--weight_samples, --latent_samples and --seed."""
    parser.add_argument(
        "--weight_samples",
        type=int,
        metavar="T",
        help=f"draws of the weights behind bounds and uncertainty (as calibrated, or {WEIGHT_SAMPLES})",
    )
    parser.add_argument(
        "--latent_samples",
        type=int,
        metavar="L",
        help=f"draws of the latent for each of those (as calibrated, or {LATENT_SAMPLES})",
    )
    parser.add_argument("--seed", type=int, default=0, help="of all draws (0)")


def draws(args: argparse.Namespace, calibration: Calibration | None) -> dict[str, int]:
    """Arguments of `Layers` as the options say, those of the calibration where they do not."""
    chosen = {"seed": args.seed}
    for name, usual in (("weight_samples", WEIGHT_SAMPLES), ("latent_samples", LATENT_SAMPLES)):
        asked, calibrated = getattr(args, name), getattr(calibration, name, None)
        if asked and calibrated and asked != calibrated:
            _logger.warning(f"--{name} {asked}: the bounds were calibrated with {calibrated} and may not hold.")
        chosen[name] = (calibrated or usual) if asked is None else asked
    return chosen


def add_weights(parser: argparse.ArgumentParser) -> None:
    """--weights, which may come again for each member of an ensemble."""
    parser.add_argument(
        "--weights",
        type=Path,
        action="append",
        metavar="FILE",
        help="weights to use (default: models/model.pt of the bundle); given several times, of a network that knows "
        "several answers: an ensemble, by whose disagreement the epistemic uncertainty is told",
    )


def calibration_for(bundle: Path, weights: Sequence[Path] | None = None) -> Calibration:
    """What `calibrate.json` found with these weights, and left beside them (beside the first of several).

    Raises:
        FileNotFoundError: there is no calibration.
        ValueError: it is damaged, or was found with other weights.
    """
    files = weights or [bundle / "models" / "model.pt"]
    path = files[0].parent / "calibration.json"
    calibration = read_calibration(path)
    if calibration.weights and calibration.weights != weight_digests(files):
        raise ValueError(
            f"the calibration '{path}' was found with other weights than {', '.join(map(str, files))}, for which its "
            "intervals hold nothing for certain: calibrate these (calibrate.json, --checkpoints for several), or leave "
            "out what needs it."
        )
    return calibration
