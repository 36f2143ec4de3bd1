"""Pictures and rasters to upscale, and small networks whose outputs are known; for tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from monai_ext.commands.command_line import parse_options
from monai_ext.commands.upscaling import upscale as command
from monai_ext.handlers.training.weight_digests import weight_digests
from monai_ext.metrics.conformal import Calibration, write_calibration
from monai_ext.networks.latent_srresnet import BayesianSRResNet
from monai_ext.networks.srresnet import SRResNet
from monai_ext.networks.uncertain_sr import UncertainSuperResolution
from monai_ext.networks.variational import VariationalConv2d
from monai_ext.raster import gdal as raster_gdal
from monai_ext.raster.opening import open_raster
from monai_ext.transforms.degradation import Degradation
from monai_ext.upscaling.layers import Layers
from monai_ext.upscaling.upscaler import Upscaler

HAS_RASTERIO = raster_gdal.available()
needs_rasterio = pytest.mark.skipif(not HAS_RASTERIO, reason="needs rasterio")
UTM = "EPSG:32618"
ALL = Layers(
    samples=2, bounds=Calibration("crc", 0.1, None, (2.0,)), uncertainty=True, weight_samples=3, latent_samples=2
)
NOISE_SD = 0.02


class Toy(UncertainSuperResolution):
    """Repeats pixels; adds a tenth of its latent, blurred; its weights and its noise are a little uncertain."""

    def __init__(self, bands: int = 3):
        super().__init__()
        self.scale, self.latent_channels, self.bands = 2, 1, bands
        self.body = VariationalConv2d(bands, bands * 4, 3, padding=1, bias=False)
        with torch.no_grad():
            self.body.weight.zero_()
            self.body.log_deviation.fill_(-5.0)
            for channel in range(4 * bands):
                self.body.weight[channel, channel // 4, 1, 1] = 1

    def forward(self, low_res: Tensor, noise: Tensor | None = None) -> Tensor:
        image = functional.pixel_shuffle(self.body(low_res), 2)
        if noise is None:
            return image
        blurred = functional.avg_pool2d(functional.pad(noise, [1] * 4, mode="replicate"), 3, stride=1)
        return image + 0.1 * functional.interpolate(blurred, scale_factor=2, mode="nearest")

    def moments(self, low_res: Tensor, noise: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        for draw in noise.unbind(1):
            mean = self(low_res, draw)
            yield mean, torch.full_like(mean, NOISE_SD**2)


def repeating(channels: int = 3, scale: int = 2) -> nn.Sequential:
    """A convolution that repeats each pixel: what comes out is known exactly."""
    convolution = nn.Conv2d(channels, channels * scale**2, 3, padding=1, bias=False)
    with torch.no_grad():
        convolution.weight.zero_()
        for channel in range(convolution.out_channels):
            convolution.weight[channel, channel // scale**2, 1, 1] = 1
    return nn.Sequential(convolution, nn.PixelShuffle(scale))


class Blurring(nn.Module):
    """Mean over 5x5, then each pixel twice; counts its windows."""

    in_channels = 1

    def __init__(self):
        super().__init__()
        self.windows = 0

    def forward(self, windows: Tensor) -> Tensor:
        self.windows += len(windows)
        blurred = functional.avg_pool2d(windows, 5, stride=1, padding=2, count_include_pad=False)
        return functional.interpolate(blurred, scale_factor=2, mode="nearest")


def upscaler(network: nn.Module | None = None, **choices: object) -> Upscaler:
    return Upscaler(network or repeating(), **({"tile": 24, "overlap": 8, "precision": "fp32"} | choices))


def repeated(pixels: np.ndarray, scale: int = 2) -> np.ndarray:
    """(C, H, W) with each pixel repeated."""
    return pixels.repeat(scale, axis=-1).repeat(scale, axis=-2)


def noise(*shape: int, dtype: type = np.uint8, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return generator.random(shape).astype(dtype)
    limits = np.iinfo(dtype)
    return generator.integers(limits.min, limits.max + 1, shape).astype(dtype)


def save_picture(path: Path, pixels: np.ndarray, **options: object) -> Path:
    Image.fromarray(np.moveaxis(pixels, 0, -1) if len(pixels) > 1 else pixels[0]).save(path, **options)
    return path


def waves(height: int, width: int) -> np.ndarray:
    """A picture whose neighbouring pixels are alike, (3, H, W)."""
    rows, columns = np.mgrid[:height, :width]
    bands = [128 + 60 * np.sin(rows / a) + 60 * np.cos(columns / b) for a, b in ((9, 7), (5, 11), (7, 5))]
    return np.stack(bands).astype(np.uint8)


def cut_into_tiles(
    folder: Path, pixels: np.ndarray, *, side: int = 16, first: tuple[int, int] = (4, 3), south: bool = False
) -> list[Path]:
    """Tiles 5/X/Y.png of a picture, row by row, from the row and the column `first` of the grid on."""
    files, count = [], pixels.shape[1] // side
    for row in range(count):
        for column in range(pixels.shape[2] // side):
            file = folder / "5" / str(first[1] + column) / f"{first[0] + (count - 1 - row if south else row)}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            window = pixels[:, row * side : (row + 1) * side, column * side : (column + 1) * side]
            files.append(save_picture(file, np.ascontiguousarray(window)))
    return files


def save_raster(path: Path, pixels: np.ndarray, *, driver: str = "GTiff", **profile: object) -> Path:
    import rasterio

    count, height, width = pixels.shape
    place = {"crs": UTM, "transform": rasterio.Affine(0.5, 0, 400000, 0, -0.5, 4300000)} | profile
    with rasterio.open(
        path, "w", driver=driver, count=count, height=height, width=width, dtype=pixels.dtype, **place
    ) as dataset:
        dataset.write(pixels)
    return path


def save_turned(path: Path, pixels: np.ndarray, orientation: int, **options: object) -> Path:
    """`pixels` (C, H, W) as they are stored."""
    extra = [(274, "H", 1, orientation, True)]
    values = np.moveaxis(pixels, 0, -1) if len(pixels) > 1 else pixels[0]
    tifffile.imwrite(path, values, photometric="rgb" if len(pixels) > 1 else "minisblack", extratags=extra, **options)
    return path


def read(path: Path) -> np.ndarray:
    """(planes, H, W)."""
    raster = open_raster(path)
    pixels = raster.rows(0, raster.info.size[0])
    raster.close()
    return pixels


class Broken(Exception):
    """Stands for a kill."""


def typed(*words: object) -> command.UpscaleOptions:
    return parse_options(command.UpscaleOptions, [str(word) for word in words]).options


def repeating_bundle(folder: Path) -> Path:
    """A bundle of the network `repeating`."""
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    definition = "$torch.nn.Sequential(torch.nn.Conv2d(3, 12, 3, padding=1, bias=False), torch.nn.PixelShuffle(2))"
    config = {"imports": ["$import torch"], "network_def": definition}
    (folder / "configs" / "inference.json").write_text(json.dumps(config))
    torch.save(repeating().state_dict(), folder / "models" / "model.pt")
    return folder


def bayesian_bundle(folder: Path) -> Path:
    """A Bayesian network that was never trained, but whose texture says something."""
    (folder / "configs").mkdir()
    (folder / "models").mkdir()
    conv = {"_target_": "monai_ext.networks.variational.DropoutConv2d", "_mode_": "callable", "rate": 0.1, "fewest": 4}
    generator = {"_target_": "monai_ext.networks.srresnet.SRResNet", "features": 8, "blocks": 1, "norm": None}
    definition = {
        "_target_": "monai_ext.networks.BayesianSRResNet",
        "generator": generator | {"residual": True, "upsampling": "direct", "conv": conv},
        "operator": {"_target_": "monai_ext.transforms.degradation.Degradation", "scale": 4},
        "latent_channels": 2,
        "texture_blocks": 1,
        "conv": conv,
    }
    (folder / "configs" / "inference.json").write_text(json.dumps({"network_def": definition}))
    torch.manual_seed(0)
    network = BayesianSRResNet(
        SRResNet(features=8, blocks=1, norm=None, residual=True, upsampling="direct"),
        Degradation(4),
        latent_channels=2,
        texture_blocks=1,
    )
    nn.init.normal_(network.texture[-1].weight, std=0.3)
    nn.init.normal_(network.generator.tail[0].weight, std=0.02)
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    digests = weight_digests([folder / "models" / "model.pt"])
    calibration = Calibration("crc", 0.1, None, (1.7,), weights=digests, weight_samples=2, latent_samples=3)
    write_calibration(calibration, folder / "models" / "calibration.json")
    return folder


def toy(layers: Layers = ALL, *, bands: int = 3, **choices: object) -> Upscaler:
    torch.manual_seed(0)
    return Upscaler(Toy(bands), layers, **({"tile": 24, "overlap": 8, "batch_size": 2} | choices))
