"""Synthetic dermoscopy: lesions on skin with their exact masks, for tests and demos.

Light is absorbed by pigment and blood (Beer-Lambert: optical densities add), so dark and red structures overlay as they
do in skin. Hair, ruler, ink, stickers, gel bubbles and the dark corners of the optics are not lesion, and some lesions
are faint: a grey threshold does not solve these images.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter
from torch import Tensor

from monai_ext.phantoms.folder import claim_folder
from monai_ext.storage.files import atomic_path
from monai_ext.storage.pictures import save_picture

__all__ = ["draw_lesion", "write_lesion_phantoms"]

# Optical density per unit of concentration in red, green and blue: pigment is brown, deep pigment blue-grey, blood red.
MELANIN = np.array([0.55, 1.0, 1.35], dtype=np.float32)
DEEP_MELANIN = np.array([1.1, 1.0, 0.85], dtype=np.float32)
BLOOD = np.array([0.12, 0.85, 0.75], dtype=np.float32)
SKIN_TONES = np.array(
    [
        (0.93, 0.84, 0.78), (0.90, 0.78, 0.72), (0.86, 0.72, 0.62), (0.80, 0.67, 0.55), (0.90, 0.68, 0.66),
        (0.92, 0.60, 0.56), (0.76, 0.72, 0.66), (0.84, 0.82, 0.84), (0.66, 0.60, 0.55), (0.58, 0.44, 0.35),
    ],
    dtype=np.float32,
)  # fmt: skip
STICKERS = ((0.05, 0.66, 0.88), (0.95, 0.55, 0.15), (0.85, 0.20, 0.25), (0.25, 0.65, 0.45), (0.70, 0.65, 0.85))
INK = (0.36, 0.20, 0.48)
MEDIAN_AREA, AREA_SPREAD = 0.13, 0.9  # log-normal, as in ISIC 2017 (1 % ... 78 %, median 13 %)
OVERSAMPLING = 3  # of lines, before they are averaged down
DRAWING_VERSION = 1  # raise it when the same seed draws another picture


def draw_lesion(size: Sequence[int] = (192, 256), *, seed: int | Sequence[int] = 0) -> tuple[Tensor, Tensor]:
    """A dermoscopy-like image, uint8 (3, H, W), and the mask of its one lesion, uint8 (1, H, W) of 0/1.

    The same size and seed (a non-negative integer or several) give the same picture. The lesion lies wholly or mostly
    inside the image and covers about 1 % to 75 % of it, 13 % in the median; what lies over it, such as hair, belongs
    to it.

    Raises:
        ValueError: a side of `size` is below 32 pixels, where nothing recognisable can be drawn.
    """
    height, width = (int(side) for side in size)
    if min(height, width) < 32:
        raise ValueError(f"size is {tuple(size)}: draw_lesion needs at least 32 pixels a side.")
    rng = np.random.default_rng(seed)
    scene = _Scene(height, width, rng)
    mask, pigment = _draw_pigment(scene)
    scene.draw_skin(mask)
    scene.density += pigment
    if rng.random() < 0.3:
        scene.draw_ink(mask)
    if rng.random() < 0.5:
        scene.draw_hair()
    if rng.random() < 0.35:
        scene.draw_ruler()
    if rng.random() < 0.3:
        scene.draw_bubbles()
    if rng.random() < 0.2:
        scene.draw_sticker(mask)
    if rng.random() < 0.35:
        scene.draw_dark_corners()
    return torch.from_numpy(scene.photograph()), torch.from_numpy(mask.astype(np.uint8))[None]


def write_lesion_phantoms(
    output_dir: str | os.PathLike, *, count: int = 64, size: Sequence[int] = (192, 256), seed: int = 0
) -> int:
    """Write `images/phantom_0000.jpg` ... (JPEG, quality 95) and `masks/phantom_0000.png` ... (0/255).

    Phantom i depends on seed, size and i alone. Files that exist are kept, so an interrupted call is resumed, and a
    larger `count` adds to what is there. Every file appears complete or not at all.

    Returns:
        The number of phantoms now in the folder: `count`, or more if an earlier call wrote more.

    Raises:
        ValueError: the folder holds phantoms of another seed or size, or `count` is below 1.
    """
    settings = {"size": [int(side) for side in size], "seed": seed, "drawing": DRAWING_VERSION}
    folder = claim_folder(output_dir, settings, count=count)
    for index in range(count):
        image_file = folder / "images" / f"phantom_{index:04d}.jpg"
        mask_file = folder / "masks" / f"phantom_{index:04d}.png"
        if image_file.exists() and mask_file.exists():
            continue
        image, mask = draw_lesion(size, seed=(seed, index))
        with atomic_path(mask_file) as temporary:
            save_picture(Image.fromarray(mask[0].numpy() * 255), temporary)
        with atomic_path(image_file) as temporary:
            save_picture(Image.fromarray(image.permute(1, 2, 0).numpy()), temporary, quality=95)
    return len(list((folder / "images").glob("phantom_*.jpg")))


class _Scene:
    """Optical density and light of a picture in the making; lengths are fractions of the image height."""

    def __init__(self, height: int, width: int, rng: np.random.Generator):
        self.height, self.width, self.rng = height, width, rng
        y, x = np.mgrid[:height, :width].astype(np.float32)
        self.y, self.x = (y + 0.5) / height, (x + 0.5) / height
        self.aspect = width / height
        self.density = np.zeros((3, height, width), dtype=np.float32)
        self.veil = np.zeros((height, width), dtype=np.float32)  # share of light that comes from above the skin

    def noise(self, grain: float) -> np.ndarray:
        """Smooth noise (H, W), mean 0 and variance about 1, with structures of about the size `grain`."""
        rows, columns = 1 / grain, self.aspect / grain
        knots = self.rng.standard_normal((math.ceil(rows) + 2, math.ceil(columns) + 2), dtype=np.float32)
        x, y = 0.5 + self.rng.random(2)  # a part that begins anywhere, so that no grid shows
        box = (x, y, x + columns, y + rows)
        # Pillow's resize keeps to one thread, unlike a matrix product, which stalls on a busy machine.
        smooth = Image.fromarray(knots * 1.25).resize((self.width, self.height), Image.Resampling.BICUBIC, box=box)
        return np.asarray(smooth)

    def window(self, y: float, x: float, reach: float) -> tuple:
        """Index of the rows and columns within `reach` of a point, for (H, W) and (3, H, W)."""
        first = [max(0, int((c - reach) * self.height)) for c in (y, x)]
        end = [max(0, math.ceil((c + reach) * self.height)) for c in (y, x)]
        return ..., slice(first[0], end[0]), slice(first[1], end[1])

    def lines(self) -> tuple[Image.Image, ImageDraw.ImageDraw, float]:
        """An oversampled canvas for thin lines, its pen, and the pixels per image height."""
        canvas = Image.new("L", (self.width * OVERSAMPLING, self.height * OVERSAMPLING))
        return canvas, ImageDraw.Draw(canvas), self.height * OVERSAMPLING

    def absorb(self, amount: np.ndarray, colour: np.ndarray) -> None:
        self.density += amount * colour[:, None, None]

    def cover(self, share: np.ndarray, colour: Sequence[float] | np.ndarray) -> None:
        """Lay an opaque thing of this colour over what has been drawn; share (H, W) in [0, 1]."""
        target = -np.log(np.asarray(colour, dtype=np.float32))[:, None, None]
        self.density += share * (target - self.density)

    def draw_skin(self, mask: np.ndarray) -> None:
        rng = self.rng
        tone = SKIN_TONES[rng.integers(len(SKIN_TONES))] * rng.uniform(0.92, 1.06, 3).astype(np.float32)
        self.density -= np.log(np.minimum(tone, 0.98))[:, None, None]
        texture = 0.03 * self.noise(0.35) + 0.015 * self.noise(0.06) + 0.02 * self.noise(0.02)
        self.absorb(rng.uniform(0.3, 1.3) * texture, MELANIN)
        self.absorb(rng.uniform(0.2, 1.6) * 0.03 * self.noise(0.09), BLOOD)
        if rng.random() < 0.35:  # red or tanned patches beside the lesion
            patch = 1 / (1 + np.exp(-4 * (self.noise(0.45) - 1.0)))
            self.absorb(rng.uniform(0.15, 0.5) * patch * ~mask, BLOOD if rng.random() < 0.6 else MELANIN)
        for _ in range(rng.integers(0, 7) if rng.random() < 0.4 else 0):  # freckles
            y, x, radius = rng.uniform(0, 1), rng.uniform(0, self.aspect), rng.uniform(0.008, 0.025)
            near = self.window(y, x, 2 * radius)
            spot = np.exp(-((((self.y[near] - y) ** 2 + (self.x[near] - x) ** 2) / radius**2) ** 2)) * ~mask[near]
            self.density[near] += rng.uniform(0.1, 0.5) * spot * MELANIN[:, None, None]
        angle = rng.uniform(0, 2 * math.pi)
        ramp = (self.x - self.aspect / 2) * math.cos(angle) + (self.y - 0.5) * math.sin(angle)
        self.density += rng.uniform(0, 0.35) * ramp

    def draw_hair(self) -> None:
        """Dark or light hair: quadratic arcs of varying direction, mostly combed one way."""
        rng = self.rng
        canvas, pen, scale = self.lines()
        combed = rng.uniform(0, math.pi)
        steps = np.linspace(0, 1, 24)[:, None]
        for _ in range(min(int(rng.geometric(0.1)) + 1, 35)):
            angle = combed + rng.normal(0, 0.5)
            middle = np.array([rng.uniform(0, self.aspect), rng.uniform(0, 1)])
            half = rng.uniform(0.15, 0.7) * np.array([math.cos(angle), math.sin(angle)])
            bend = rng.normal(0, 0.2) * np.array([-half[1], half[0]]) * 2
            arc = (middle + half * (2 * steps - 1) + bend * (1 - (2 * steps - 1) ** 2)) * scale
            pen.line([tuple(point) for point in arc], fill=255, width=max(1, round(rng.uniform(0.004, 0.012) * scale)))
        colour = np.exp(-rng.uniform(0.8, 2.2) * np.array([1.0, 1.25, 1.45]))  # from brown to black
        if rng.random() < 0.2:
            colour = np.array([0.85, 0.78, 0.65])
        self.cover(_shrunk(canvas) * rng.uniform(0.55, 0.95), colour)

    def draw_ruler(self) -> None:
        """A scale with marks, printed along a line near the edge."""
        rng = self.rng
        canvas, pen, scale = self.lines()
        angle = rng.normal(0, 0.4)
        along, across = np.array([math.cos(angle), math.sin(angle)]), np.array([-math.sin(angle), math.cos(angle)])
        start = np.array([rng.uniform(0.05, 0.5 * self.aspect), rng.choice([0.1, 0.88])])
        pitch, marks = rng.uniform(0.025, 0.05), int(rng.integers(8, 18))
        thick = max(1, round(0.005 * scale))
        if rng.random() < 0.6:
            end = start + along * pitch * (marks - 1)
            pen.line([tuple(start * scale), tuple(end * scale)], fill=255, width=thick)
        for mark in range(marks):
            foot = start + along * pitch * mark
            length = 0.05 if mark % 5 == 0 else 0.03
            pen.line([tuple(foot * scale), tuple((foot - across * length) * scale)], fill=255, width=thick)
        self.cover(_shrunk(canvas) * rng.uniform(0.6, 0.9), (0.12, 0.11, 0.12))

    def draw_ink(self, mask: np.ndarray) -> None:
        """Strokes of a skin marker beside the lesion."""
        rng = self.rng
        canvas, pen, scale = self.lines()
        for _ in range(rng.integers(1, 4)):
            y, x = self._place_beside(mask, 0.08)
            points = np.array([x, y]) + np.cumsum(rng.normal(0, 0.035, (rng.integers(4, 14), 2)), axis=0)
            stroke = [tuple(point) for point in points * scale]
            pen.line(stroke, fill=255, width=round(rng.uniform(0.015, 0.04) * scale), joint="curve")
        share = gaussian_filter(_shrunk(canvas), 0.006 * self.height) * np.clip(0.75 + 0.3 * self.noise(0.02), 0, 1)
        self.cover(share * rng.uniform(0.5, 0.95) * ~mask, INK)

    def draw_sticker(self, mask: np.ndarray) -> None:
        """A coloured disc that reaches into the image beside the lesion."""
        rng = self.rng
        y, x = self._place_beside(mask, 0.35)
        distance = np.hypot(self.y - y, self.x - x)
        room = distance[mask].min() - 0.03 if mask.any() else 0.5
        if room < 0.1:
            return
        radius = min(rng.uniform(0.2, 0.5), room)
        disc = np.clip((radius - distance) * self.height / 1.5 + 0.5, 0, 1)
        self.density += 0.25 * np.exp(-np.abs(distance - radius) / 0.02) * (distance > radius)  # its shadow
        self.cover(disc, STICKERS[rng.integers(len(STICKERS))])
        self.density += disc * 0.04 * self.noise(0.015)

    def draw_bubbles(self) -> None:
        """Air in the immersion gel: a bright rim, a dark line inside it, a glint."""
        rng = self.rng
        for _ in range(rng.integers(1, 6)):
            y, x, radius = rng.uniform(0, 1), rng.uniform(0, self.aspect), rng.uniform(0.012, 0.05)
            near = self.window(y, x, 1.5 * radius + 0.02)
            down, right = self.y[near] - y, self.x[near] - x
            distance = np.hypot(down, right)
            self.veil[near] += 0.4 * np.exp(-(((distance - radius) / 0.006) ** 2))
            self.density[near] += 0.2 * np.exp(-(((distance - radius * 0.8) / 0.008) ** 2))
            self.veil[near] += 0.7 * np.exp(-((np.hypot(down + radius / 2, right + radius / 2) / 0.008) ** 2))

    def draw_dark_corners(self) -> None:
        """The round field of the optics: a soft fall-off, or the black beyond its edge."""
        rng = self.rng
        distance = np.hypot(self.y - 0.5 - rng.normal(0, 0.02), self.x - self.aspect / 2 - rng.normal(0, 0.02))
        corner = math.hypot(0.5, self.aspect / 2)
        if rng.random() < 0.5:
            self.density += rng.uniform(0.3, 1.2) * (distance / corner) ** 4
            return
        edge = rng.uniform(0.78, 0.98) * corner
        softness = rng.uniform(0.004, 0.03)
        share = 1 / (1 + np.exp(-np.clip((distance - edge) / softness, -30, 30)))
        self.cover(share, (0.04, 0.035, 0.05))

    def photograph(self) -> np.ndarray:
        """The light that arrives, with the camera's blur, noise and exposure: uint8 (3, H, W)."""
        rng = self.rng
        light = np.exp(-np.maximum(self.density, 0.01))
        light += np.minimum(self.veil, 1) * (0.97 - light)
        if rng.random() < 0.4:
            light = gaussian_filter(light, (0, *2 * [rng.uniform(0.3, 1.2) * self.height / 192]))
        light *= 255 * rng.uniform(0.8, 1.08)
        light += rng.uniform(1, 3.5) * rng.standard_normal(light.shape, dtype=np.float32)
        return (np.clip(light, 0, 255) + 0.5).astype(np.uint8)

    def _place_beside(self, mask: np.ndarray, margin: float) -> tuple[float, float]:
        """A point (y, x), possibly at the border, away from the lesion's centre of mass: the farthest of a few."""
        rng = self.rng
        rows, columns = np.nonzero(mask)
        y0, x0 = rows.mean() / self.height, columns.mean() / self.height
        places = rng.uniform((-margin / 2, -margin / 2), (1 + margin / 2, self.aspect + margin / 2), (6, 2))
        y, x = places[np.argmax(np.hypot(places[:, 0] - y0, places[:, 1] - x0))]
        return float(y), float(x)


