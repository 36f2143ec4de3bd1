"""The page of cases with several raters: masks as bits, slices side by side, text never executed."""

from __future__ import annotations

import numpy as np
import pytest
from viewer_pages import Tags, data_of, decoded

from monai_ext.commands.scoring.rater_viewer_page import RaterScene, rater_viewer_page

HOSTILE = "</script><script>alert(1)</script>&<img src=x onerror=alert(2)>"


def scene(slices: int = 3, **changes: object) -> RaterScene:
    generator = np.random.default_rng(0)
    size = (4, 5, slices)
    usual = {
        "name": "case1",
        "image": generator.integers(0, 255, (1, *size), dtype=np.uint8),
        "masks": {f"rater {n}": generator.integers(0, 2, size, dtype=np.uint8) for n in (1, 2, 4)},
        "sets": {f"sample {n}": generator.integers(0, 2, size, dtype=np.uint8) for n in range(1, 8)},
        "probability": generator.random(size).astype(np.float32),
        "slices": range(slices),
        "depth": slices,
    }
    return RaterScene(**(usual | changes))


def part(picture: np.ndarray, place: int, across: int) -> np.ndarray:
    """A slice of 4 x 5 pixels of the picture of all slices."""
    return picture[..., place // across * 4 :, place % across * 5 :][..., :4, :5]


def test_masks_image_and_probability_survive_the_way_through_the_page():
    shown = scene()
    data = data_of(rater_viewer_page([shown], title="t"))
    (case,) = data["cases"]
    planes = [decoded(url)[0] for url in case["planes"]]
    assert len(planes) == 2  # of ten masks
    for place in range(3):
        for number, mask in enumerate([*shown.masks.values(), *shown.sets.values()]):
            bits = part(planes[number // 8], place, case["across"]) >> (number % 8) & 1
            np.testing.assert_array_equal(bits, mask[..., place])
        image = part(decoded(case["image"]), place, case["across"])
        np.testing.assert_array_equal(image, shown.image[..., place])
        probability = part(decoded(case["probability"])[0], place, case["across"]) / 255
        np.testing.assert_allclose(probability, shown.probability[..., place], atol=0.5 / 255 + 1e-6)
    assert (data["set"], data["mean"], data["raters"]) == ("samples", "Probability", ["rater 1", "rater 2", "rater 4"])


def test_the_slice_of_most_disagreement_is_shown_first_and_one_without_marks_never():
    one = np.zeros((4, 5, 3), np.uint8)
    two = one.copy()
    two[:2, :2, 2] = 1
    data = data_of(rater_viewer_page([scene(masks={"rater 1": one, "rater 2": two})], title="t"))
    assert data["cases"][0]["middle"] == 2
    agreed = data_of(rater_viewer_page([scene(masks={"rater 1": two, "rater 2": two})], title="t"))
    assert agreed["cases"][0]["middle"] == 2


def test_raters_alone_make_a_page_and_samples_alone_are_called_a_share():
    data = data_of(rater_viewer_page([scene(sets={}, probability=None)], title="t"))
    assert not data["cases"][0]["prediction"] and len(data["cases"][0]["planes"]) == 1
    assert data_of(rater_viewer_page([scene(probability=None)], title="t"))["mean"] == "Share of samples"
    with pytest.raises(ValueError, match="at least one case"):
        rater_viewer_page([], title="t")


def test_text_is_shown_and_never_executed():
    hostile = scene(name=HOSTILE, facts=HOSTILE, masks={HOSTILE: np.ones((4, 5, 3))}, scores={"dice": float("nan")})
    page = rater_viewer_page([hostile], title=HOSTILE, about=HOSTILE)
    assert page.count("</script>") == 2 and "img" not in Tags(page).names and "innerHTML" not in page
    assert data_of(page)["cases"][0]["facts"] == HOSTILE and "dice" not in data_of(page)["cases"][0]
