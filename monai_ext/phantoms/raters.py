"""Synthetic cells with faint outgrowths, and nuclei in them, outlined by raters of known styles, for tests and demos.

They disagree where the picture is unclear, as people do: at a blurred border the generous and the sparing one part by
its width, at a sharp one by nothing, and an outgrowth is included by those who trust so weak a contrast.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import NamedTuple

import nibabel as nib
import numpy as np
import torch
from scipy.ndimage import distance_transform_edt, gaussian_filter, shift
from torch import Tensor

from monai_ext.phantoms.folder import claim_folder
from monai_ext.raster.nifti import save_nifti

__all__ = ["RATER_STYLES", "RaterStyle", "draw_nested_case", "draw_rater_case", "write_rater_phantoms"]

DRAWING_VERSION = 1  # raise it when the same seed draws another case
FEWEST_PIXELS = 32  # of a side
FEWEST_SLICES = 4
DEPTH = 0.7  # of all slices of a volume together, in shorter sides: the ends of some cells lie outside
HAND = 0.15  # standard deviation, from case to case, of a rater's margin and trust


class RaterStyle(NamedTuple):
    """How one rater outlines; lengths are fractions of the shorter side of the picture.

    Attributes:
        name: of the style.
        margin: distance of the outline outwards from the middle of the border, in widths of the border's blur.
        smoothing: standard deviation of the Gaussian that rounds the outline; fine outgrowths go with it.
        shift: (down, right), of the whole outline.
        raggedness: amplitude of a wobble that is new in each case.
        faintest: contrast, as a share of the body's, below which an outgrowth is left out.
    """

    name: str
    margin: float = 0.0
    smoothing: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)
    raggedness: float = 0.0
    faintest: float = 0.5


RATER_STYLES = (
    RaterStyle("over-drawing", margin=0.8, faintest=0.2),
    RaterStyle("under-drawing", margin=-0.8, faintest=0.85),
    RaterStyle("smoothing", smoothing=0.05),
    RaterStyle("shifted", shift=(0.03, 0.03)),
    RaterStyle("ragged", raggedness=0.012),
)


def draw_rater_case(
    size: Sequence[int] = (128, 128), *, seed: int | Sequence[int] = 0, styles: Sequence[RaterStyle] = RATER_STYLES
) -> tuple[Tensor, Tensor]:
    """A picture of one bright cell, uint8 (1, *size), and its outline by each rater, uint8 (R, *size) of 0/1.

    With a third number in `size` it is a volume (H, W, D) of round cells and thick slices. The same size, seed (a
    non-negative integer or several) and styles give the same case; picture and other outlines stay as they are where
    styles are added at the end. Everybody outlines something, about 5 % to 37 % of a square.

    Raises:
        ValueError: a side of `size` is below 32 pixels, where the styles do not differ, there are fewer than 4 slices,
            or no style is given.
    """
    cell = _cell(size, seed, styles)
    masks = np.stack([cell.outline(style) for style in styles])
    return torch.from_numpy(cell.photograph())[None], torch.from_numpy(masks.astype(np.uint8))


def draw_nested_case(
    size: Sequence[int] = (128, 128), *, seed: int | Sequence[int] = 0, styles: Sequence[RaterStyle] = RATER_STYLES
) -> tuple[Tensor, Tensor]:
    """The cell of `draw_rater_case` with a brighter nucleus, and the outlines of both, uint8 (R, 2, *size) of 0/1.

    The nucleus, a quarter to a half as wide as the cell, lies inside of it for each rater, and everybody outlines both.

    Raises:
        ValueError: as `draw_rater_case`.
    """
    cell = _cell(size, seed, styles)
    cell.add_nucleus()
    masks = np.stack([np.stack([outline := cell.outline(style), cell.nucleus_outline(style, outline)])
                      for style in styles])  # fmt: skip
    return torch.from_numpy(cell.photograph())[None], torch.from_numpy(masks.astype(np.uint8))


def _cell(size: Sequence[int], seed: int | Sequence[int], styles: Sequence[RaterStyle]) -> _Cell:
    sides = tuple(int(side) for side in size)
    if len(sides) not in (2, 3) or min(sides[:2]) < FEWEST_PIXELS or min(sides[2:], default=99) < FEWEST_SLICES:
        raise ValueError(
            f"size is {tuple(size)}: draw_rater_case needs at least {FEWEST_PIXELS} pixels a side, and of a volume "
            f"{FEWEST_SLICES} slices."
        )
    if not styles:
        raise ValueError("styles is empty: give at least one RaterStyle.")
    return _Cell(sides, np.random.default_rng(seed))


def write_rater_phantoms(
    output_dir: str | os.PathLike, *, count: int = 64, size: Sequence[int] = (128, 128), seed: int = 0, tasks: int = 1
) -> int:
    """Write `Training/case01/{image,task01_seg01 ... task01_seg05}.nii.gz`, a data set for `qubiq_items`.

    With two tasks the cells have a nucleus, whose outlines are `task02_seg01.nii.gz` and so on, see `draw_nested_case`.

    With three numbers in `size` the cases are volumes, see `draw_rater_case`.

    Every case has an affine of its own: pixels of 0.5 to 1.5 mm (slices farther apart), mirrored, turned and shifted
    axes. `phantoms.json` beside them names the styles: {"raters": {"1": "over-drawing", ...}, ...}. Case i depends on
    seed, size and i alone. Cases that are complete are kept, so an interrupted call is resumed, and a larger `count`
    adds to what is there. Every file appears complete or not at all.

    Returns:
        The number of cases now in the folder: `count`, or more if an earlier call wrote more.

    Raises:
        ValueError: the folder holds phantoms of another seed, size or number of tasks, `count` is below 1, or `tasks`
            is neither 1 nor 2.
    """
    if tasks not in (1, 2):
        raise ValueError(f"tasks is {tasks}: cells have one structure, or two with their nucleus.")
    raters = {str(number): style.name for number, style in enumerate(RATER_STYLES, 1)}
    settings = {"size": [int(side) for side in size], "seed": seed, "drawing": DRAWING_VERSION, "raters": raters}
    if tasks > 1:
        settings["tasks"] = tasks
    folder = claim_folder(output_dir, settings, count=count)
    names = [f"task{task:02d}_seg{number:02d}.nii.gz" for number in range(1, len(RATER_STYLES) + 1)
             for task in range(1, tasks + 1)] + ["image.nii.gz"]  # fmt: skip
    for index in range(count):
        case = folder / "Training" / f"case{index + 1:02d}"
        if all((case / name).exists() for name in names):
            continue
        image, masks = (draw_rater_case if tasks == 1 else draw_nested_case)(size, seed=(seed, index))
        affine = _affine(np.random.default_rng((seed, index, 1)))
        if len(size) == 3:
            affine[:, 2] *= slice_step(size)
        for name, values in zip(names, [*masks.reshape(-1, *image.shape[1:]).numpy(), image[0].numpy()], strict=True):
            picture = nib.Nifti1Image(values, affine)
            picture.header.set_xyzt_units("mm")
            save_nifti(picture, case / name)
    return len(list((folder / "Training").glob("case*/image.nii.gz")))


def slice_step(size: Sequence[int]) -> float:
    """Distance of the slices of a volume (H, W, D), in pixels."""
    return DEPTH * min(size[:2]) / size[2]


class _Cell:
    """A cell and its outgrowths as distances to their borders, positive inside; lengths in shorter sides."""

    def __init__(self, size: tuple[int, ...], rng: np.random.Generator):
        height, width = size[:2]
        self.side, self.rng = min(height, width), rng
        self.is_volume = len(size) == 3
        self.steps = np.array([1, 1, slice_step(size)] if self.is_volume else [1, 1])  # between neighbours, in pixels
        y, x, *z = np.mgrid[tuple(slice(side) for side in size)].astype(np.float32)
        self.y, self.x = (y + 0.5) / self.side, (x + 0.5) / self.side
        self.z = [DEPTH * ((part + 0.5) / size[2] - 0.5) for part in z]  # from the middle; empty of a picture
        centre = np.array([height, width]) / self.side / 2 + rng.uniform(-0.08, 0.08, 2)
        self.radius = rng.uniform(0.17, 0.27)
        self.hand_seed = rng.integers(2**32, size=4).tolist()
        # Of the border, differing along it; no wider than lets the sparing raters find a core of the cell.
        self.blur = np.clip(0.022 * np.exp(0.75 * self.noise(0.35)), 0.006, 0.055)
        self.body = self._lobed(centre)
        self.outgrowths = [self._outgrowth(centre) for _ in range(rng.integers(0, 4))]  # (distance, contrast)
        self.nucleus: np.ndarray | None = None

    def noise(self, grain: float) -> np.ndarray:
        """Smooth noise (*size), mean 0 and variance 1, with structures of about the size `grain`."""
        return self._smoothed(self.rng, grain / 2.5, mode="wrap")

    def _smoothed(self, rng: np.random.Generator, width: float, *, mode: str) -> np.ndarray:
        """White noise under a Gaussian of this width, of variance 1."""
        white = rng.standard_normal(self.y.shape, dtype=np.float32)
        sigma = width * self.side
        smooth = gaussian_filter(white, sigma / self.steps, mode=mode)
        return smooth / smooth.std() if self.is_volume else smooth * np.float32(2 * np.sqrt(np.pi) * sigma)

    def _lobed(self, centre: np.ndarray) -> np.ndarray:
        """Distance to the border r(angle), a Fourier series of a few lobes."""
        down, right = self.y - centre[0], self.x - centre[1]
        distance, angle = _length(down, right, *self.z) + 1e-6, np.arctan2(down, right)
        border = np.ones_like(distance)
        for lobes in range(2, 7):
            border += self.rng.normal(0, 0.22 / lobes) * np.cos(lobes * angle + self.rng.uniform(0, 2 * np.pi))
        inside = self.radius * np.clip(border, 0.5, 1.6) - distance
        inner, outer = (distance_transform_edt(part, sampling=self.steps) for part in (inside > 0, inside <= 0))
        depth = inner - outer
        return ((depth - 0.5 * np.sign(depth)) / self.side).astype(np.float32)  # the border is half-way between pixels

    def _outgrowth(self, centre: np.ndarray) -> tuple[np.ndarray, float]:
        """A round-ended arm out of the body, and its contrast as a share of the body's."""
        angle = self.rng.uniform(0, 2 * np.pi)
        direction = np.array([np.sin(angle), np.cos(angle)])
        steep = self.rng.uniform(-0.7, 0.7) if self.is_volume else 0.0
        length, half_width = self.rng.uniform(0.10, 0.18), self.rng.uniform(0.03, 0.055)
        down, right = self.y - centre[0], self.x - centre[1]
        along = np.clip(down * direction[0] + right * direction[1], 0, self.radius + length)
        across = [part - along * steep for part in self.z]
        distance = half_width - _length(down - along * direction[0], right - along * direction[1], *across)
        return distance.astype(np.float32), float(self.rng.uniform(0.15, 1.0))

    def outline(self, style: RaterStyle) -> np.ndarray:
        """What a rater of this style marks, bool (*size)."""
        hand = self._hand(style.name)
        faintest = style.faintest + 0.5 * HAND * hand.standard_normal()
        inside = self.body
        for distance, contrast in self.outgrowths:
            if contrast >= faintest:
                inside = np.maximum(inside, distance)
        if style.margin:
            inside = inside + style.margin * (1 + HAND * hand.standard_normal()) * self.blur
        if style.raggedness:
            inside = inside + style.raggedness * self._smoothed(hand, 0.012, mode="reflect")
        if any(style.shift):
            pixels = [self.side * (step + 0.005 * hand.standard_normal()) for step in style.shift]
            inside = shift(inside, [*pixels, *[0] * len(self.z)], order=1, mode="nearest")
        if style.smoothing:
            return gaussian_filter((inside > 0).astype(np.float32), style.smoothing * self.side / self.steps) > 0.5
        return inside > 0

    def add_nucleus(self) -> None:
        """Draw a nucleus in the cell, near its deepest point; chance is the cell's own, the cell stays as it is."""
        rng = np.random.default_rng([*self.hand_seed, *b"nucleus"])
        deepest = np.unravel_index(self.body.argmax(), self.body.shape)
        down, right = self.y - self.y[deepest], self.x - self.x[deepest]
        turn, flat = rng.uniform(0, np.pi), rng.uniform(1.0, 1.35)
        along, across = down * np.sin(turn) + right * np.cos(turn), down * np.cos(turn) - right * np.sin(turn)
        radius = rng.uniform(0.4, 0.6) * self.body.max()
        beyond = [part - part[deepest] for part in self.z]
        self.nucleus = (radius - _length(along / flat, across * flat, *beyond)).astype(np.float32)
        self.nucleus_light = rng.uniform(0.12, 0.25)

    def nucleus_outline(self, style: RaterStyle, outline: np.ndarray) -> np.ndarray:
        """The nucleus as a rater of this style marks it, bool (*size), inside of the same rater's outline of the cell.

        Margins and shifts are half as wide as those of the cell; nobody draws it smoothed or ragged.
        """
        if self.nucleus is None:
            raise ValueError("the cell has no nucleus: call add_nucleus first.")
        hand = self._hand(f"{style.name} nucleus")
        inside = self.nucleus + 0.5 * style.margin * (1 + HAND * hand.standard_normal()) * self.blur
        if any(style.shift):
            pixels = [0.5 * self.side * step for step in style.shift]
            inside = shift(inside, [*pixels, *[0] * len(self.z)], order=1, mode="nearest")
        inside = inside + 0.004 * hand.standard_normal()
        found = (inside > 0) & outline
        return found if found.any() else outline & (inside == inside[outline].max())

    def _hand(self, name: str) -> np.random.Generator:
        """The chance in one rater's hand: that of the case, whoever else looks at it."""
        return np.random.default_rng([*self.hand_seed, *name.encode()])

    def photograph(self) -> np.ndarray:
        """The picture, uint8 (*size): uneven light, a grainy cell, specks that are no part of it, noise."""
        rng = self.rng
        share = _soft(self.body / self.blur)
        for distance, contrast in self.outgrowths:
            share = np.maximum(share, contrast * _soft(distance / np.minimum(self.blur, 0.02)))
        tilt = rng.uniform(0, 2 * np.pi)
        light = 0.30 + 0.10 * (np.cos(tilt) * (self.y - 0.5) + np.sin(tilt) * (self.x - 0.5)) + 0.03 * self.noise(0.3)
        light = light + rng.uniform(0.25, 0.45) * share * (1 + 0.08 * self.noise(0.05))
        if self.nucleus is not None:
            light = light + self.nucleus_light * share * _soft(self.nucleus / (0.5 * self.blur))
        for _ in range(rng.integers(2, 6)):
            y, x = rng.uniform(0, [self.y.max(), self.x.max()])
            distance = (self.y - y) ** 2 + (self.x - x) ** 2
            for part in self.z:
                distance = distance + (part - rng.uniform(-DEPTH / 2, DEPTH / 2)) ** 2
            speck = np.exp(-distance / rng.uniform(0.008, 0.02) ** 2)
            light = light + rng.uniform(-0.15, 0.2) * speck
        light = light + 0.02 * rng.standard_normal(light.shape, dtype=np.float32)
        return (255 * np.clip(light, 0, 1) + 0.5).astype(np.uint8)


def _length(first: np.ndarray, second: np.ndarray, *third: np.ndarray) -> np.ndarray:
    return functools.reduce(np.hypot, third, np.hypot(first, second))


def _soft(depth: np.ndarray) -> np.ndarray:
    """0 ... 1 across a border that is one blur wide on either side of its middle; 1/2 on it."""
    ramp = np.clip(0.5 + 0.5 * depth, 0, 1)
    return ramp * ramp * (3 - 2 * ramp)


def _affine(rng: np.random.Generator) -> np.ndarray:
    """A position of the picture in the room, in millimetres: oblique by up to a tenth of a turn, perhaps mirrored."""
    angle = rng.uniform(-np.pi / 5, np.pi / 5)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    axes = np.eye(3)[:, rng.permutation(3)] * rng.choice([-1, 1], 3)
    affine = np.eye(4)
    affine[:3, :3] = turn @ axes * rng.uniform(0.5, 1.5, 3)
    affine[:3, 3] = rng.uniform(-100, 100, 3)
    return affine
