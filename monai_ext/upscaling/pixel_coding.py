"""Pixels of a raster as channels of a network, and its output as pixels: value ranges, missing values, alpha."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from monai.utils.type_conversion import dtype_numpy_to_torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from monai_ext.raster.info import Alpha, Raster, opaque
from monai_ext.raster.missing_pixels import nearest_known
from monai_ext.raster.value_range import known_values, settle_values

__all__ = ["BandNetwork", "PixelCoding"]

MIDDLE = 0.5  # the network's input where a whole strip is missing


@dataclass(frozen=True)
class PixelCoding:
    """How the planes of a raster become channels and back.

    The channels are the bands, mapped from [low, high] to [0, 1]; then alpha from its full range; then `validity`
    channels of 1 where a pixel is known and 0 where it is missing. Missing pixels hold the nearest known value of
    their band, so that nothing is smeared into those beside them.

    Attributes:
        dtype: of the pixels.
        bands: number of bands.
        low, high: values of a pixel that are mapped to 0 and 1; others are mapped beyond.
        nodata: per band the value that marks missing pixels, or None. NaN and infinities are always missing.
        alpha: see `RasterInfo`. Where it is 0, all bands are missing.
        validity: number of validity channels: 0 if nothing is ever missing, 1 for alpha alone, else `bands`.
    """

    dtype: np.dtype
    bands: int
    low: float
    high: float
    nodata: tuple[float | None, ...]
    alpha: Alpha | None
    validity: int

    @classmethod
    def of(cls, raster: Raster, limits: tuple[float, float] | Literal["data"] | None = None) -> PixelCoding:
        """The coding of a raster's pixels; markers that it does not declare become its nodata, see `settle_values`.

        Args:
            limits: pixel values that are mapped to 0 and 1; "data": the lowest and highest of this file; None: see
                `monai_ext.raster.value_range`.

        Raises:
            ValueError: the range is empty.
        """
        found = settle_values(raster, limits)
        info = raster.info
        # NaN may be anywhere in a float raster.
        marked = info.dtype.kind == "f" or any(value is not None for value in info.nodata)
        validity = info.bands if marked else int(info.alpha is not None)
        return cls(info.dtype, info.bands, found.low, found.high, info.nodata, info.alpha, validity)

    @property
    def opaque(self) -> float:
        """Alpha of full coverage."""
        return opaque(self.alpha, self.dtype)

    @property
    def marks_missing(self) -> bool:
        """Whether missing pixels have a marker of their own in every band."""
        return self.validity == self.bands and (
            self.dtype.kind == "f" or any(value is not None for value in self.nodata)
        )

    def decode(self, planes: np.ndarray, *, top: int = 0, rows: int | None = None) -> Tensor:
        """Channels (1, bands + alpha + validity, rows, W) float32 of rows `top` ... `top + rows` of `planes`.

        Args:
            planes: (bands + alpha, n, W); further rows around serve to fill missing pixels.
        """
        keep = slice(top, None if rows is None else top + rows)
        colours = planes[: self.bands]
        values = (
            (colours - np.asarray(self.low, np.result_type(self.dtype, np.float32))) / (self.high - self.low)
        ).astype(np.float32, copy=False)
        channels = [values[:, keep]]
        if self.validity:
            valid = self._valid(planes)
            channels[0] = nearest_known(values, valid, fallback=MIDDLE)[:, keep]
        if self.alpha is not None:
            channels.append(planes[self.bands :, keep].astype(np.float32) / np.float32(self.opaque))
        if self.validity:
            channels.append(valid[:, keep].astype(np.float32))
        return torch.from_numpy(np.concatenate(channels) if len(channels) > 1 else channels[0])[None]

    def encode(self, channels: Tensor) -> Tensor:
        """Pixels (N, bands + alpha, h, w) of the raster's type from channels (N, bands + alpha + validity, h, w).

        Integers are rounded and cut to the range of their type; known pixels that come out as the nodata value move by
        one; missing pixels become nodata, or NaN in float rasters without.

        Raises:
            ValueError: the network's output has NaN (in float rasters: or infinity).
        """
        double = self.dtype.itemsize > 2 and self.dtype != np.float32  # float32 holds 16 bits exactly, not more
        output = channels[:, : self.bands].to(torch.float64 if double else torch.float32)
        unsigned = self.dtype.kind == "u"
        # The cut to integers below rounds down from here. As few passes as possible: this is the cost of tiling.
        values = (output * (self.high - self.low)).add_(self.low + 0.5 * unsigned)
        if self.dtype.kind in "iu":
            limits = np.iinfo(self.dtype)
            values = (
                values.clamp_(limits.min, limits.max) if unsigned else values.round_().clamp_(limits.min, limits.max)
            )
            finite = math.isfinite(float(values.sum()))  # NaN outlives the limits
        else:
            finite = bool(values.isfinite().all())
        if not finite:
            raise ValueError("the network's output has NaN or infinity: its weights are damaged or do not fit it.")
        if self.marks_missing:
            values = values.floor_() if unsigned else values
            known = channels[:, self.bands + (self.alpha is not None) :] > 0.5
            for band in range(self.bands):
                self._mark_missing(values[:, band], known[:, band], self.nodata[band])
        if self.alpha is not None:
            covered = channels[:, self.bands : self.bands + 1].to(values.dtype) * self.opaque
            if self.dtype.kind in "iu":
                covered = covered.round_().clamp_(0, self.opaque)
            values = torch.cat([values, covered], dim=1)
        if values.device.type == "cpu":  # NumPy's cut to 8 bits takes a third of the time of PyTorch's
            return torch.from_numpy(values.numpy().astype(self.dtype, copy=False))
        return values.to(dtype_numpy_to_torch(self.dtype))

    def _mark_missing(self, values: Tensor, known: Tensor, nodata: float | None) -> None:
        """In place: `nodata` (NaN for None) in all pixels that are not `known`, and in no other."""
        if self.dtype.kind == "f":
            marker = float("nan") if nodata is None else nodata
            if np.isfinite(marker):
                marker = float(torch.tensor(marker, dtype=values.dtype))
                neighbour = float(np.nextafter(self.dtype.type(marker), self.dtype.type(0 if marker else 1)))
                values.masked_fill_(values == marker, neighbour)
        else:
            if nodata is None or not nodata.is_integer():
                return
            limits = np.iinfo(self.dtype)
            if not limits.min <= nodata <= limits.max:
                return
            marker = nodata
            values.masked_fill_(values == marker, marker + 1 if marker < limits.max else marker - 1)
        values.masked_fill_(~known, marker)

    def _valid(self, planes: np.ndarray) -> np.ndarray:
        """(validity, n, W) of bool."""
        if self.validity == self.bands:
            return known_values(planes, self.nodata)
        return planes[self.bands :][: self.validity] > 0


class BandNetwork(nn.Module):
    """A super-resolution network over the channels of `PixelCoding`: bands through the network, the rest beside it.

    The network's input is cut to [0, 1]; what lies beyond, such as a cloud, is interpolated beside it (bilinear) and
    added. A network of one channel takes the bands one by one; one of three takes grey as three equal bands and the
    mean of its output. Soft alpha is interpolated (bilinear), hard alpha, masks and validity are repeated. Windows
    without a known pixel never reach the network.

    Args:
        network: (B, channels, h, w) -> (B, images * channels, s*h, s*w), values in [0, 1].
        coding: see `PixelCoding`.
        channels: of the network.
        scale: s.
        images: that the network predicts from one; more than one only if it takes just these bands.
        deviations: how many of these, the last ones, are standard deviations.

    Raises:
        ValueError: the network does not take this number of bands.
    """

    def __init__(
        self,
        network: Callable[..., Tensor],
        coding: PixelCoding,
        *,
        channels: int,
        scale: int,
        images: int = 1,
        deviations: int = 0,
    ):
        super().__init__()
        if images > 1 and channels != coding.bands:
            raise ValueError(
                f"the network takes {channels} bands and the image has {coding.bands}: samples and uncertainty need "
                "a network for just these bands."
            )
        if channels not in (coding.bands, 1) and (coding.bands, channels) != (1, 3):
            raise ValueError(
                f"the network takes {channels} bands and the image has {coding.bands}: choose {channels} of them with "
                f"--bands {' '.join(map(str, range(1, channels + 1)))}, or a network for {coding.bands}."
                if channels < coding.bands
                else f"the network takes {channels} bands and the image has {coding.bands}: choose a network for "
                f"{coding.bands} or for 1, which takes them one by one."
            )
        self.network, self.coding, self.channels, self.scale = network, coding, channels, scale
        self.images, self.deviations = images, deviations

    def forward(self, windows: Tensor, *maps: Tensor) -> Tensor:
        """(N, bands + alpha + validity, h, w) -> (N, images * bands + alpha + validity, s*h, s*w).

        Args:
            maps: (N, any, h, w), passed on to the network with the bands.
        """
        coding = self.coding
        rest = windows[:, coding.bands :]
        colours = windows[:, : coding.bands]
        if coding.validity:
            known = rest[:, -coding.validity :].flatten(1).any(dim=1)
            if not bool(known.all()):
                shape = (len(windows), self.images * coding.bands, *(self.scale * n for n in windows.shape[-2:]))
                output = torch.full(shape, MIDDLE, device=windows.device)
                if bool(known.any()):
                    output[known] = self._within(colours[known], *(each[known] for each in maps)).float()
                return self._with_rest(output, rest)
        return self._with_rest(self._within(colours, *maps), rest)

    def _within(self, colours: Tensor, *maps: Tensor) -> Tensor:
        """The network over [0, 1], and interpolation of what lies beyond."""
        inside = colours.clamp(0, 1)
        output = self._colours(inside, *maps)
        if torch.equal(inside, colours):
            return output
        beyond = interpolate(colours - inside, scale_factor=self.scale, mode="bilinear", align_corners=False)
        values = (self.images - self.deviations) * self.coding.bands
        upper = output[:, :values].float() + beyond.repeat(1, self.images - self.deviations, 1, 1)
        return torch.cat([upper, output[:, values:].float()], dim=1)

    def _colours(self, colours: Tensor, *maps: Tensor) -> Tensor:
        bands = self.coding.bands
        if self.channels == bands:
            return self.network(colours, *maps)
        if self.channels == 1:
            return self.network(colours.flatten(0, 1)[:, None]).unflatten(0, (-1, bands)).squeeze(2)
        return self.network(colours.expand(-1, self.channels, -1, -1)).float().mean(dim=1, keepdim=True)

    def _with_rest(self, colours: Tensor, rest: Tensor) -> Tensor:
        if rest.shape[1] == 0:
            return colours
        parts: Sequence[Tensor] = [colours, interpolate(rest, scale_factor=self.scale, mode="nearest")]
        if self.coding.alpha == "soft":
            smooth = interpolate(rest[:, :1], scale_factor=self.scale, mode="bilinear", align_corners=False)
            parts = [colours, smooth, parts[1][:, 1:]]
        return torch.cat(list(parts), dim=1)
