"""Lists of tiles and their places."""

from __future__ import annotations

import logging

import pytest
from tile_files import places_of, tile

from monai_ext.data.isic import DatasetLayoutError
from monai_ext.data.tiles.listing import tile_items
from monai_ext.data.tiles.split import split_by_place


def test_jimutmap_names_form_blocks_of_neighbours(tmp_path):
    for x, y in ((16, 8), (23, 15), (24, 8), (16, 16)):
        tile(tmp_path / f"{x}_{y}.jpg")
    assert places_of(tmp_path) == {"16_8": "x16 y8", "23_15": "x16 y8", "24_8": "x24 y8", "16_16": "x16 y16"}
    assert len(set(places_of(tmp_path, block=1).values())) == 4
    assert len(set(places_of(tmp_path, block=32).values())) == 1


def test_both_spellings_of_an_address_give_the_same_place(tmp_path):
    tile(tmp_path / "a" / "12" / "2443" / "1717.png")
    tile(tmp_path / "12_2443_1718@2x.jpg")
    tile(tmp_path / "b" / "12" / "2448" / "1717.tif")
    places = places_of(tmp_path)
    assert places["a_12_2443_1717"] == places["12_2443_1718@2x"] == "z12 x2440 y1712"
    assert places["b_12_2448_1717"] == "z12 x2448 y1712"


def test_the_folder_itself_may_be_the_zoom_or_the_column(tmp_path):
    tile(tmp_path / "12" / "2443" / "1717.png")
    assert set(places_of(tmp_path / "12").values()) == {"z12 x2440 y1712"}
    assert set(places_of(tmp_path / "12" / "2443").values()) == {"z12 x2440 y1712"}


def test_tiles_of_finer_zooms_belong_to_the_block_they_lie_in(tmp_path):
    tile(tmp_path / "10_511_340.jpg")
    tile(tmp_path / "11_1023_681.jpg")  # its south-eastern quarter
    tile(tmp_path / "13_4095_2727.jpg")  # the south-eastern quarter of that one's
    tile(tmp_path / "13_4096_2727.jpg")  # one tile further east
    places = places_of(tmp_path)
    assert places["10_511_340"] == places["11_1023_681"] == places["13_4095_2727"] == "z10 x504 y336"
    assert places["13_4096_2727"] == "z10 x512 y336"


def test_numbers_that_are_no_address_and_other_names_are_their_own_places(tmp_path):
    for name in ("2_4_1.jpg", "99_1_1.jpg", "roof.jpg", "2021-05-12.png"):
        tile(tmp_path / name)
    places = places_of(tmp_path)
    assert all(name == place for name, place in places.items()) and len(places) == 4


def test_items_are_sorted_and_pass_over_what_is_no_tile(tmp_path):
    for name in ("b.jpg", "sub/c.PNG", "a.tif", ".a-xyz.jpg", ".cache/d.jpg"):
        tile(tmp_path / name)
    (tmp_path / "attribution.json").write_text("{}")
    items = tile_items(tmp_path)
    assert [item["id"] for item in items] == ["a", "b", "sub_c"]
    assert items[2]["image"] == str(tmp_path / "sub" / "c.PNG")


def test_a_manifest_beside_the_folder_gives_the_places(tmp_path):
    for name in ("a.jpg", "b.jpg", "3_3.jpg"):
        tile(tmp_path / "aerial" / name)
    text = 'file,Place\naerial/a.jpg,"Nairobi, Kenya"\naerial/b.jpg,Nepal\naerial/3_3.jpg,Nepal\n'
    (tmp_path / "aerial_manifest.csv").write_text("\ufeff" + text, encoding="utf-8")
    assert places_of(tmp_path / "aerial") == {"a": "Nairobi, Kenya", "b": "Nepal", "3_3": "Nepal"}
    assert places_of(tmp_path / "aerial", manifest=None) == {"a": "a", "b": "b", "3_3": "x0 y0"}


def test_a_manifest_may_name_files_from_the_folder_and_lie_anywhere(tmp_path):
    tile(tmp_path / "tiles" / "x" / "a.jpg")
    manifest = tmp_path / "lists" / "mine.csv"
    manifest.parent.mkdir()
    for content in ("place,filename,n\nhere,x/a.jpg,1\n", "\ufeffplace;filename\r\nhere;x/a.jpg\r\n"):
        manifest.write_text(content, encoding="utf-8")
        assert places_of(tmp_path / "tiles", manifest=manifest) == {"x_a": "here"}