def _shrunk(canvas: Image.Image) -> np.ndarray:
    """Coverage in [0, 1], (H, W), of an oversampled canvas."""
    return np.asarray(canvas.reduce(OVERSAMPLING), dtype=np.float32) / 255


def _draw_pigment(scene: _Scene) -> tuple[np.ndarray, np.ndarray]:
    """The mask of a lesion, bool (H, W), and its optical density over skin, (3, H, W)."""
    rng = scene.rng
    area = float(np.clip(MEDIAN_AREA * math.exp(rng.normal(0, AREA_SPREAD)), 0.012, 0.65)) * scene.aspect
    radius = math.sqrt(area / math.pi)  # of a disc of that area, in image heights
    inside = _border_distance(scene, radius)  # > 0 inside, in image heights
    mask = inside > 0
    fuzz = rng.uniform(0.01, 0.05) + rng.uniform(0.03, 0.25) * radius
    # The border that people outline lies in the outer part of the fade, not in its middle.
    body = np.clip(inside / fuzz + 0.3, 0, 1)
    body = body * body * (3 - 2 * body)

    depth = np.clip(inside / radius, 0, 1)
    brown = 0.75 + 0.25 * scene.noise(0.5 * radius + 0.05) + rng.uniform(-0.3, 0.7) * depth
    brown = np.maximum(brown, 0.15)
    pattern = rng.random()
    if pattern < 0.4:  # pigment network: a mesh of dark lines around pale holes
        brown *= 1 + rng.uniform(0.3, 0.8) * (_network(scene, rng.uniform(0.025, 0.05)) - 0.5)
    elif pattern < 0.75:  # globules and dots
        brown *= 0.8 + rng.uniform(0.3, 0.9) / (1 + np.exp(-6 * (scene.noise(rng.uniform(0.02, 0.045)) - 0.6)))
    brown *= 1 + 0.12 * scene.noise(0.015)
    if rng.random() < 0.35:  # a darker blotch somewhere
        brown += rng.uniform(0.4, 1.2) / (1 + np.exp(-5 * (scene.noise(0.8 * radius + 0.05) - 0.7)))
    if rng.random() < 0.25:  # regression: a paler part
        brown *= 1 - 0.75 / (1 + np.exp(-5 * (scene.noise(0.9 * radius + 0.05) - 0.6)))

    strength = math.exp(rng.uniform(math.log(0.25), math.log(1.5)))
    red = rng.uniform(0, 0.45) * (0.7 + 0.3 * scene.noise(0.2)) * (2 if rng.random() < 0.12 else 1)
    deep = np.zeros_like(body)
    if rng.random() < 0.3:  # pigment in the dermis looks blue-grey
        deep = rng.uniform(0.2, 0.8) / (1 + np.exp(-4 * (scene.noise(0.7 * radius + 0.05) - 0.4)))
    red = np.maximum(red, 0)
    coloured = zip((strength * brown, strength * red, strength * deep), (MELANIN, BLOOD, DEEP_MELANIN), strict=True)
    return mask, body * sum(amount * colour[:, None, None] for amount, colour in coloured)


