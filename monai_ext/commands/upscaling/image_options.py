"""Options that the commands on images share: devices, bands, range, and samples of stochastic networks."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch

from monai_ext.commands.command_line import Computed, UseAppendAction, arg
from monai_ext.handlers.training.weight_digests import weight_digests
from monai_ext.metrics.conformal import Calibration, read_calibration

__all__ = [
    "LATENT_SAMPLES", "WEIGHT_SAMPLES", "PixelRange", "SampleOptions", "Weights", "calibration_for", "devices",
]  # fmt: skip

_logger = logging.getLogger(__name__)

WEIGHT_SAMPLES, LATENT_SAMPLES = 8, 4
Weights = Computed[Annotated[UseAppendAction[tuple[Path, ...]], arg(metavar="FILE")]]
PixelRange = Computed[Annotated[tuple[float, float] | Literal["data"] | None, arg(metavar="LOW HIGH|data")]]


@dataclass(frozen=True)
class SampleOptions:
    """Samples behind bounds and uncertainty."""

    weight_samples: Computed[int | None] = None
    """samples of the weights (as calibrated, else 8)"""
    latent_samples: Computed[int | None] = None
    """samples of the latent for each of those (as calibrated, else 4)"""
    seed: int = 0
    """of all samples"""

    def arguments(self, calibration: Calibration | None) -> dict[str, int]:
        """Arguments of `Layers`: what was chosen, else what the calibration was made with."""
        chosen = {"seed": self.seed}
        for name, usual in (("weight_samples", WEIGHT_SAMPLES), ("latent_samples", LATENT_SAMPLES)):
            own, calibrated = getattr(self, name), getattr(calibration, name, None)
            if own and calibrated and own != calibrated:
                _logger.warning(f"--{name} {own}: the bounds were calibrated with {calibrated} and may not hold.")
            chosen[name] = (calibrated or usual) if own is None else own
        return chosen


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


def calibration_for(bundle: Path, weights: Sequence[Path] = ()) -> Calibration:
    """The calibration of these weights by `calibrate.json`, in the folder of the first of them.

    Raises:
        FileNotFoundError: there is no calibration.
        ValueError: it is damaged, or was made with other weights.
    """
    files = list(weights) or [bundle / "models" / "model.pt"]
    path = files[0].parent / "calibration.json"
    calibration = read_calibration(path)
    if calibration.weights and calibration.weights != weight_digests(files):
        raise ValueError(
            f"the calibration '{path}' was made with other weights than {', '.join(map(str, files))}, for which its "
            "intervals guarantee nothing: calibrate these (calibrate.json, --checkpoints for several), or leave out "
            "what needs it."
        )
    return calibration
