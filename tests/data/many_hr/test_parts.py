"""The parts of a one-LR-many-HR build alone: measures, dates in names, the search for patches, mosaics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from monai_ext.data.isic import DatasetLayoutError
from monai_ext.data.many_hr.captures import add_captures, capture_groups, footprint_and_date, without_chance_years
from monai_ext.data.many_hr.measures import fitted_psnr, low_res_gaps, observed, operator_matrix
from monai_ext.data.many_hr.plan import turned
from monai_ext.data.many_hr.search import BLOCK, Donors, PatchLibrary, _smallest
from monai_ext.data.many_hr.targets import derived_seed, settle
from monai_ext.transforms.degradation import Degradation

DEGRADATION = Degradation(4)
MATRIX = operator_matrix(DEGRADATION, 64)


def noise(*shape, seed=0):
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def smooth(count, size=64, seed=0):
    """Coloured clouds, uint8 (count, 3, size, size)."""
    field = torch.randn(count, 3, size // 8, size // 8, generator=torch.Generator().manual_seed(seed))
    fine = torch.nn.functional.interpolate(field, (size, size), mode="bicubic", align_corners=False)
    grain = torch.randn(fine.shape, generator=torch.Generator().manual_seed(seed + 1))
    return (128 + 25 * fine + 6 * grain).clamp(0, 255).to(torch.uint8)


def library(windows, groups=None, places=None, **options):
    chosen = {"patch": 8, "patches": 500, "candidates": 5, "seed": 0} | options
    groups = list(range(len(windows))) if groups is None else groups
    return PatchLibrary(windows, groups, places or [0] * len(windows), degradation=DEGRADATION, matrix=MATRIX, **chosen)


def test_the_matrix_is_the_operator_also_with_blur():
    for degradation in (DEGRADATION, Degradation(2, blur=1.0)):
        matrix = operator_matrix(degradation, 32)
        image = noise(2, 3, 32, 32) / 255.0
        assert torch.allclose(matrix @ image.double() @ matrix.T, degradation.reduce(image.double()), atol=1e-12)
        assert torch.allclose(matrix.sum(1), torch.ones(len(matrix), dtype=torch.float64))
    with pytest.raises(ValueError, match="size 30 is no multiple of the scale 4: choose 28"):
        operator_matrix(DEGRADATION, 30)


def test_an_observed_image_is_what_the_degradation_writes_into_8_bits():
    image = noise(3, 64, 64)
    written = Degradation(4, levels=255)(image[None].double() / 255)[0] * 255
    assert torch.equal(observed(MATRIX, image).double(), written.round())


def test_gaps_of_constant_images_are_what_a_pencil_says():
    high_res = torch.stack([torch.full((1, 64, 64), value, dtype=torch.uint8) for value in (10, 13)])
    low_res = torch.full((1, 16, 16), 10, dtype=torch.uint8)
    equal, other = low_res_gaps(MATRIX, high_res, low_res)
    assert equal.largest == pytest.approx(0, abs=1e-9) and equal.psnr == 100 and equal.differing == 0
    assert other.largest == pytest.approx(3) and other.differing == 256
    assert other.psnr == pytest.approx(20 * math.log10(255 / 3))


def test_a_change_of_light_is_fitted_and_a_change_of_scene_is_not():
    image = smooth(1)[0]
    brighter = (image * 0.8 + 30).to(torch.uint8)
    low_res = observed(MATRIX, image)
    light, scene = fitted_psnr(MATRIX, torch.stack([brighter, smooth(1, seed=5)[0]]), low_res)
    assert low_res_gaps(MATRIX, brighter[None], low_res)[0].psnr < 40 < light and scene < 25


@pytest.mark.parametrize(
    ("name", "footprint", "date"),
    [
        ("2017_SJER_002", "SJER_002", "2017"),
        ("SJER_002-2017-06-30", "SJER_002", "2017-06-30"),
        ("m_14_1_20090818_r0c0", "m_14_1_r0c0", "20090818"),
        ("a_2017-05_b", "a_b", "2017-05"),
        ("19_2017_2018", "19_2017_2018", ""),
        ("2017_19_150_200", "19_150_200", "2017"),
        ("OAM-319292-270960-19", "OAM-319292-270960-19", ""),
        ("x20170101", "x20170101", ""),
        ("20171399", "20171399", ""),
        ("2017", "2017", ""),
    ],
)
def test_a_date_is_told_from_the_rest_of_a_name(name, footprint, date):
    assert footprint_and_date(name) == (footprint, date)


def test_tiles_that_differ_in_date_alone_are_captures_of_one_ground():
    names = ["b_2020", "b_2010", "b", "c_2010", "b_2010"]
    items = add_captures([{"id": name, "image": f"{name}.png"} for name in names])
    assert capture_groups(items) == {"b": [2, 1, 0]}


def told(names, table=None):
    items = add_captures([{"id": name, "image": f"{name}.png"} for name in names], table)
    return {item["id"]: (item["footprint"], item["date"]) for item in items}


def test_a_number_that_looks_like_a_year_is_none_where_other_numbers_stand():
    numbers = [f"tile_{number}" for number in (8, 13, 1998, 2009, 12500)]
    own_name = {name: (name, "") for name in numbers}
    assert told(numbers) == own_name
    dated = ["tile_20090818", "tile_2009-08-18", "roof_2010", "2010_roof", "tile_1998_2017", "16_1998_2009"]
    assert told([*numbers, *dated]) == own_name | {
        "tile_20090818": ("tile", "20090818"),
        "tile_2009-08-18": ("tile", "2009-08-18"),
        "roof_2010": ("roof", "2010"),
        "2010_roof": ("roof", "2010"),
        "tile_1998_2017": ("tile_2017", "1998"),  # no other tile of 2017 there
        "16_1998_2009": ("16_1998_2009", ""),
    }
    assert told(["tile_8_2017", "tile_1998_2017"])["tile_1998_2017"] == ("tile_1998", "2017")
    assert told(["tile_1998", "tile_2009", "tile_20100818"])["tile_1998"] == (
        "tile",
        "1998",
    )  # a full date is no number


def judged(names, pictures):
    """Footprints that the pictures leave, in the order of the names."""
    items = add_captures([{"id": name, "image": f"{name}.png"} for name in names])
    sizes = [tuple(picture.shape[1:]) for picture in pictures]
    return [(item["footprint"], item["date"]) for item in without_chance_years(items, sizes, pictures.__getitem__)]


def test_years_of_pictures_that_are_not_alike_are_numbers_and_a_warning_names_them(caplog):
    names = [f"tile_{number}" for number in range(1998, 2010)]
    assert judged(names, smooth(12)) == [(name, "") for name in names]
    (warning,) = caplog.messages
    assert (
        "1 footprint(s) count as numbers" in warning and "tile (12 tiles, 0.0" in warning and "--dates CSV" in warning
    )
    caplog.clear()
    many = [f"{stem}_{year}" for stem in "abcde" for year in (2010, 2020)]
    assert judged(many, smooth(10)) == [(name, "") for name in many]
    (warning,) = caplog.messages
    assert "5 footprint(s)" in warning and "c (2 tiles" in warning and "d (2" not in warning


def test_years_of_one_place_stay_dates_in_spite_of_light_a_cloud_or_an_empty_tile(caplog):
    ground, other = smooth(2)
    bright = (ground * 0.5 + 100 + torch.linspace(0, 20, 64)).to(torch.uint8)
    empty = torch.zeros_like(ground)
    for pictures in ([ground, bright], [bright, other, ground], [ground, empty, bright], [empty, empty]):
        names = ["roof", "roof_2010", "2020_roof"][: len(pictures)]
        assert judged(names, pictures) == [("roof", ""), ("roof", "2010"), ("roof", "2020")][: len(pictures)]
    larger = torch.nn.functional.interpolate(ground[None], size=(96, 98))[0]
    assert judged(["roof_2010", "roof_2020"], [ground, larger]) == [("roof", "2010"), ("roof", "2020")]
    assert not caplog.messages


def test_full_dates_and_tables_are_believed_whatever_the_pictures_show(tmp_path):
    pictures = smooth(4)
    full = ["a_20100818", "a_20200818", "a_2011-02-03", "a_2012"]
    assert judged(full, pictures) == [("a", "20100818"), ("a", "20200818"), ("a", "2011-02-03"), ("a_2012", "")]
    table = tmp_path / "dates.csv"
    table.write_text("file,footprint,date\nx.png,roof,2001\ny.png,roof,2004\n")
    items = add_captures([{"id": name, "image": str(tmp_path / f"{name}.png")} for name in "xy"], table)
    assert without_chance_years(items, [(64, 64)] * 2, pictures.__getitem__) == items


def test_a_table_of_dates_overrules_names(tmp_path):
    items = [{"id": name, "image": str(tmp_path / f"{name}.png")} for name in ("a", "b_2010", "c")]
    table = tmp_path / "dates.csv"
    table.write_text("file,footprint,date\na.png,roof,2001-02-03\nc.png,roof,2004\n")
    told = [(item["footprint"], item["date"]) for item in add_captures(items, table)]
    assert told == [("roof", "2001-02-03"), ("b_2010", ""), ("roof", "2004")]
    table.write_text("file,date\na.png,2001\n")
    with pytest.raises(DatasetLayoutError, match="has no column 'footprint': it needs file, footprint, date"):
        add_captures(items, table)


@pytest.mark.parametrize("count", [1, 5, 70])
def test_the_smallest_of_a_row_are_found_without_sorting_it_whole(count):
    values = torch.randn(6, 5 * BLOCK, generator=torch.Generator().manual_seed(count))
    values[0, : 3 * BLOCK] = torch.inf
    values[1] = values[1].sort().values  # all of them in one block, or in few
    smallest, place = _smallest(values, count)
    assert torch.equal(smallest, values.sort(1).values[:, :count]) and torch.equal(values.gather(1, place), smallest)


def test_where_fewer_patches_are_allowed_than_asked_for_the_rest_is_infinitely_far():
    own = library(smooth(3), groups=[0, 0, 1], patches=4, candidates=4)
    matches = own.matches(observed(MATRIX, smooth(3)[0]), group=0, place=0)
    allowed = int((own.tile == 2).sum())
    assert 0 < allowed < 4 and (matches.distance.isfinite().sum(1) == allowed).all() and matches.index.max() < 4


def test_the_nearest_patch_is_found_where_it_was_put():
    windows = smooth(6)
    windows[4] = windows[1]  # the same ground in another group
    own = library(windows, patch=4, patches=40_000, candidates=3)
    matches = own.matches(observed(MATRIX, windows[1]), group=1, place=0)
    inner = torch.zeros(7, 7, dtype=torch.bool)
    inner[1:-1, 1:-1] = True  # patches at the border of a window are not borrowed
    nearest = own.tile[matches.index[:, 0]]
    assert (nearest[inner.flatten()] == 4).all() and matches.distance[inner.flatten(), 0].max() < 1e-3
    assert (matches.distance.diff(dim=1) >= 0).all()
    assert not (own.tile[matches.index] == 1).any()


def test_the_own_place_is_preferred_unless_another_agrees_much_better():
    windows = smooth(6)
    windows[4] = windows[2] = windows[1]
    windows[3] = windows[5] = windows[1] // 2 + 64
    low_res = observed(MATRIX, windows[1])
    options = {"places": [0, 0, 1, 1, 0, 0], "patch": 4, "patches": 40_000, "candidates": 40}
    for groups, found in (([0, 1, 2, 3, 4, 5], 4), ([0, 1, 2, 3, 1, 5], 2)):
        own = library(windows, groups, **options)
        matches = own.matches(low_res, group=1, place=0)
        assert (own.tile[matches.index[24]] == found).all()  # of 7 x 7 patches that in the middle


def test_distances_are_of_all_pixels_in_levels_and_light_counts_a_third():
    own = library(smooth(3), candidates=4)
    low_res = observed(MATRIX, smooth(1, seed=9)[0])
    matches = own.matches(low_res, group=99, place=0)
    for patch, rank in ((0, 0), (4, 2), (8, 3)):
        number = int(matches.index[patch, rank])
        tile, top, left = (int(own.tile[number]), int(own.top[number]), int(own.left[number]))
        row, column = (own.starts[part] for part in divmod(patch, len(own.starts)))
        there = own.low[tile, :, top : top + 8, left : left + 8].float()
        difference = there - low_res[:, row : row + 8, column : column + 8].float()
        light = difference.mean((1, 2), keepdim=True)
        expected = (difference - light).square().mean() + (light / 3).square().mean()
        assert matches.distance[patch, rank].item() == pytest.approx(expected.sqrt().item(), 1e-4)


def test_drawn_donors_are_replayed_keep_off_the_own_group_and_tell_their_distance():
    own = library(smooth(5), groups=[0, 0, 1, 2, 3])
    low_res = observed(MATRIX, smooth(5)[0])
    matches = own.matches(low_res, group=0, place=0)
    draws = [
        own.draw(matches, low_res, group=0, limit=30.0, generator=torch.Generator().manual_seed(seed))
        for seed in (3, 3, 4)
    ]
    assert all(torch.equal(one, other) for one, other in zip(draws[0], draws[1], strict=True))
    assert not torch.equal(draws[0].tile, draws[2].tile)
    assert (draws[0].tile >= 2).all()
    exact = own._distance(own._queries(low_res), (draws[0].tile, draws[0].top, draws[0].left))
    assert torch.allclose(draws[0].distance, exact, atol=1e-3)


def test_a_mosaic_of_the_image_itself_is_the_image():
    windows = smooth(3)
    own = library(windows)
    starts = torch.tensor(own.starts)
    top, left = (grid.flatten() for grid in torch.meshgrid(starts, starts, indexing="ij"))
    donors = Donors(torch.full_like(top, 2), top, left, torch.zeros(len(top)))
    pictures = own.pictures(donors, observed(MATRIX, windows[2]))
    mosaic = own.mosaic(pictures, torch.ones(len(top)))
    assert torch.allclose(mosaic[:3], windows[2].float(), atol=1e-3)
    assert torch.allclose(mosaic[3], torch.ones(64, 64)) and own.mosaic(torch.zeros(len(top))).max() == 0
    hidden = DEGRADATION.null_space(windows[2:].double() / 255)[0] * 255
    assert (own.mosaic(own.details(donors)) - hidden).abs().max() <= 0.5 + 1e-3


def test_borrowed_pictures_take_the_light_of_the_image():
    windows = smooth(3)
    windows[1] = windows[0] - 20
    own = library(windows)
    starts = torch.tensor(own.starts)
    top, left = (grid.flatten() for grid in torch.meshgrid(starts, starts, indexing="ij"))
    low_res = observed(MATRIX, windows[0])
    donors = Donors(torch.ones_like(top), top, left, torch.zeros(len(top)))
    assert torch.allclose(own.mosaic(own.pictures(donors, low_res)), windows[0].float(), atol=0.1)
    distance = own._distance(own._queries(low_res), (donors.tile, top, left))
    assert torch.allclose(distance, torch.tensor(20 / 3), atol=0.1)


def test_a_library_needs_two_grounds_and_an_even_patch():
    with pytest.raises(ValueError, match="at least two of different ground"):
        library(smooth(2), groups=[1, 1])
    with pytest.raises(ValueError, match="patch=7 must be an even number whose half divides 16"):
        library(smooth(2), patch=7)


def test_settled_images_are_near_what_they_were_and_exact():
    target = observed(MATRIX, smooth(1)[0])
    start = smooth(1, seed=3).double() / 255
    settled = settle(start, target.double()[None] / 255, degradation=DEGRADATION)
    (gap,) = low_res_gaps(MATRIX, settled, target)
    assert gap.differing == 0 and gap.psnr > 65
    wanted = DEGRADATION.project(start, target.double()[None] / 255) * 255
    assert (settled - wanted).abs().max() < 0.6  # nothing was cut off: the projection, rounded


def test_stark_images_are_settled_within_the_range():
    stark = (noise(1, 3, 64, 64) > 127).to(torch.uint8) * 255
    target = observed(MATRIX, stark[0])
    settled = settle(noise(2, 3, 64, 64, seed=2) / 255.0, target.double()[None] / 255, degradation=DEGRADATION)
    assert all(gap.psnr > 50 for gap in low_res_gaps(MATRIX, settled, target))


def test_turns_are_the_eight_symmetries_and_reduce_alike():
    image = noise(3, 64, 64)
    seen = {turned(image, turn).numpy().tobytes() for turn in range(8)}
    assert len(seen) == 8
    for turn in range(8):
        assert torch.equal(observed(MATRIX, turned(image, turn)), turned(observed(MATRIX, image), turn))


def test_seeds_fit_into_json_numbers_and_differ():
    seeds = {derived_seed(seed, record, answer) for seed in range(3) for record in range(5) for answer in range(4)}
    assert len(seeds) == 60 and max(seeds) < 2**53
    assert derived_seed(0, 1, 23) != derived_seed(0, 12, 3) and np.float64(max(seeds)) == max(seeds)