def _border_distance(scene: _Scene, radius: float) -> np.ndarray:
    """Distance to an irregular closed border, (H, W), about exact near it, positive inside, in image heights."""
    rng = scene.rng
    reach = min(0.9 * radius, 0.45)  # keeps most of the lesion in the picture
    y0 = 0.5 + rng.uniform(-1, 1) * max(0.5 - reach, 0.02) * 0.7
    x0 = scene.aspect / 2 + rng.uniform(-1, 1) * max(scene.aspect / 2 - reach, 0.02) * 0.6
    turn, flat = rng.uniform(0, math.pi), math.exp(abs(rng.normal(0, 0.18)))
    ragged = rng.uniform(0.01, 0.06)
    y = scene.y - y0 + radius * (0.12 * scene.noise(0.9 * radius + 0.03) + ragged * scene.noise(0.2 * radius + 0.02))
    x = scene.x - x0 + radius * (0.12 * scene.noise(0.9 * radius + 0.03) + ragged * scene.noise(0.2 * radius + 0.02))
    u = (x * math.cos(turn) + y * math.sin(turn)) / flat
    v = (y * math.cos(turn) - x * math.sin(turn)) * flat
    distance = np.hypot(u, v) + 1e-6
    direction = (u + 1j * v) / distance  # its powers are the lobes of a Fourier series of the radius
    lobes = np.arange(7, 1, -1)  # no first: that would only shift the centre
    size = rng.uniform(0.02, 0.2) / lobes**1.1 * rng.standard_normal(6)
    series = np.append(size * np.exp(2j * math.pi * rng.random(6)), [0, 0])
    border = 1 + np.polyval(series.astype(np.complex64), direction).real
    return radius * np.maximum(border, 0.4) - distance


def _network(scene: _Scene, mesh: float) -> np.ndarray:
    """A warped hexagonal mesh, (H, W) in [0, 1], 1 on its lines; mesh: distance between holes in image heights."""
    turn = scene.rng.uniform(0, math.pi)
    y, x = scene.y + 0.35 * mesh * scene.noise(2.5 * mesh), scene.x + 0.35 * mesh * scene.noise(2.5 * mesh)
    angles = [turn + third * math.pi / 3 for third in range(3)]
    waves = sum(np.cos((x * math.cos(a) + y * math.sin(a)) * (2 * math.pi / mesh)) for a in angles)
    return np.clip(0.6 - waves / 3, 0, 1)
