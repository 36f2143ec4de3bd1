"""`rater_viewer`: cases of a data set with their predictions, pictures and volumes."""

from __future__ import annotations

import numpy as np
import pytest
from scored_folders import write, write_masks
from viewer_pages import data_of, decoded

from monai_ext.commands.command_line import parse_options
from monai_ext.commands.scoring import rater_viewer
from monai_ext.commands.scoring.rater_viewer import RaterViewerOptions, rater_scene
from monai_ext.data.raters.predictions import rater_predictions, rater_truth


def block(width, *, size=(6, 8)):
    mask = np.zeros(size, np.uint8)
    mask[1:4, 1 : 1 + width] = 1
    return mask


@pytest.fixture
def data(tmp_path):
    """Three cases of two raters, a third has marked the first alone; predictions of the first two."""
    for place in (1, 2, 3):
        folder = tmp_path / "cells" / f"case{place}"
        write(folder / "image.nii.gz", np.arange(48).reshape(6, 8))
        write_masks(folder, {1: block(2), 2: block(4)} | ({3: block(6)} if place == 1 else {}))
        if place < 3:
            write_masks(tmp_path / "predicted" / f"case{place}", {1: block(2), 2: block(3)}, kind="sample")
    return tmp_path


def typed(*words: object) -> RaterViewerOptions:
    return parse_options(RaterViewerOptions, [str(word) for word in words]).options


def shown(data, *words: object) -> dict:
    assert rater_viewer.run(typed(data / "cells", data / "page.html", *words)) == 0
    return data_of((data / "page.html").read_text(encoding="utf-8"))


def test_a_page_of_a_data_set_with_its_predictions(data, capsys):
    page = shown(data, "--predictions", data / "predicted")
    assert [case["name"] for case in page["cases"]] == ["case1", "case2"]
    first, second = page["cases"]
    assert first["raters"] == ["rater 1", "rater 2", "rater 3"] and second["raters"] == ["rater 1", "rater 2"]
    assert first["sets"] == ["sample 1", "sample 2"] and page["mean"] == "Share of samples"
    levels = decoded(second["image"])[0]
    assert levels[0, 0] == 0 and levels[-1, -1] == 255
    # the share of samples is 1/2 in three columns and 1 in two: Dice 12/15 with two columns, 18/21 with four
    assert second["dice"] == pytest.approx((12 / 15 + 18 / 21) / 2)
    assert second["agreement"] == pytest.approx(12 / 18)
    assert "Dice of raters with each other 0.67" in second["facts"]
    assert "left out: no folder " in capsys.readouterr().err


def test_cases_are_chosen_and_too_many_left_out_with_a_word(data, capsys):
    assert [case["name"] for case in shown(data, "--cases", "case3")["cases"]] == ["case3"]
    assert len(shown(data, "--most", 2)["cases"]) == 2
    assert "not on the page: case3 (choose by --cases, or raise --most)" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"no case 'case9' with masks in .*: there are case1, case2, case3"):
        shown(data, "--cases", "case9")


def test_a_page_that_no_browser_knows_and_no_case_at_all_are_refused(data):
    with pytest.raises(ValueError, match="give it a name that ends in .html"):
        RaterViewerOptions(data, data / "page")
    with pytest.raises(ValueError, match="most is 0"):
        RaterViewerOptions(data, data / "page.html", most=0)


def test_a_volume_shows_the_slices_that_anybody_marked(tmp_path):
    volume = np.zeros((6, 8, 12), np.uint8)
    masks = {1: volume.copy(), 2: volume.copy()}
    masks[1][1:4, 1:5, 5] = 1
    masks[2][1:4, 1:5, 6] = 1
    write(tmp_path / "data" / "case1" / "image.nii.gz", volume)
    write_masks(tmp_path / "data" / "case1", masks)
    write(tmp_path / "predicted" / "case1" / "task01.nii.gz", (masks[2] * 0.5).astype(np.float32))
    (item,) = rater_truth(tmp_path / "data")[1]
    scene = rater_scene(item, rater_predictions(tmp_path / "predicted", [item]))
    assert list(scene.slices) == list(range(3, 9)) and scene.depth == 12
    assert scene.masks["rater 1"].shape == (6, 8, 6) and scene.masks["rater 1"][2, 2, 2] == 1
    assert scene.probability is not None and scene.probability[2, 2].tolist() == [0, 0, 0, 0.5, 0, 0]
    assert "Slices 4 to 9 are shown" in scene.facts


def test_a_large_picture_is_reduced_and_colour_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(rater_viewer, "LONGEST", 4)
    colour = np.zeros((6, 8, 3), np.uint8)
    colour[..., 0] = np.arange(8)
    write(tmp_path / "case1" / "image.nii.gz", colour)
    write_masks(tmp_path / "case1", {1: block(4), 2: block(4)})
    (alone,) = rater_truth(tmp_path, raters=(1,))[1]
    assert rater_scene(alone).facts == "case1: 6 x 8 pixels. Shown at 1/2 of its size."
    (item,) = rater_truth(tmp_path, anonymous=True)[1]
    scene = rater_scene(item)
    assert scene.image.shape == (3, 3, 4, 1) and scene.image[1:].max() == 0 < scene.image[0].max()
    assert list(scene.masks) == ["mask 1", "mask 2"] and "Shown at 1/2 of its size" in scene.facts
