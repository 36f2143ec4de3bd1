"""The page of samples and uncertainty: all inside one file, read back as it was written, no text executed."""

from __future__ import annotations

import re
import shutil
import subprocess

import numpy as np
import pytest
from viewer_pages import Tags, data_of, decoded, scene

from monai_ext.commands.rendering import render, source
from monai_ext.commands.upscaling.viewer_page import viewer_page
from monai_ext.upscaling.layers import DEVIATIONS

HOSTILE = "</script><script>alert(1)</script>&<img src=x onerror=alert(2)>"


@pytest.mark.parametrize("bands", [1, 3])
def test_values_survive_the_way_through_the_page(bands):
    shown = scene(bands)
    data = data_of(viewer_page(shown, title="t"))
    np.testing.assert_allclose(decoded(data["low_res"]) / 255, shown.low_res, atol=0.5 / 255 + 1e-9)
    for name, layer in shown.layers.items():
        step = data["deviation_step"] if name in DEVIATIONS else 1 / 255
        np.testing.assert_allclose(decoded(data["layers"][name]) * step, layer, atol=step / 2 + 1e-9)
    assert data["deviation_step"] == pytest.approx(max(shown.layers[name].max() for name in DEVIATIONS) / 255)


def test_text_is_shown_and_never_executed():
    page = viewer_page(scene(bands=3, about=HOSTILE, unit=HOSTILE, interval=HOSTILE), title=HOSTILE)
    assert Tags(page).names.count("script") == 2 and "img" not in Tags(page).names
    assert page.count("</script>") == 2
    assert data_of(page)["about"] == HOSTILE
    assert "innerHTML" not in page and "eval(" not in page and "document.write" not in page


def test_the_page_fetches_nothing():
    page = viewer_page(scene(), title="t")
    assert "default-src 'none'" in page.replace("&#x27;", "'")
    assert set(re.findall(r"https?://[^\"' ]*", page)) == {"http://www.w3.org/2000/svg"}  # the name of a language
    assert not [value for value in Tags(page).values if value.startswith(("//", "http", "file"))]


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
@pytest.mark.parametrize("viewer", ["viewer", "rater_viewer"])
def test_its_script_parses(tmp_path, viewer):
    (tmp_path / "page.js").write_text(source("panels.js") + source(f"{viewer}.js"))
    subprocess.run(["node", "--check", str(tmp_path / "page.js")], check=True)


@pytest.mark.parametrize("viewer", ["viewer", "rater_viewer"])
def test_every_part_that_the_script_asks_for_is_there(viewer):
    data = {"about": ""}
    tags = Tags(render(f"{viewer}.html", title="t", data=data, terms={}))
    script = source("panels.js") + source(f"{viewer}.js")
    asked = set(re.findall(r'(?:find|ById|slider|play|panels\.add)\("(\w+)"', script))
    assert asked <= set(tags.values) and len(asked) > 10


def test_scenes_that_a_page_cannot_show_are_refused():
    with pytest.raises(ValueError, match=r"mean \(2, 8, 6\) with bands \['b0', 'b1'\]: a page shows one band or three"):
        viewer_page(scene(bands=2), title="t")
    odd = scene()
    with pytest.raises(ValueError, match=r"layer 'extra' \(3, 2, 2\) must have the shape of the mean, \(3, 8, 6\)"):
        viewer_page(scene(layers=dict(odd.layers) | {"extra": np.zeros((3, 2, 2))}), title="t")
