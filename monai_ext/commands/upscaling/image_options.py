"""Options that the commands on images share: devices, bands, range, and samples of stochastic networks."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch

from monai_ext.commands.command_line import Computed, UseAppendAction, arg
from monai_ext.data.tiles.pixel_scale import scale_beside
from monai_ext.handlers.training.weight_digests import calibration_of_weights
from monai_ext.metrics.conformal import Calibration
from monai_ext.raster.presets import PRESETS, PresetName
from monai_ext.runtime.devices import known_device
from monai_ext.upscaling import Choices, Upscaler

__all__ = [
    "LATENT_SAMPLES", "WEIGHT_SAMPLES", "PixelRange", "SampleOptions", "ValueOptions", "Weights", "calibration_for",
    "devices", "warn_without_epistemic",
]  # fmt: skip

_logger = logging.getLogger(__name__)

WEIGHT_SAMPLES, LATENT_SAMPLES = 8, 4
Weights = Computed[Annotated[UseAppendAction[tuple[Path, ...]], arg(metavar="FILE")]]
PixelRange = Computed[Annotated[tuple[float, float] | Literal["data"] | None, arg(metavar="LOW HIGH|data")]]


@dataclass(frozen=True)
class ValueOptions:
    """What the pixel values of an image mean."""

    preset: Computed[PresetName | None] = None
    """product whose range, nodata (0) and bands (B4, B3, B2 by name) are taken: sentinel2 (reflectance times 10000 plus
    1000, since January 2022) or sentinel2_harmonized (without the 1000); --range, --nodata, --bands come first"""
    range: PixelRange = None
    """pixel values of black and white, or 'data' for each file's own lowest and highest (that of the network's
    training; else that of the type for 8 bits, and for deeper types found from the values, with a note)"""
    nodata: Computed[float | None] = None
    """value that marks missing pixels, whatever a file declares (what it declares, or a value found far from all
    others, such as -9999)"""
    no_alpha: bool = False
    """a band tagged as alpha is a band like others, such as near infrared"""

    def choices(self, bundle: Path, weights: Sequence[Path] = (), **others: Any) -> Choices:
        """These options as `Choices`, with the scale of the network's training."""
        trained = scale_beside(weights[0] if weights else bundle / "models" / "model.pt")
        preset = None if self.preset is None else PRESETS[self.preset]
        limits = (preset.low, preset.high) if preset is not None and self.range is None else self.range
        return Choices(
            limits=limits, scale=trained, nodata=self.nodata, no_alpha=self.no_alpha, preset=preset, **others
        )


@dataclass(frozen=True)
class SampleOptions:
    """Samples behind bounds and uncertainty."""

    weight_samples: Computed[int | None] = None
    """samples of the weights (as calibrated, else 8)"""
    latent_samples: Computed[int | None] = None
    """samples of the latent for each of those (as calibrated, else 4)"""
    seed: int = 0
    """of all samples"""

    def arguments(self, calibration: Calibration | None) -> dict[str, Any]:
        """Arguments of `Layers`: what was chosen, else what the calibration was made with."""
        chosen: dict[str, Any] = {"seed": self.seed}
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
    choices = ("auto", "all")
    if text in choices:
        names = [f"cuda:{number}" for number in range(count if text == "all" else min(count, 1))] or ["cpu"]
    else:
        names = text.split(",")
    return [known_device(name, also=choices) for name in names]


def warn_without_epistemic(upscaler: Upscaler, bundle: Path) -> None:
    """A line where the epistemic layer was asked for and is left out."""
    if upscaler.layers is None or not upscaler.layers.uncertainty or upscaler.layers.epistemic:
        return
    folder = bundle / "models" / "ensemble"
    shipped = len(list(folder.glob("*.pt")))
    of_which = f"for each of the {shipped} files in {folder}" if shipped else "FILE for each of several trainings"
    _logger.warning(
        "no epistemic layer: a single network of deterministic weights has no such part; an ensemble has: --weights "
        + of_which
    )


def calibration_for(bundle: Path, weights: Sequence[Path] = ()) -> Calibration:
    """The calibration of these weights by `calibrate.json`, in the folder of the first of them.

    Raises:
        FileNotFoundError: there is no calibration.
        ValueError: it is damaged, or was made with other weights.
    """
    files = list(weights) or [bundle / "models" / "model.pt"]
    return calibration_of_weights(files[0].parent / "calibration.json", files)
