"""Layout of a synthetic aerial scene: streets, houses, halls, fields, water, trees and cars, seen from above.

Everything is a polygon in metres, painted from the ground up into a map of object numbers; each object has a colour
and a surface. What is high throws a shadow on what is lower.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

OVERSAMPLING = 2  # of the maps, for edges that are smooth once averaged
RED_GREEN_BLUE_INFRARED = 4
CIRCLE = np.stack([(math.cos(a), math.sin(a)) for a in np.arange(14) * 2 * math.pi / 14])

# Red, green, blue, near infrared; as they look on a screen.
ASPHALT, CONCRETE, PAINT = (0.36, 0.36, 0.37, 0.33), (0.66, 0.64, 0.60, 0.62), (0.88, 0.88, 0.84, 0.85)
LAWNS = ((0.36, 0.44, 0.25, 0.70), (0.43, 0.46, 0.28, 0.62), (0.54, 0.50, 0.36, 0.52))
CROPS = ((0.30, 0.44, 0.22, 0.76), (0.40, 0.50, 0.26, 0.72), (0.68, 0.62, 0.42, 0.58), (0.52, 0.42, 0.33, 0.46))
SOIL = (0.56, 0.47, 0.37, 0.50)
WATERS = ((0.16, 0.24, 0.27, 0.06), (0.25, 0.33, 0.30, 0.09))
POOL = (0.38, 0.70, 0.76, 0.12)
ROOFS = (
    (0.62, 0.37, 0.30, 0.45), (0.55, 0.34, 0.28, 0.42), (0.45, 0.45, 0.47, 0.42), (0.43, 0.38, 0.34, 0.40),
    (0.72, 0.70, 0.66, 0.66), (0.33, 0.34, 0.37, 0.33),
)  # fmt: skip
FLAT_ROOFS = ((0.74, 0.74, 0.74, 0.70), (0.58, 0.58, 0.58, 0.55), (0.84, 0.83, 0.80, 0.78), (0.50, 0.47, 0.44, 0.46))
CARS = (
    (0.88, 0.88, 0.88, 0.82), (0.15, 0.15, 0.17, 0.15), (0.60, 0.61, 0.63, 0.58), (0.62, 0.16, 0.15, 0.40),
    (0.18, 0.27, 0.48, 0.30), (0.40, 0.41, 0.42, 0.38),
)  # fmt: skip
GLASS = (0.12, 0.14, 0.17, 0.12)
CANOPIES = ((0.20, 0.29, 0.15, 0.62), (0.25, 0.33, 0.17, 0.66), (0.30, 0.34, 0.19, 0.58))


class Surface(NamedTuple):
    """What a surface is like from near; amplitudes are shares of its brightness.

    Attributes:
        cloudiness: of a variation over metres, which a low resolution shows as well.
        grain: of irregular fine texture.
        rows: of regular rows, such as furrows.
        period: of the rows, in pixels.
        angle: across the rows, in radians.
    """

    cloudiness: float = 0.03
    grain: float = 0.02
    rows: float = 0.0
    period: float = 4.0
    angle: float = 0.0


PAVED, GREEN, WATER, LEAVES = Surface(0.03, 0.025), Surface(0.10, 0.06), Surface(0.05, 0.015), Surface(0.05, 0.22)


class Scene:
    """The maps of a scene, and the objects in them.

    Attributes:
        numbers: map of object numbers, mode "I", oversampled.
        shade: map of shadows, mode "L", 255 in shadow.
        colours: red, green, blue, infrared of each object; surfaces: what each is like.
    """

    def __init__(self, height: int, width: int, pixel_size_m: float, rng: np.random.Generator):
        self.rng, self.scale = rng, OVERSAMPLING / pixel_size_m
        self.height_m, self.width_m = height * pixel_size_m, width * pixel_size_m
        canvas = (width * OVERSAMPLING, height * OVERSAMPLING)
        self.numbers, self.shade = Image.new("I", canvas), Image.new("L", canvas)
        self._pen, self._shade_pen = ImageDraw.Draw(self.numbers), ImageDraw.Draw(self.shade)
        self.colours: list[tuple[float, ...]] = []
        self.surfaces: list[Surface] = []
        self.turn = rng.uniform(0, math.pi)  # of the streets
        self._axes = np.array([[math.cos(self.turn), math.sin(self.turn)], [-math.sin(self.turn), math.cos(self.turn)]])
        azimuth = rng.uniform(0, 2 * math.pi)
        self.sun = np.array([math.cos(azimuth), math.sin(azimuth)])
        self.shadow_length = rng.uniform(0.5, 1.3)  # of something one metre high
        self._river: tuple[np.ndarray, float] | None = None  # course (N, 2) and width, metres
        self.add(LAWNS[rng.integers(len(LAWNS))], GREEN)
        self._draw()

    def add(self, colour: Sequence[float] | np.ndarray, surface: Surface = PAVED, *, spread: float = 0.06) -> int:
        """Number of a new object, its colour varied by chance."""
        tint = self.rng.normal(0, min(spread, 0.08) / 4, RED_GREEN_BLUE_INFRARED)
        factor = np.exp(self.rng.normal(0, spread) + tint)
        self.colours.append(tuple(np.clip(np.asarray(colour) * factor, 0.04, 0.94)))
        self.surfaces.append(surface)
        return len(self.colours) - 1

    def pick(self, colours: Sequence[Sequence[float]]) -> Sequence[float]:
        return colours[int(self.rng.integers(len(colours)))]

    def fill(self, outline: np.ndarray, number: int, *, height_m: float = 0.0) -> None:
        """Paint a polygon, (N, 2) in metres along and across the streets; if it is high, its shadow first."""
        points = self._on_canvas(outline)
        size = self.numbers.size
        reach = height_m * self.shadow_length * self.scale
        if (points.max(0) < -reach).any() or (points.min(0) > np.asarray(size) + reach).any():
            return
        if height_m:
            offset = reach * self.sun
            for start, end in zip(points, np.roll(points, -1, axis=0), strict=True):
                self._shade_pen.polygon([*map(tuple, (start, end, end + offset, start + offset))], fill=255)
            self._shade_pen.polygon([*map(tuple, points + offset)], fill=255)
            self._shade_pen.polygon([*map(tuple, points)], fill=0)
        self._pen.polygon([*map(tuple, points)], fill=number)

    def _on_canvas(self, outline: np.ndarray) -> np.ndarray:
        """(N, 2) columns and rows of the canvas."""
        middle = np.array([self.width_m, self.height_m]) / 2
        return ((np.asarray(outline, dtype=np.float64) @ self._axes) + middle) * self.scale

    def _is_wet(self, place: Sequence[float] | np.ndarray) -> bool:
        """Whether a point is in the river."""
        if self._river is None:
            return False
        course, width = self._river
        return np.hypot(*(course - place).T).min() < 0.62 * width

    # --- layout ------------------------------------------------------------------------------------------------------

    def _draw(self) -> None:
        rng = self.rng
        reach = math.hypot(self.height_m, self.width_m) / 2 + 15
        rural = rng.random() < 0.35
        largest = rng.uniform(70, 130) if rural else rng.uniform(45, 90)
        blocks: list[tuple[float, float, float, float]] = []
        streets: list[tuple[int, int, float, float, float, float]] = []  # depth, axis, position, width, from, to
        self._divide((-reach, -reach, reach, reach), largest, rural, 0, blocks, streets)
        for block in blocks:
            self._ground(block, rural=rural)
        if rng.random() < 0.3:
            self._flood(reach)
        for street in sorted(streets, reverse=True):  # the widest last
            self._street(*street, rural=rural)
        for block in blocks:
            self._furnish(block, rural=rural)
        for _ in range(rng.poisson(0.0002 * self.height_m * self.width_m * (2 if rural else 1))):
            self.tree(rng.uniform(-reach, reach, 2), rng.uniform(1.5, 4.5))

    def _divide(self, box: tuple, largest: float, rural: bool, depth: int, blocks: list, streets: list) -> None:
        """Split a box by streets until no side is longer than `largest`."""
        sides = box[2] - box[0], box[3] - box[1]
        axis = int(sides[1] > sides[0])
        if sides[axis] <= largest:
            blocks.append(box)
            return
        width = self.rng.uniform(3, 4.5) if rural and depth else self.rng.uniform(6, 11) / (1 + 0.1 * min(depth, 4))
        cut = box[axis] + sides[axis] * self.rng.uniform(0.35, 0.65)
        streets.append((depth, axis, cut, width, box[1 - axis], box[3 - axis]))
        near, far = list(box), list(box)
        near[2 + axis], far[axis] = cut - width / 2, cut + width / 2
        self._divide(tuple(near), largest, rural, depth + 1, blocks, streets)
        self._divide(tuple(far), largest, rural, depth + 1, blocks, streets)

    def _ground(self, block: tuple, *, rural: bool) -> None:
        rng = self.rng
        if rural and rng.random() < 0.85:
            axis = int(rng.integers(2))
            angle = self.turn + axis * math.pi / 2
            rows = Surface(0.06, 0.06, rows=rng.uniform(0.08, 0.22), period=rng.uniform(3.0, 5.5), angle=angle)
            self.fill(_rectangle(*block), self.add(self.pick(CROPS), rows, spread=0.1))
            self._tramlines(block, axis)
        else:
            self.fill(_rectangle(*block), self.add(self.pick(LAWNS), GREEN, spread=0.1))

    def _tramlines(self, block: tuple, axis: int) -> None:
        """Pairs of wheel tracks through a field, at steps along `axis`."""
        track, step = self.add(SOIL, GREEN), self.rng.uniform(12, 20)
        for position in np.arange(block[axis] + step / 2, block[2 + axis], step):
            for wheel in (position - 0.9, position + 0.9):
                self.fill(_strip(axis, wheel - 0.22, wheel + 0.22, block[1 - axis], block[3 - axis]), track)

    def _flood(self, reach: float) -> None:
        """A winding river."""
        rng = self.rng
        river_width = rng.uniform(8, 30)
        along = np.linspace(-reach, reach, 80)
        bend = sum(
            rng.normal(0, 9 / k) * np.sin(k * along / reach * 2 + rng.uniform(0, 2 * math.pi)) for k in range(1, 5)
        )
        course = np.stack([along, rng.uniform(-0.3, 0.3) * 2 * min(self.height_m, self.width_m) + bend], 1)
        angle = rng.uniform(0, math.pi)
        course = course @ np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        across = np.gradient(course, axis=0)[:, ::-1] * [1, -1]
        across /= np.linalg.norm(across, axis=1, keepdims=True)
        ripples = WATER._replace(rows=0.02, period=rng.uniform(3, 6), angle=rng.uniform(0, math.pi))
        for width, number in (
            (river_width + 3, self.add(SOIL, GREEN)),
            (river_width, self.add(self.pick(WATERS), ripples)),
        ):
            self.fill(np.concatenate([course + across * width / 2, (course - across * width / 2)[::-1]]), number)
        self._river = course, river_width

    def _street(
        self, depth: int, axis: int, position: float, width: float, start: float, end: float, *, rural: bool
    ) -> None:
        rng = self.rng
        unpaved = rural and depth > 0

        if not unpaved:
            pavement = _strip(axis, position - width / 2, position + width / 2, start, end)
            self.fill(pavement, self.add(CONCRETE))
        half = width / 2 - (0 if unpaved else 1.3)
        surface = self.add(SOIL, GREEN) if unpaved else self.add(ASPHALT, PAVED._replace(cloudiness=0.06), spread=0.15)
        self.fill(_strip(axis, position - half, position + half, start, end), surface)
        if unpaved:
            return
        paint = self.add(PAINT)
        for dash in np.arange(start, end, 4.0):
            self.fill(_strip(axis, position - 0.14, position + 0.14, dash, dash + 1.8), paint)
        if rng.random() < 0.5:  # a crossing for pedestrians
            place = rng.uniform(start, end)
            for stripe in np.arange(position - half + 0.3, position + half - 0.4, 1.0):
                self.fill(_strip(axis, stripe, stripe + 0.5, place, place + 3), paint)
        for place in np.arange(start, end, 6.5):
            for side in (-1, 1):
                if rng.random() < 0.3:
                    centre = [position + side * (half - 1.1), place + rng.uniform(-0.5, 0.5)]
                    self.car(centre if axis == 0 else centre[::-1], along=1 - axis)

    def _furnish(self, block: tuple, *, rural: bool) -> None:
        """What stands on a block."""
        kind = self.rng.random()
        if rural:
            if kind < 0.15:
                self._houses(block, density=0.3)
            self._hedge(block)
        elif kind < 0.62:
            self._houses(block, density=0.9)
        elif kind < 0.85:
            self._halls(block)
        else:
            for _ in range(int((block[2] - block[0]) * (block[3] - block[1]) / 90)):
                self.tree(self.rng.uniform(block[:2], block[2:]), self.rng.uniform(1.5, 5))

    def _hedge(self, block: tuple) -> None:
        for place in np.arange(block[0], block[2], 4.0):
            if self.rng.random() < 0.35:
                self.tree((place, block[1] + self.rng.normal(0, 0.6)), self.rng.uniform(1.2, 3))

    def _houses(self, block: tuple, *, density: float) -> None:
        rng = self.rng
        depth = (block[3] - block[1]) / 2
        left = block[0] + 1
        while left + 12 < block[2]:
            lot = rng.uniform(13, 19)
            for front, inwards in ((block[1], 1), (block[3], -1)):
                if rng.random() < density and depth > 14:
                    self._lot(left, min(left + lot, block[2]), front, inwards, depth)
            left += lot

    def _lot(self, left: float, right: float, front: float, inwards: int, depth: float) -> None:
        rng = self.rng
        width, length = rng.uniform(7.5, min(12, right - left - 3)), rng.uniform(7, 12)
        centre = np.array(
            [rng.uniform(left + width / 2 + 1, right - width / 2 - 1), front + inwards * (5 + length / 2)]
        )
        if self._is_wet(centre):
            return
        back = front + inwards * depth
        self.fill(_rectangle(left, front, right, back), self.add(self.pick(LAWNS), GREEN, spread=0.1))
        drive = left + 1.6
        self.fill(_rectangle(drive - 1.4, front, drive + 1.4, front + inwards * 9), self.add(CONCRETE, spread=0.15))
        if rng.random() < 0.6:
            self.car((drive, front + inwards * rng.uniform(2.6, 6.5)), along=1)
        garden = front + inwards * rng.uniform(min(depth, 9 + length), depth + 0.1)
        if rng.random() < 0.15:
            x = rng.uniform(left + 3, right - 3)
            self.fill(_rectangle(x - 2.4, garden - 1.5, x + 2.4, garden + 1.5), self.add(CONCRETE))
            self.fill(_rectangle(x - 1.9, garden - 1, x + 1.9, garden + 1), self.add(POOL, WATER))
        self.roof(centre, width, length, rng.normal(0, 0.04))
        for _ in range(rng.poisson(1.6)):
            y = front + inwards * rng.uniform(min(depth - 1, 8 + length), depth)
            self.tree((rng.uniform(left, right), y), rng.uniform(1.2, 4))

    def _halls(self, block: tuple) -> None:
        """Large flat roofs, and parked cars in front of them."""
        rng = self.rng
        middle = block[0] + (block[2] - block[0]) * rng.uniform(0.4, 0.7)
        self.fill(_rectangle(*block), self.add(ASPHALT, PAVED._replace(cloudiness=0.08), spread=0.15))
        hall = (block[0] + 3, block[1] + 3, middle, block[3] - 3)
        if min(hall[2] - hall[0], hall[3] - hall[1]) > 8 and not self._is_wet(((hall[0] + hall[2]) / 2, hall[1])):
            ribs = Surface(0.03, 0.02, rows=rng.uniform(0, 0.06), period=rng.uniform(3, 5), angle=self.turn)
            self.fill(_rectangle(*hall), self.add(self.pick(FLAT_ROOFS), PAVED), height_m=rng.uniform(5, 12))
            self.fill(_rectangle(*_shrunk(hall, 0.5)), self.add(self.pick(FLAT_ROOFS), ribs))
            for _ in range(rng.poisson((hall[2] - hall[0]) * (hall[3] - hall[1]) / 60)):
                x, y = rng.uniform(np.add(hall[:2], 2), np.subtract(hall[2:], 2))
                a, b = rng.uniform(0.5, 1.6, 2)
                self.fill(_rectangle(x - a, y - b, x + a, y + b), self.add(self.pick(FLAT_ROOFS)), height_m=1.2)
        paint = self.add(PAINT)
        for row in np.arange(middle + 5, block[2] - 5, 16.5):
            for place in np.arange(block[1] + 2, block[3] - 4, 2.6):
                self.fill(_rectangle(row - 2.5, place - 0.1, row + 2.5, place + 0.1), paint)
                if rng.random() < 0.55 and not self._is_wet((row, place)):
                    self.car((row, place + 1.3), along=0)

    # --- things ------------------------------------------------------------------------------------------------------

    def roof(self, centre: np.ndarray, width: float, length: float, turn: float) -> None:
        """A gable or hip roof: faces towards the sun are light, those away from it dark; a ridge, a chimney."""
        rng = self.rng
        colour, height = np.asarray(self.pick(ROOFS)) * np.exp(rng.normal(0, 0.1)), rng.uniform(3.5, 7)
        if width > length:
            turn, width, length = turn + math.pi / 2, length, width
        a, b, hip = width / 2, length / 2, rng.choice([0.0, width / 2.5])
        corners = [(-a, -b), (a, -b), (a, b), (-a, b)]
        low, high = (0, -b + hip), (0, b - hip)
        axes = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])

        def placed(points: Sequence[Sequence[float]]) -> np.ndarray:
            return np.asarray(points) @ axes + centre

        self.fill(placed(corners), self.add(colour), height_m=height)
        sun = axes @ (self._axes @ -self.sun)
        faces = [
            ((-1, 0), [corners[0], low, high, corners[3]]),
            ((1, 0), [corners[1], low, high, corners[2]]),
            ((0, -1), [corners[0], corners[1], low]),
            ((0, 1), [corners[2], corners[3], high]),
        ]
        for normal, face in faces[: 4 if hip else 2]:
            across = self.turn + turn + (math.pi / 2 if normal[0] == 0 else 0)
            tiles = Surface(0.03, 0.06, rows=rng.uniform(0.03, 0.10), period=rng.uniform(2.6, 4.0), angle=across)
            light = 1 + 0.30 * float(np.dot(normal, sun))
            self.fill(placed(face), self.add(colour * light, tiles, spread=0.02))
        ridge = [(-0.18, low[1]), (0.18, low[1]), (0.18, high[1]), (-0.18, high[1])]
        self.fill(placed(ridge), self.add(colour * 1.25))
        if rng.random() < 0.7:
            x, y = rng.uniform(-0.3, 0.3) * width, rng.uniform(-0.3, 0.3) * length
            chimney = [(x - 0.4, y - 0.4), (x + 0.4, y - 0.4), (x + 0.4, y + 0.4), (x - 0.4, y + 0.4)]
            self.fill(placed(chimney), self.add(CONCRETE), height_m=1.5)

    def tree(self, centre: Sequence[float] | np.ndarray, radius: float) -> None:
        """A canopy of several boughs, lit from one side."""
        rng = self.rng
        if self._is_wet(centre):
            return
        colour, lit = np.asarray(self.pick(CANOPIES)), -self.sun @ np.linalg.inv(self._axes)
        boughs = np.asarray(centre) + rng.normal(0, 0.33 * radius, (rng.integers(4, 8), 2))
        sizes = radius * rng.uniform(0.45, 0.75, len(boughs))
        number = self.add(colour * 0.85, LEAVES)
        for bough, size in zip(boughs, sizes, strict=True):
            self.fill(_disc(bough, size), number, height_m=1.6 * radius)
        number = self.add(colour * 1.25, LEAVES)
        for bough, size in zip(boughs, sizes, strict=True):
            self.fill(_disc(bough + 0.25 * size * lit, 0.62 * size), number)

    def car(self, centre: Sequence[float] | np.ndarray, *, along: int) -> None:
        """A car whose length lies along the axis `along`."""
        rng = self.rng
        front, forwards = rng.uniform(2.0, 2.4), rng.choice([-1, 1])
        colour = self.pick(CARS)

        def part(back: float, ahead: float, half: float) -> np.ndarray:
            points = np.array([(back, -half), (ahead, -half), (ahead, half), (back, half)]) * [forwards, 1]
            return (points if along == 0 else points[:, ::-1]) + np.asarray(centre)

        self.fill(part(-front, front, 0.9), self.add(colour), height_m=1.3)
        self.fill(part(0.3, 0.95, 0.75), self.add(GLASS))
        self.fill(part(-1.75, -1.3, 0.7), self.add(GLASS))


def _strip(axis: int, low: float, high: float, start: float, end: float) -> np.ndarray:
    """A rectangle from `low` to `high` along `axis` and from `start` to `end` along the other."""
    return _rectangle(low, start, high, end) if axis == 0 else _rectangle(start, low, end, high)


def _rectangle(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])


def _shrunk(box: tuple, by: float) -> tuple:
    return box[0] + by, box[1] + by, box[2] - by, box[3] - by


def _disc(centre: np.ndarray, radius: float) -> np.ndarray:
    return centre + radius * CIRCLE
