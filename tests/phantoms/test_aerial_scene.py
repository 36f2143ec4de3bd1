"""Layouts of synthetic aerial scenes."""

from __future__ import annotations

import numpy as np

from monai_ext.phantoms.aerial_scene import OVERSAMPLING, Scene


def scene(seed: int = 0, pixel_size_m: float = 0.3) -> Scene:
    return Scene(96, 64, pixel_size_m, np.random.default_rng(seed))


def test_a_seed_gives_one_layout_whose_objects_all_have_a_colour_and_a_surface():
    first, again, other = scene(), scene(), scene(1)
    numbers = np.asarray(first.numbers)
    assert numbers.shape == (96 * OVERSAMPLING, 64 * OVERSAMPLING)
    assert np.array_equal(numbers, again.numbers) and not np.array_equal(numbers, other.numbers)
    assert numbers.max() < len(first.colours) == len(first.surfaces)
    assert len(np.unique(numbers)) > 5 and np.ptp(np.asarray(first.shade)) == 255


def test_what_is_high_throws_a_shadow_away_from_the_sun_and_none_on_itself():
    drawn = scene()
    drawn.shade.paste(0, (0, 0, *drawn.shade.size))
    square = np.array([(-2, -2), (2, -2), (2, 2), (-2, 2)], float)
    drawn.fill(square, drawn.add((0.5, 0.5, 0.5, 0.5)), height_m=3)
    rows, columns = np.nonzero(np.asarray(drawn.shade))
    middle = np.array(drawn.shade.size) / 2
    offset = np.array([columns.mean(), rows.mean()]) - middle
    assert offset @ drawn.sun > 0
    assert np.asarray(drawn.shade)[int(middle[1]), int(middle[0])] == 0
