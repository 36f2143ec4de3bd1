"""Synthetic aerial scenes for tests and demos, as separate layers of low-resolution layout and hidden detail.

The layout (streets, roofs, trees, fields, water, cars, shadows) comes from one seed, the fine texture (furrows, tiles,
leaves, grain) from another. The texture hides from a reduction by `HIDDEN_SCALE`: scenes that differ in it alone have
the same low-resolution image, so that the many targets of one input are known.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor

from monai_ext.phantoms.aerial_scene import OVERSAMPLING, RED_GREEN_BLUE_INFRARED, Scene
from monai_ext.phantoms.folder import claim_folder
from monai_ext.storage.files import atomic_path

__all__ = ["HIDDEN_SCALE", "aerial_layers", "draw_aerial", "write_aerial_phantoms"]

HIDDEN_SCALE = 4  # bicubic, antialiased, as Pillow reduces
HIDING_STEPS = 6
SMALLEST_SIDE = 32
SHADE = np.array([0.42, 0.46, 0.54, 0.36], dtype=np.float32)  # share of the light that is left; the sky is blue
BLUR = 0.45  # standard deviation of the optics, pixels
CLOUD_PIXELS = (24, 9)  # sizes of a surface's variation over metres
NOISE = 0.006
LUMINANCE = (0.299, 0.587, 0.114, 0.0)
DRAWING_VERSION = 1  # raise it when the same seeds draw another scene


def draw_aerial(
    size: Sequence[int] = (256, 256),
    *,
    layout_seed: int | Sequence[int] = 0,
    texture_seed: int | Sequence[int] = 0,
    bands: int = 3,
    bits: int = 8,
    pixel_size_m: float = 0.3,
) -> Tensor:
    """An aerial scene, (bands, H, W), uint8 (`bits=8`) or uint16 (16).

    The same arguments give the same scene. Seeds are non-negative integers, or several of them. Drawing takes
    about 130 bytes of memory a pixel.

    Args:
        bands: 1 is luminance; 2 luminance and near infrared; 3 red, green, blue; 4 and near infrared; more lie between
            red and infrared, as those of the red edge do.
        pixel_size_m: ground size of a pixel; 0.15 to 1 look right.

    Raises:
        ValueError: a side is below 32 pixels, there is no band, `bits` is neither 8 nor 16, or the pixel has no size.
    """
    if bits not in (8, 16):
        raise ValueError(f"bits is {bits}: choose 8 or 16.")
    layout, texture = aerial_layers(
        size, layout_seed=layout_seed, texture_seed=texture_seed, bands=bands, pixel_size_m=pixel_size_m
    )
    values = (layout + texture).clamp_(0, 1).mul_(2**bits - 1).round_()
    return values.to(torch.uint8) if bits == 8 else values.to(torch.int32).to(torch.uint16)


def aerial_layers(
    size: Sequence[int] = (256, 256),
    *,
    layout_seed: int | Sequence[int] = 0,
    texture_seed: int | Sequence[int] = 0,
    bands: int = 3,
    pixel_size_m: float = 0.3,
) -> tuple[Tensor, Tensor]:
    """Layout and texture of a scene, float32 (bands, H, W) each; their sum, cut to [0, 1], is `draw_aerial`'s.

    The texture is what a reduction by `HIDDEN_SCALE` does not show. Where both sides are multiples of it, the 8-bit
    low-resolution images of scenes that differ in texture alone differ by rounding, 1/255; where a highlight is cut,
    by up to 3/255. (The texture's part in the null space of the operator itself is hidden exactly.)

    Raises:
        ValueError: as `draw_aerial`.
    """
    height, width = (int(side) for side in size)
    if min(height, width) < SMALLEST_SIDE:
        raise ValueError(f"size is {tuple(size)}: a scene needs at least {SMALLEST_SIDE} pixels a side.")
    if bands < 1 or not pixel_size_m > 0:
        raise ValueError(f"bands={bands} and pixel_size_m={pixel_size_m}: choose at least 1 band and a positive size.")
    scene = Scene(height, width, pixel_size_m, np.random.default_rng(layout_seed))
    layout = _layout(scene, _band_weights(bands))
    texture = _texture(scene, layout, np.random.default_rng(texture_seed))
    return torch.from_numpy(layout), torch.from_numpy(texture)


def write_aerial_phantoms(
    output_dir: str | os.PathLike,
    *,
    count: int = 64,
    size: Sequence[int] = (256, 256),
    seed: int = 0,
    bands: int = 3,
) -> int:
    """Write `phantom_0000.png` ..., lossless tiles for `tile_items`, each a place of its own; 1 or 3 bands.

    Phantom i depends on seed, size and i alone. Files that exist are kept, so an interrupted call is resumed, and a
    larger `count` adds to what is there. Every file appears complete or not at all.

    Returns:
        The number of phantoms now in the folder: `count`, or more if an earlier call wrote more.

    Raises:
        ValueError: the folder holds phantoms of other settings, `count` is below 1, or `bands` is neither 1 nor 3.
    """
    if bands not in (1, 3):
        raise ValueError(f"bands is {bands}: PNG files hold 1 or 3; draw_aerial gives any number.")
    settings = {"size": [int(side) for side in size], "seed": seed, "bands": bands, "drawing": DRAWING_VERSION}
    folder = claim_folder(output_dir, settings, count=count)
    for index in range(count):
        file = folder / f"phantom_{index:04d}.png"
        if file.exists():
            continue
        pixels = draw_aerial(size, layout_seed=(seed, index), texture_seed=(seed, index), bands=bands)
        with atomic_path(file) as temporary:
            Image.fromarray(pixels.permute(1, 2, 0).squeeze(-1).numpy()).save(temporary)
    return len(list(folder.glob("phantom_*.png")))


def _band_weights(bands: int) -> np.ndarray:
    """(bands, 4) weights of red, green, blue, infrared."""
    infrared = np.eye(RED_GREEN_BLUE_INFRARED, dtype=np.float32)[3:]
    luminance = np.array([LUMINANCE], dtype=np.float32)
    if bands <= 2:
        return np.concatenate([luminance, infrared])[:bands]
    basic = np.eye(RED_GREEN_BLUE_INFRARED, dtype=np.float32)
    between = np.linspace(0, 1, max(bands - RED_GREEN_BLUE_INFRARED, 0) + 2, dtype=np.float32)[1:-1, None]
    return np.concatenate([basic, (1 - between) * basic[:1] + between * infrared])[:bands]


def _layout(scene: Scene, weights: np.ndarray) -> np.ndarray:
    """Colours with shadows and the surfaces' variation over metres, float32 (bands, H, W) in [0.04, 0.9]."""
    numbers = np.asarray(scene.numbers)
    lit = 1 - np.asarray(scene.shade, dtype=np.float32) / 255
    colours = np.asarray(scene.colours, dtype=np.float32) @ weights.T
    shade = weights @ SHADE
    clouds = _averaged(np.asarray([s.cloudiness for s in scene.surfaces], dtype=np.float32)[numbers])
    clouds *= sum(_smooth_noise(clouds.shape, grain, scene.rng) for grain in CLOUD_PIXELS) / np.sqrt(len(CLOUD_PIXELS))
    bands = []
    for colour, dark in zip(colours.T, shade, strict=True):
        band = _averaged(colour[numbers] * (dark + (1 - dark) * lit))
        bands.append(gaussian_filter(band * (1 + clouds), BLUR, mode="nearest"))
    return np.clip(np.stack(bands), 0.04, 0.9)  # leaves room for the texture


def _texture(scene: Scene, layout: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows and grain of the surfaces, float32 (bands, H, W), without what a reduction would show."""
    numbers = np.asarray(scene.numbers)[::OVERSAMPLING, ::OVERSAMPLING]
    grain, rows, period, angle = (
        np.asarray([getattr(s, name) for s in scene.surfaces], dtype=np.float32)
        for name in ("grain", "rows", "period", "angle")
    )
    begin = rng.uniform(0, 2 * np.pi, len(period)).astype(np.float32)  # each object's rows begin anywhere
    y, x = np.mgrid[: numbers.shape[0], : numbers.shape[1]].astype(np.float32)
    frequency = 2 * np.pi / period
    phase = x * (frequency * np.cos(angle))[numbers] + y * (frequency * np.sin(angle))[numbers] + begin[numbers]
    white = rng.standard_normal(numbers.shape, dtype=np.float32)
    fine = gaussian_filter(white, 0.7, mode="wrap")
    pattern = rows[numbers] * np.sin(phase) + grain[numbers] * fine / fine.std()
    noise = NOISE * rng.standard_normal(layout.shape, dtype=np.float32)
    return np.stack([without_low_resolution(band * pattern + other) for band, other in zip(layout, noise, strict=True)])


def without_low_resolution(texture: np.ndarray) -> np.ndarray:
    """`texture` (H, W) less what is seen of it after a reduction by `HIDDEN_SCALE`."""
    size = texture.shape[::-1]
    small = tuple(-(-side // HIDDEN_SCALE) for side in size)
    for _ in range(HIDING_STEPS):
        seen = Image.fromarray(texture).resize(small, Image.Resampling.BICUBIC)
        texture = texture - np.asarray(seen.resize(size, Image.Resampling.BICUBIC))
    return texture


def _averaged(values: np.ndarray) -> np.ndarray:
    """Means over the oversampled pixels."""
    height, width = (side // OVERSAMPLING for side in values.shape)
    return values.reshape(height, OVERSAMPLING, width, OVERSAMPLING).mean((1, 3))


def _smooth_noise(shape: tuple[int, int], grain: float, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise, mean 0 and variance about 1, with structures of about `grain` pixels."""
    knots = rng.standard_normal([int(side / grain) + 3 for side in shape], dtype=np.float32) * np.float32(1.25)
    box = (1.0, 1.0, 1.0 + shape[1] / grain, 1.0 + shape[0] / grain)
    return np.asarray(Image.fromarray(knots).resize(shape[::-1], Image.Resampling.BICUBIC, box=box))
