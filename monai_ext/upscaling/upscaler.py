"""A super-resolution network for rasters of any size, band count and type: enlarged rows from top to bottom."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from monai_ext.engines.precision import autocast, autocast_dtype
from monai_ext.inferers.tiled import RowReader, TiledInferer
from monai_ext.raster.info import Raster, RasterInfo
from monai_ext.upscaling.context import CONTEXTS, needed_context
from monai_ext.upscaling.pixel_coding import BandNetwork, PixelCoding, default_range

__all__ = ["OutputFile", "Upscaler", "value_range"]

_logger = logging.getLogger(__name__)

SCANNED_ROWS = 512
DARK = 0.25  # of the range of a 16-bit type: images that stay below were stored with fewer bits


@dataclass(frozen=True)
class OutputFile:
    """One of the files that an enlarged raster is written to.

    Attributes:
        path: its final name.
        info: what it holds: bands, type and tags, at the size before enlargement.
        planes: which planes of a strip, in the order of its bands; None: all.
    """

    path: Path
    info: RasterInfo
    planes: tuple[int, ...] | None = None

    def pixels(self, strip: np.ndarray) -> np.ndarray:
        """What goes into this file of a strip (planes, rows, s*W): in its own type, rounded where that is whole."""
        chosen = strip if self.planes is None else strip[list(self.planes)]
        if chosen.dtype == self.info.dtype:
            return chosen
        if self.info.dtype.kind in "iu":
            limits = np.iinfo(self.info.dtype)
            chosen = np.rint(chosen).clip(limits.min, limits.max)
        return chosen.astype(self.info.dtype)


class Upscaler:
    """A network with all that is needed to enlarge rasters with it.

    Args:
        network: (B, C, h, w) -> (B, C, s*h, s*w), values in [0, 1] on both sides; moved to `device`, in eval mode.
        tile, overlap, mode, batch_size: see `TiledInferer`. Without an overlap the network is asked how much context it
            needs, see `needed_context`: 32 pixels or more, as far as the tile has room for them.
        precision: "fp32", "bf16", or "auto": bfloat16 where the hardware is fast at it and the pixels have 8 bits
            (bfloat16 steps by 1/256 just below 1, too coarse for more).
        device: where to compute.

    Attributes:
        channels: bands that the network takes and gives.
        scale: s.

    Raises:
        ValueError: the network does not keep the number of bands, or does not enlarge by a whole number.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        tile: int = 256,
        overlap: int | None = None,
        mode: Literal["halo", "feather"] = "halo",
        batch_size: int = 4,
        precision: str = "auto",
        device: torch.device | str = "cpu",
    ):
        self.device = torch.device(device)
        self.precision = precision
        autocast_dtype(self.device, precision)  # refuses an unknown word now, not at the first file
        self.network = network.to(self.device, memory_format=torch.channels_last).eval()
        self.inferer = TiledInferer(tile, overlap or 0, mode=mode, batch_size=batch_size, device=self.device)
        self.channels = _channels(network)
        self.scale = self._probe(tile)
        if overlap is None:
            room = tile // (3 if mode == "feather" else 2) // 2
            contexts = (*(each for each in CONTEXTS if each < room), min(room, CONTEXTS[-1]))
            asked = {"channels": self.channels, "device": self.device, "contexts": contexts}
            self.inferer.overlap = 2 * needed_context(self.network, **asked)

    def coding(self, raster: Raster, limits: tuple[float, float] | Literal["data"] | None = None) -> PixelCoding:
        """How the pixels of `raster` are handed to the network, see `PixelCoding`.

        Args:
            limits: pixel values that stand for 0 and 1; "data": the lowest and highest of this file; None: 0 and the
                highest value of 8- and 16-bit types, 0 and 1 for floats that stay within.

        Raises:
            ValueError: the range is empty, or floats or 32-bit integers leave it open; the network does not take the
                bands of the raster.
        """
        info = raster.info
        # NaN may be anywhere in a float raster.
        marked = info.dtype.kind == "f" or any(value is not None for value in info.nodata)
        validity = info.bands if marked else int(info.alpha is not None)
        low, high = self._limits(raster, limits)
        if not (np.isfinite([low, high]).all() and low < high):
            raise ValueError(
                f"range {low:g} ... {high:g} is empty: give the value of black, then a higher one of white."
            )
        coding = PixelCoding(info.dtype, info.bands, low, high, info.nodata, info.alpha, validity)
        self._fit(coding)
        return coding

    def _limits(self, raster: Raster, limits: tuple[float, float] | Literal["data"] | None) -> tuple[float, float]:
        info, usual = raster.info, default_range(raster.info.dtype)
        if isinstance(limits, tuple):
            return limits
        if limits is None and usual is not None:
            return usual
        low, high = value_range(raster)
        if limits == "data":
            return low, high if low < high else low + 1.0
        if info.dtype.kind == "f" and 0 <= low <= high <= 1:
            return 0.0, 1.0
        raise ValueError(
            f"image {info.path} holds {info.dtype} from {low:g} to {high:g}: say which values are black and white with "
            f"--range {low:g} {high:g}, or --range data for each file's own lowest and highest."
        )

    @property
    def settings(self) -> dict[str, object]:
        """What the pixels depend on besides network and image, for fingerprints."""
        windows = [self.inferer.tile, self.inferer.overlap, self.inferer.mode]
        return {"windows": windows, "precision": self.precision}

    def outputs(self, target: Path, info: RasterInfo) -> list[OutputFile]:
        """The files that an enlarged raster `info` becomes, when `target` is asked for."""
        return [OutputFile(target, info)]

    def strip_edges(self, raster: Raster) -> list[int]:
        """Rows of the raster at which the strips that `strips` yields begin and end: n + 1 of n strips."""
        return self.inferer.strip_edges(raster.info.size[0])

    def strips(self, raster: Raster, coding: PixelCoding, *, first: int = 0) -> Iterator[np.ndarray]:
        """The enlarged raster from top to bottom: (planes, rows, s*W) of its own type, memory that is used again.

        Args:
            first: number of the strip to begin with.
        """
        height, width = raster.info.size
        wide = self._wide_enough(coding)
        inferer = TiledInferer(
            self.inferer.tile,
            self.inferer.overlap,
            mode=self.inferer.mode,
            batch_size=self.inferer.batch_size,
            device=self.device,
            finish=self._finish(coding),
        )
        brightest = torch.zeros(())
        deep = coding.dtype == np.uint16 and coding.high == np.iinfo(np.uint16).max

        def read(top: int, bottom: int) -> Tensor:
            above, below = (min(wide, top), min(wide, height - bottom))
            planes = raster.rows(top - above, bottom + below)
            channels = coding.decode(planes, top=above, rows=bottom - top)
            if deep:
                torch.maximum(brightest, channels[:, : coding.bands].amax(), out=brightest)
            return channels

        forward, maps = self._forward(coding), self._maps(width)
        for strip in inferer.strips(read, (height, width), forward, aligned=maps, first=first):
            yield strip.pixels[0].cpu().numpy()
        if deep and brightest < DARK:
            used = round(float(brightest) * coding.high)
            _logger.warning(
                f"{raster.info.path}: no pixel is above {used} of 65535, so the network saw a dark image; "
                f"--range 0 {used} shows it the full contrast."
            )

    def _finish(self, coding: PixelCoding) -> Callable[[Tensor], Tensor]:
        """Channels of the network's answer -> planes of a strip."""
        return coding.encode

    def _maps(self, width: int) -> Sequence[RowReader]:
        """Further maps that the network is shown, of an image `width` pixels wide."""
        return ()

    def _fit(self, coding: PixelCoding) -> BandNetwork:
        return BandNetwork(self.network, coding, channels=self.channels, scale=self.scale)

    def _wide_enough(self, coding: PixelCoding) -> int:
        """Rows to read beyond the context, so that fills of missing pixels do not depend on where a strip ends."""
        return 2 * self.inferer.overlap if coding.validity else 0

    def _forward(self, coding: PixelCoding) -> Callable[..., Tensor]:
        network = self._fit(coding)
        exact = self.precision == "auto" and coding.dtype != np.uint8
        dtype = None if exact else autocast_dtype(self.device, self.precision)

        def forward(windows: Tensor, *maps: Tensor) -> Tensor:
            with autocast(self.device, dtype):
                return network(windows, *maps)

        return forward

    @torch.no_grad()
    def _probe(self, tile: int) -> int:
        """The scale, from a small window."""
        side = min(tile, 64)
        windows = torch.zeros(1, self.channels, side, side, device=self.device)
        answer = self.network(windows)
        scale = answer.shape[-1] // side if isinstance(answer, Tensor) and answer.ndim == 4 else 0
        if scale < 1 or answer.shape != (1, self.channels, scale * side, scale * side):
            what = f"shape {tuple(answer.shape)}" if isinstance(answer, Tensor) else f"type {type(answer).__name__}"
            raise ValueError(
                f"the network answers a window of shape {tuple(windows.shape)} with {what}: a network for upscaling "
                "keeps the number of bands and multiplies height and width by the same whole number."
            )
        return scale


def value_range(raster: Raster) -> tuple[float, float]:
    """Lowest and highest known pixel of all bands; (0, 0) if all are missing. Reads the raster once."""
    info = raster.info
    low, high = np.inf, -np.inf
    markers = np.array([np.nan if value is None else value for value in info.nodata])
    for top in range(0, info.size[0], SCANNED_ROWS):
        planes = raster.rows(top, min(top + SCANNED_ROWS, info.size[0]))
        colours = planes[: info.bands]
        with np.errstate(over="ignore"):
            known = np.isfinite(colours) & (
                colours != markers.astype(np.result_type(info.dtype, np.float32))[:, None, None]
            )
        if info.alpha is not None:
            known &= planes[info.bands] > 0
        if known.any():
            seen = colours[known]
            low, high = min(low, float(seen.min())), max(high, float(seen.max()))
    return (low, high) if low <= high else (0.0, 0.0)


def _channels(network: nn.Module) -> int:
    """Bands that the network takes: what it says of itself, or what its first convolution takes.

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
