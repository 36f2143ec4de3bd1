"""A super-resolution network with all that is needed to upscale rasters of any size, band count and type."""

from __future__ import annotations

from copy import copy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from monai_ext.engines.precision import autocast, autocast_dtype
from monai_ext.inferers.tiled import TiledInferer
from monai_ext.networks.uncertain_sr import UncertainSuperResolution
from monai_ext.raster.info import Raster, RasterInfo
from monai_ext.upscaling.context import CONTEXTS, needed_context
from monai_ext.upscaling.layers import LayerNetwork, Layers, pixel_positions
from monai_ext.upscaling.outputs import OutputFile, output_files
from monai_ext.upscaling.pixel_coding import BandNetwork, PixelCoding
from monai_ext.upscaling.plan import Plan

__all__ = ["Upscaler"]


class Upscaler:
    """A super-resolution network, and how rasters are cut into windows for it.

    Args:
        network: (B, C, h, w) -> (B, C, s*h, s*w), values in [0, 1] on both sides; moved to `device`, in eval mode. With
            layers an `UncertainSuperResolution`, which no other upscaler may use at the same time.
        layers: what is predicted beside the mean; None: the network's output alone. A single network of deterministic
            weights has no epistemic part: that layer is left out.
        tile, overlap, mode, batch_size: see `TiledInferer`. Without an overlap, the context that the network needs is
            measured, see `needed_context`: 16 pixels or more on each side, as far as the tile has room for them.
        precision: "fp32", "bf16", or "auto": bfloat16 where the hardware is fast at it and the pixels have 8 bits
            (bfloat16 steps by 1/256 just below 1, too coarse for more). Layers are computed in float32: steps of
            bfloat16 would count as uncertainty.
        device: where to compute.

    Attributes:
        channels: bands of the network's input and output.
        scale: s.

    Raises:
        ValueError: the network does not keep the number of bands, or its scale is no whole number; or the layers do not
            fit it.
    """

    def __init__(
        self,
        network: nn.Module,
        layers: Layers | None = None,
        *,
        tile: int = 256,
        overlap: int | None = None,
        mode: Literal["halo", "feather"] = "halo",
        batch_size: int = 4,
        precision: str = "auto",
        device: torch.device | str = "cpu",
    ):
        self.device = torch.device(device)
        autocast_dtype(self.device, precision)  # refuses an unknown word now, not at the first file
        if layers is not None and precision == "bf16":
            raise ValueError("precision 'bf16': samples, bounds and uncertainty are computed in float32, leave it out.")
        if layers is not None and layers.uncertainty and _is_certain(network):
            layers = replace(layers, epistemic=False)
        self.precision, self.layers = precision if layers is None else "fp32", layers
        self.layer_network = None if layers is None else LayerNetwork(network, layers)
        self.network = network.to(self.device).eval()
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
        self.inferer = TiledInferer(tile, overlap or 0, mode=mode, batch_size=batch_size, device=self.device)
        self.channels = _channels(network)
        self.scale = self._probe(tile)
        if overlap is None:
            room = tile // (3 if mode == "feather" else 2) // 2
            contexts = (*(each for each in CONTEXTS if each < room), min(room, CONTEXTS[-1]))
            context = needed_context(self.network, channels=self.channels, device=self.device, contexts=contexts)
            self.inferer.overlap = 2 * context

    @property
    def context(self) -> int:
        """Pixels on each side of a window that its output depends on."""
        return self.inferer.overlap // 2

    @property
    def settings(self) -> dict[str, object]:
        """What the pixels depend on besides network and image, for fingerprints."""
        windows = [self.inferer.tile, self.inferer.overlap, self.inferer.mode]
        settings: dict[str, object] = {"windows": windows, "precision": self.precision}
        return settings if self.layers is None else settings | {"layers": asdict(self.layers)}

    def outputs(self, target: Path, info: RasterInfo) -> list[OutputFile]:
        """The files that an upscaled raster is written to, see `output_files`."""
        return output_files(target, info, self.layers)

    def plan(self, raster: Raster, limits: tuple[float, float] | Literal["data"] | None = None) -> Plan:
        """How `raster` is upscaled: the strips to iterate over.

        Args:
            limits: see `PixelCoding.of`, which reads the raster once unless it has 8 bits.

        Raises:
            ValueError: the range of pixel values is empty; the network does not take the raster's bands.
        """
        coding = PixelCoding.of(raster, limits)
        images = 1 if self.layers is None else len(self.layers.names)
        deviations = 0 if self.layers is None else len(self.layers.deviations)
        network = self.layer_network or self.network
        exact = self.precision == "auto" and coding.dtype != np.uint8
        dtype = None if exact else autocast_dtype(self.device, self.precision)
        inferer = self.inferer
        if any(raster.info.margins):
            inferer = copy(inferer)
            inferer.tile += 2 * self.context  # a map tile and its margins are one window
        return Plan(
            raster=raster,
            coding=coding,
            network=BandNetwork(
                network, coding, channels=self.channels, scale=self.scale, images=images, deviations=deviations
            ),
            inferer=inferer,
            autocast=autocast(self.device, dtype),
            layers=self.layers,
        )

    def predict_layers(self, low_res: Tensor) -> Tensor:
        """All layers of images (B, C, h, w) in [0, 1]: (B, layers * C, s*h, s*w), see `LayerNetwork`.

        Raises:
            ValueError: there are no layers.
        """
        if self.layer_network is None:
            raise ValueError("this upscaler has no layers.")
        low_res = low_res.to(self.device)
        positions = pixel_positions(0, *low_res.shape[-2:]).expand(len(low_res), -1, -1, -1)
        return self.inferer(low_res, self.layer_network, aligned=positions.to(self.device))

    @torch.no_grad()
    def _probe(self, tile: int) -> int:
        """The scale, from a small window."""
        side = min(tile, 64)
        windows = torch.zeros(1, self.channels, side, side, device=self.device)
        output = self.network(windows)
        scale = output.shape[-1] // side if isinstance(output, Tensor) and output.ndim == 4 else 0
        if scale < 1 or output.shape != (1, self.channels, scale * side, scale * side):
            what = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else f"type {type(output).__name__}"
            raise ValueError(
                f"for a window of shape {tuple(windows.shape)} the network returns an output of {what}: a network for "
                "upscaling keeps the number of bands and multiplies height and width by the same whole number; one for "
                "segmentation is applied by `monai_ext predict`."
            )
        return scale


def _is_certain(network: nn.Module) -> bool:
    return isinstance(network, UncertainSuperResolution) and network.distinct_weights() == 1


def _channels(network: nn.Module) -> int:
    """Bands of the network's input: its attribute `in_channels`, or that of its first convolution.

    Raises:
        ValueError: neither is there.
    """
    for part in network.modules():
        count = getattr(part, "in_channels", None)
        if isinstance(count, int):
            return count
    raise ValueError(
        f"{type(network).__name__} has neither an attribute in_channels nor a convolution: how many bands it takes is "
        "unknown."
    )
