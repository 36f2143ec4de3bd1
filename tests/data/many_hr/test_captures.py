"""Dates in names and tables, and pictures that speak against them."""

from __future__ import annotations

import pytest
import torch
from many_hr import smooth

from monai_ext.data.isic import DatasetLayoutError
from monai_ext.data.many_hr.captures import add_captures, capture_groups, footprint_and_date, without_chance_years


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
