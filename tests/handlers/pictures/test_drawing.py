"""Contours, heat maps and grids."""

from __future__ import annotations

import numpy as np

from monai_ext.handlers.pictures.drawing import PREDICTION_COLOUR, contour, heat_map, picture_grid


def test_contour_is_drawn_on_the_border_of_the_mask_only():
    mask = np.zeros((12, 12), bool)
    mask[3:9, 3:9] = True
    drawn = contour(np.zeros((12, 12, 3), np.uint8), mask, PREDICTION_COLOUR)
    coloured = (drawn == PREDICTION_COLOUR).all(-1)
    assert coloured[3, 3:9].all() and coloured[8, 3:9].all()
    assert not coloured[5:7, 5:7].any() and not coloured[0].any()


def test_heat_map_brightens_with_probability():
    brightness = heat_map(np.array([[0.0, 0.5, 1.0]])).astype(int).sum(-1)[0]
    assert brightness[0] < brightness[1] < brightness[2]


def test_picture_grid_places_rows_and_columns():
    red, blue = (np.full((2, 3, 3), colour, np.uint8) for colour in ((255, 0, 0), (0, 0, 255)))
    grid = picture_grid([[red, blue], [blue, red]], gap=1)
    assert grid.shape == (5, 7, 3)
    assert tuple(grid[0, 0]) == (255, 0, 0) and tuple(grid[4, 0]) == (0, 0, 255) and tuple(grid[2, 3]) == (255,) * 3


def test_small_pictures_are_shown_at_a_whole_multiple_of_their_size():
    picture = np.zeros((2, 3, 3), np.uint8)
    picture[0, 0] = 9
    grid = picture_grid([[picture, picture]], gap=1, least=5)
    assert grid.shape == (6, 19, 3) and (grid[:3, :3] == 9).all() and (grid[:6, 9] == 255).all()
    assert grid.sum() == 2 * 9 * 9 * 3 + 6 * 255 * 3
