"""The grid of tiles against mercantile, and addresses."""

from __future__ import annotations

import re

import mercantile
import pytest

from monai_ext.data.tiles.grid import NATIONAL_MAP, TileArea, TileSource


@pytest.mark.parametrize(
    ("box", "zoom"),
    [
        ((88.2, 22.4, 88.6, 22.8), 12),
        ((-0.001, -0.001, 0.001, 0.001), 20),
        ((-180, -90, 180, 90), 3),
        ((170, -20, -170, -10), 7),
        (tuple(mercantile.bounds(5, 9, 4)), 4),  # exactly one tile
        ((-180, 84, -179, 90), 6),
    ],
)
def test_areas_have_the_tiles_that_mercantile_gives(box, zoom):
    area = TileArea(*box, zoom=zoom)
    tiles = list(area)
    assert len(tiles) == len(area) == len(set(tiles))
    assert set(tiles) == set(mercantile.tiles(*box, zooms=zoom))


def test_a_box_round_the_world_at_a_low_zoom_has_no_tile_twice():
    tiles = list(TileArea(1, -10, -1, 10, zoom=1))
    assert len(tiles) == len(set(tiles)) == 4


def test_counting_a_huge_area_does_not_list_it():
    assert len(TileArea(-180, -85.0511287, 180, 85.0511287, zoom=24)) == 4**24


def test_a_pixel_of_the_equator_at_zoom_0_is_a_256th_of_it():
    assert TileArea(0, -1, 1, 1, zoom=0).pixel_size_m == pytest.approx(156543.034, abs=1e-3)
    assert TileArea(0, 59, 1, 61, zoom=1).pixel_size_m == pytest.approx(156543.034 / 4, rel=1e-6)  # cos 60 degrees


@pytest.mark.parametrize(
    ("box", "zoom", "sentence"),
    [
        ((88, 23, 89, 22), 5, "bbox 88 23 89 22 is empty: the order is W S E N"),
        ((88, 22, 88, 23), 5, "is empty"),
        ((22.5, 88.2, 22.7, 88.5), 5, "beyond 85.0511 degrees, where tiles end: the order is W S E N"),
        ((88, 22, 189, 23), 5, "leaves the world"),
        ((float("nan"), 22, 89, 23), 5, "not finite"),
        ((88, 22, 89, 23), -1, "zoom is -1: choose a whole number, 0 ... 30"),
        ((88, 22, 89, 23), 31, "zoom is 31"),
    ],
)
def test_wrong_boxes_and_zooms_are_refused_in_a_sentence(box, zoom, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        TileArea(*box, zoom=zoom)


def test_templates_in_xyz_tms_quadkey_and_with_subdomains():
    tile = mercantile.Tile(486, 332, 10)  # the example of mercantile's documentation
    assert TileSource("https://t.org/{z}/{x}/{y}.png").url(tile) == "https://t.org/10/486/332.png"
    assert TileSource("https://t.org/{z}/{x}/{-y}.png").url(tile) == f"https://t.org/10/486/{1023 - 332}.png"
    assert TileSource("https://t.org/a{q}.jpeg?g=1").url(tile) == "https://t.org/a0313102310.jpeg?g=1"
    hosts = {TileSource("http://{s}.t.org/{z}/{x}/{y}", subdomains="01").url(mercantile.Tile(x, 0, 3)) for x in (0, 1)}
    assert hosts == {"http://0.t.org/3/0/0", "http://1.t.org/3/1/0"}
    assert NATIONAL_MAP.url(tile).endswith("/tile/10/332/486")  # row before column


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        ("ftp://t.org/{z}/{x}/{y}", "must begin with http:// or https://"),
        ("https://t.org/{z}/{x}/{y} .png", "without spaces"),
        ("https://t.org/{z}/{x}.png", "must have {z}, {x} and {y} or {-y}, or {q}"),
        ("https://t.org/{z}/{x}/{y}{r}.png", "unknown field {r}"),
        ("https://t.org/{z/{x}/{y}.png", "cannot be understood"),
        ("https://t.org/{z}/{x}/{y}}.png", "cannot be understood"),
    ],
)
def test_wrong_templates_are_refused_in_a_sentence(template, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        TileSource(template)


def test_zoom_0_has_no_quadkey():
    with pytest.raises(ValueError, match="zoom 0 has no quadkey"):
        TileSource("https://t.org/{q}").url(mercantile.Tile(0, 0, 0))


def test_keys_in_templates_are_not_shown():
    assert "s1" not in TileSource("https://t.org/{q}?subscription-key=s1").public_template
