"""Points of cases, from an option, a table or a request."""

from __future__ import annotations

import pytest

from monai_ext.data.points import point_of, points_of_request, read_points


def test_tables_in_csv_and_json_have_a_point_for_each_case(tmp_path):
    (tmp_path / "a.csv").write_text("id,row,column\ncase1,3,4.5\ncase2,0,1\n")
    (tmp_path / "b.csv").write_text("id,row,column,slice\ncase1,3,4.5,2\n")
    (tmp_path / "c.json").write_text('{"case1": [3, 4.5]}')
    assert read_points(tmp_path / "a.csv") == {"case1": (3.0, 4.5), "case2": (0.0, 1.0)}
    assert read_points(tmp_path / "b.csv") == {"case1": (3.0, 4.5, 2.0)}
    assert read_points(str(tmp_path / "c.json")) == {"case1": (3.0, 4.5)}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [("a.csv", "id,row\nx,1\n", "column"), ("a.csv", "id,row,column\nx,1,left\n", "line 2: .* are no numbers"),
     ("a.json", '{"x": "left"}', "damaged")],
)  # fmt: skip
def test_a_damaged_table_is_named(name, text, message, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_points(tmp_path / name)


def test_one_point_is_that_of_all_and_a_table_needs_each_case():
    assert point_of([1, 2], "any", dims=2, what="click") == (1.0, 2.0)
    assert point_of(None, "a", dims=2, what="click") is None
    assert point_of({"a": (1, 2, 3)}, "a", dims=3, what="click") == (1.0, 2.0, 3.0)
    with pytest.raises(ValueError, match="--click is a table without the case b"):
        point_of({"a": (1, 2)}, "b", dims=2, what="click")
    with pytest.raises(ValueError, match="give row and column and slice"):
        point_of([1, 2], "a", dims=3, what="click")


def test_clients_of_monai_label_count_columns_first():
    data = {"foreground": [[3, 5, 0]], "background": []}
    assert points_of_request(data, "foreground", photograph=True, dims=2) == [(5.0, 3.0)]
    assert points_of_request(data, "foreground", photograph=False, dims=2) == [(3.0, 5.0)]  # NIfTI has x first
    assert points_of_request(data, "foreground", photograph=False, dims=3) == [(3.0, 5.0, 0.0)]
    assert points_of_request(data, "background", photograph=True, dims=2) == []
