"""The viewers in Chromium: zoom, keys, sliders and aligned panels, on a desk and on a phone."""

from __future__ import annotations

import numpy as np
import pytest
from browser import chromium, opened
from viewer_pages import scene

from monai_ext.commands.scoring.rater_viewer_page import RaterScene, rater_viewer_page
from monai_ext.commands.upscaling.viewer_page import viewer_page
from monai_ext.upscaling.layers import DEVIATIONS

HIGH, WIDE = 32, 48

BRIGHT = """panel => {  // columns and rows of what is bright in a panel, as shares of its sides
  const {data} = panel.getContext("2d").getImageData(0, 0, panel.width, panel.height), xs = [], ys = [];
  for (let at = 0; at < panel.width * panel.height; at++)
    if (data[4 * at] > 200) {
      xs.push(at % panel.width / panel.width);
      ys.push(Math.floor(at / panel.width) / panel.height);
    }
  return [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
}"""


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page whose pictures have one bright part each, at the same place."""
    bright = np.full((3, HIGH, WIDE), 0.1)
    bright[:, 12:20, 20:32] = 1
    layers = {name: bright for name in ("mean", "sample 1", "sample 2", "lower", "upper")}
    layers |= {name: (bright - 0.1) * 0.1 for name in DEVIATIONS}
    path = tmp_path_factory.mktemp("page") / "viewer.html"
    path.write_text(viewer_page(scene(layers=layers, low_res=bright[:, ::4, ::4]), title="t"), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def rater_page(tmp_path_factory):
    """Two cases of three slices, two raters, two samples; in slice k the raters differ by k columns."""
    volume = np.zeros((HIGH, WIDE, 3), np.uint8)
    masks = {"rater 1": volume.copy(), "rater 2": volume.copy()}
    for place in range(3):
        masks["rater 1"][4:12, 4 : 16 + place, place] = 1
        masks["rater 2"][4:12, 4:16, place] = 1
    sets = {"sample 1": masks["rater 1"], "sample 2": masks["rater 2"]}
    image = np.full((1, *volume.shape), 90, np.uint8)
    cases = [
        RaterScene(name, image, masks, sets, slices=(5, 6, 7), depth=9, scores={"dice": dice})
        for name, dice in (("a", 0.9), ("b", 0.8))
    ]
    path = tmp_path_factory.mktemp("page") / "raters.html"
    path.write_text(rater_viewer_page(cases, title="t"), encoding="utf-8")
    return path


def settled(shown) -> None:
    shown.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def zoom(shown) -> int:
    settled(shown)
    return int(shown.inner_text("#zoom").removesuffix(" %"))


def places(shown) -> np.ndarray:
    """(panels, 4): where the bright part is in each panel."""
    settled(shown)
    return np.array([panel.evaluate(BRIGHT) for panel in shown.locator(".panel").element_handles()])


@pytest.mark.parametrize("width", [1280, 390])
def test_all_pictures_are_zoomed_and_moved_together(browser, page, width):
    with opened(browser, page, width=width) as shown:
        shown.wait_for_selector("#rows tr")
        whole = places(shown)
        np.testing.assert_allclose(whole[0], [20 / 48, 32 / 48, 12 / 32, 20 / 32], atol=0.02)
        fitted = zoom(shown)
        box = shown.locator("#image").bounding_box()
        shown.mouse.move(box["x"] + box["width"] * 0.42, box["y"] + box["height"] * 0.38)  # its upper left corner
        shown.mouse.wheel(0, -300)
        assert zoom(shown) > 1.5 * fitted
        near = places(shown)
        np.testing.assert_allclose(near[:, [0, 2]], np.tile([0.42, 0.38], (3, 1)), atol=0.03)
        np.testing.assert_allclose(near, np.tile(near[0], (3, 1)), atol=0.01)
        shown.keyboard.press("1")
        assert zoom(shown) == 100
        shown.keyboard.press("0")
        assert zoom(shown) == fitted
        assert shown.evaluate("document.documentElement.scrollWidth") <= width  # wide parts scroll in their own box
        boxes = [panel.bounding_box() for panel in shown.locator(".panel").element_handles()]
        assert len({(each["width"], each["height"]) for each in boxes}) == 1
        assert boxes[0]["y"] == boxes[1]["y"]


def test_two_fingers_zoom_and_one_tap_marks_a_pixel(browser, page):
    with opened(browser, page, width=390) as shown:
        shown.wait_for_selector("#rows tr")
        fitted, box = zoom(shown), shown.locator("#low").bounding_box()
        place = _at(shown, "#low", column=30, row=20)
        x, y = box["x"] + place["x"], box["y"] + place["y"]
        shown.touchscreen.tap(x, y)
        assert shown.inner_text("#where") == "Pixel in row 20, column 30"
        fingers = shown.context.new_cdp_session(shown)
        for kind, apart in (("touchStart", 20), ("touchMove", 30), ("touchMove", 60), ("touchEnd", None)):
            points = [] if apart is None else [{"x": x - apart, "y": y, "id": 0}, {"x": x + apart, "y": y, "id": 1}]
            fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        assert zoom(shown) > 2 * fitted


def test_keys_move_the_mark_and_the_slider_over_samples(browser, page):
    with opened(browser, page, scheme="dark") as shown:
        shown.wait_for_selector("#rows tr")
        assert shown.inner_text("#where") == "Pixel in row 16, column 24"
        shown.focus("#map")
        for key in ("ArrowRight", "ArrowUp", ".", "."):
            shown.keyboard.press(key)
        assert shown.inner_text("#where") == "Pixel in row 15, column 25"
        assert shown.inner_text("#name") == "sample 2" and shown.input_value("#number") == "2"
        shown.keyboard.press(",")
        assert shown.inner_text("#name") == "sample 1"
        background = "getComputedStyle(document.body).backgroundColor"
        dark = shown.evaluate(background)
        shown.check("#theme-light")
        assert shown.evaluate(background) == "rgb(255, 255, 255)" != dark


def test_raters_samples_slices_and_cases_are_chosen_by_keys(browser, rater_page):
    with opened(browser, rater_page) as shown:
        shown.wait_for_selector("#where:not(:empty)")
        assert shown.inner_text("#slice") == "slice 8 of 9"  # where the raters differ most
        shown.locator("#share").click(position=_at(shown, "#share", column=17, row=6))
        assert "marked by 1 of 2 raters (rater 1), disagreement 0.25" in shown.inner_text("#where")
        assert "uncertainty 0.25; marked by 1 of 2 samples" in shown.inner_text("#where")
        shown.keyboard.press("PageUp")
        assert "marked by 0 of 2 raters" in shown.inner_text("#where")
        shown.keyboard.press("r")
        assert shown.inner_text("#rater") == "rater 1"
        for _ in range(3):
            shown.keyboard.press(".")
        assert shown.inner_text("#sample") == "sample 2"
        shown.keyboard.press("n")
        shown.wait_for_url("**#b")
        shown.select_option("#sort", "dice")
        assert shown.locator("#cases option").all_inner_texts() == ["b, 0.80", "a, 0.90"]
        shown.keyboard.press("n")
        shown.wait_for_url("**#a")


def _at(shown, panel: str, *, column: int, row: int) -> dict[str, float]:
    box = shown.locator(panel).bounding_box()
    return {"x": (column + 0.5) / WIDE * box["width"], "y": (row + 0.5) / HIGH * box["height"]}