def test_tiles_that_a_manifest_lists_and_the_folder_lacks_are_told(tmp_path, caplog):
    tile(tmp_path / "a.jpg")
    (tmp_path / "manifest.csv").write_text("file,place\na.jpg,here\nb.jpg,here\n")
    with caplog.at_level(logging.WARNING):
        assert len(tile_items(tmp_path)) == 1
    assert "1 tiles of" in caplog.text


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("file,site\na.jpg,here\n", r"has the columns file, site: it needs 'place' and 'file'"),
        ("file,place\nb.jpg,here\n", r"1 of the 1 tiles in .* are not in the manifest .*manifest.csv: a.jpg; add them"),
        ("file,place\na.jpg,\n", r"gives no place for 'a.jpg'"),
        ("", r"has the columns none"),
    ],
)
def test_incomplete_manifests_are_refused(tmp_path, text, sentence):
    tile(tmp_path / "a.jpg")
    (tmp_path / "manifest.csv").write_text(text)
    with pytest.raises(DatasetLayoutError, match=sentence):
        tile_items(tmp_path)


def test_folders_without_clear_tiles_are_refused(tmp_path):
    with pytest.raises(DatasetLayoutError, match="is not a folder of tiles"):
        tile_items(tmp_path / "none")
    with pytest.raises(DatasetLayoutError, match="no tile lies in .*: known are .jpeg .jpg"):
        tile_items(tmp_path)
    tile(tmp_path / "a.jpg")
    tile(tmp_path / "a.png")
    with pytest.raises(DatasetLayoutError, match="two tiles have the id a: .*a.jpg and .*a.png"):
        tile_items(tmp_path)
    with pytest.raises(ValueError, match="block is 0"):
        tile_items(tmp_path, block=0)
    with pytest.raises(DatasetLayoutError, match="manifest .*m.csv of .* does not exist"):
        tile_items(tmp_path, manifest=tmp_path / "m.csv")


def test_a_manifest_may_give_kinds_and_parts(tmp_path):
    for name in "ab":
        tile(tmp_path / f"{name}.jpg")
    (tmp_path / "manifest.csv").write_text("file,place,kind,part\na.jpg,here,town,test\nb.jpg,there,,\n")
    a, b = tile_items(tmp_path)
    assert (a["place"], a["kind"], a["part"]) == ("here", "town", "test") and (b["kind"], b["part"]) == ("", "")
    assert [[item["id"] for item in part] for part in split_by_place([a, b]).values()] == [["b"], ["a"], [], []]
    (tmp_path / "manifest.csv").write_text("file,place,part\na.jpg,here,5\nb.jpg,there,\n")
    with pytest.raises(DatasetLayoutError, match="puts 'a.jpg' into the part '5': choose training, validation, test"):
        tile_items(tmp_path)


def test_a_pattern_takes_places_from_folders_or_names_and_kinds_as_well(tmp_path):
    for name in ("nairobi/a_1.jpg", "nairobi/b_2.jpg", "bern/a_1.jpg"):
        tile(tmp_path / name)
    assert places_of(tmp_path, place_pattern="(?P<place>[^/]+)/") == {
        "nairobi_a_1": "nairobi", "nairobi_b_2": "nairobi", "bern_a_1": "bern",
    }  # fmt: skip
    assert set(places_of(tmp_path, place_pattern=r"(?P<place>[a-z])_\d").values()) == {"a", "b"}
    items = tile_items(tmp_path, place_pattern="(?P<kind>[^/]+)/(?P<place>.)")
    assert [(item["place"], item["kind"]) for item in items] == [("a", "bern"), ("a", "nairobi"), ("b", "nairobi")]
    with pytest.raises(DatasetLayoutError, match="finds no place in 'bern/a_1.jpg': widen the pattern"):
        tile_items(tmp_path, place_pattern="nairobi/(?P<place>.)")
    for pattern, sentence in (("(", "is no regular expression"), ("a", r"has no group \(\?P<place>")):
        with pytest.raises(ValueError, match=sentence):
            tile_items(tmp_path, place_pattern=pattern)
