"""The page that segments in the browser: its parts against Python by Node, the whole against `predict` in Chromium.

The whole needs Chromium, playwright and the npm package onnxruntime-web, whose folder the variable ONNXRUNTIME_WEB
names: `make page_test` fetches it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browser import chromium, opened
from monai.bundle import ConfigParser
from PIL import Image

from monai_ext.commands.bundles.network import load_bundle_network
from monai_ext.commands.bundles.shipped import find_bundle
from monai_ext.commands.exporting.page import (
    RUNTIME_FILES,
    PageOptions,
    _photograph_settings,
    page_of_bundle,
    run,
    runtime_files,
)
from monai_ext.commands.rendering import source
from monai_ext.formulas.regions import paste_region, region_of_interest
from monai_ext.formulas.temperature import tempered
from monai_ext.inferers import TTAInferer
from monai_ext.networks.rater_sampler import SYMMETRIES
from monai_ext.phantoms.lesions import draw_lesion
from monai_ext.transforms import AdaptiveThresholdd, KeepCentralComponentd

WAIT_MS = 300_000
NOTHING = {RUNTIME_FILES[0]: b"var a=1;export{a as env};", RUNTIME_FILES[1]: b""}


def in_node(tmp_path: Path, code: str, **values: object) -> Any:
    """What an expression gives with the worker's functions, and `values` as constants."""
    node = shutil.which("node") or pytest.skip("needs Node.js on the path")
    (tmp_path / "worker.js").write_text(source("segment_worker.js"), encoding="utf-8")
    (tmp_path / "values.json").write_text(json.dumps(values), encoding="utf-8")
    script = f"""
        const fs = require("fs"), vm = require("vm");
        globalThis.onmessage = null;
        vm.runInThisContext(fs.readFileSync("worker.js", "utf8"));
        Object.assign(globalThis, JSON.parse(fs.readFileSync("values.json")));
        console.log(JSON.stringify(vm.runInThisContext({code!r}), (_, v) => ArrayBuffer.isView(v) ? Array.from(v) : v));
    """
    done = subprocess.run([node, "-e", script], capture_output=True, text=True, cwd=tmp_path)
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def picture(tmp_path_factory) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (23, 31, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(noise).resize((310, 437), Image.Resampling.BICUBIC))


def test_pictures_are_resized_as_pillow_does(tmp_path, picture):
    # Where Pillow takes the rows before the columns, roundings between the two differ by one level.
    sizes = [(40, 50), (437, 20), (120, 160), (500, 33)]  # block means in both axes, in one, in none; enlarged
    height, width = picture.shape[:2]
    rgba = np.dstack([picture, np.full((height, width), 255, np.uint8)])
    code = "sizes.map(([h, w]) => resizedPicture(Uint8ClampedArray.from(pixels), height, width, h, w))"
    found = in_node(tmp_path, code, pixels=rgba.ravel().tolist(), height=height, width=width, sizes=sizes)
    for values, size in zip(found, sizes, strict=True):
        expected = Image.fromarray(picture).resize(size[::-1], Image.Resampling.BILINEAR, reducing_gap=3.0)
        difference = np.abs(np.array(values).reshape(*size, 3) - np.asarray(expected, dtype=int))
        assert difference.max() <= (1 if size == (120, 160) else 0)


def test_maps_are_resized_flipped_and_turned_as_pytorch_does(tmp_path):
    maps = torch.rand(2, 11, 17, generator=torch.Generator().manual_seed(0))
    sizes = [(5, 40), (30, 8)]
    code = """({resized: sizes.map(([h, w]) => resized(values, 2, 11, 17, h, w)),
               moved: symmetries.map(([turns, flip]) =>
                 turned(flip ? flipped(values, 2, 11, 17, [1]) : values, 2, 11, 17, turns)),
               both: flipped(values, 2, 11, 17, [0, 1]), regions: centres.map((centre) => regionOf(33, 46, centre))})"""
    centres = [None, (3, 44), (20.5, 17)]
    symmetries = [(symmetry.turns, symmetry.flip) for symmetry in SYMMETRIES]
    found = in_node(tmp_path, f"settings = {{zoom: 3.1}}; {code}", values=maps.ravel().tolist(), sizes=sizes,
                    symmetries=symmetries, centres=centres)  # fmt: skip
    for values, size in zip(found["resized"], sizes, strict=True):
        expected = torch.nn.functional.interpolate(maps[None], size, mode="bilinear", antialias=True)[0]
        torch.testing.assert_close(torch.tensor(values).view(2, *size), expected, rtol=0, atol=1e-6)
    for values, symmetry in zip(found["moved"], SYMMETRIES, strict=True):
        assert torch.equal(torch.tensor(values), symmetry.of(maps[None]).ravel())
    assert torch.equal(torch.tensor(found["both"]), maps.flip(1, 2).ravel())
    assert [tuple(region) for region in found["regions"]] == [region_of_interest((33, 46), 3.1, at) for at in centres]


def test_one_object_is_kept_as_by_the_transform(tmp_path):
    maps = torch.rand(12, 9, 13, generator=torch.Generator().manual_seed(1)).round(decimals=2)
    maps[0] = 0.2
    code = "maps.map((values) => { const map = Float32Array.from(values); keepCentral(map, 9, 13, 0.5); return map; })"
    found = in_node(tmp_path, code, maps=maps.flatten(1).tolist())
    keep = KeepCentralComponentd("pred", threshold=0.5)
    for values, probability in zip(found, maps, strict=True):
        expected = keep({"pred": probability[None]})["pred"][0]
        torch.testing.assert_close(torch.tensor(values).view(9, 13), expected, rtol=0, atol=1e-6)
        assert torch.equal(torch.tensor(values).view(9, 13) > 0.5, expected > 0.5)


@pytest.mark.parametrize("threshold", [0.5, 0.3])
def test_the_threshold_adapts_to_the_outline_as_by_the_transform(tmp_path, threshold):
    row, column = torch.meshgrid(torch.arange(24) - 11.5, torch.arange(30) - 15.0, indexing="ij")
    logits = torch.stack([(7 - torch.hypot(row, column)) / width for width in (0.2, 1.5, 4.0, 20.0)])
    maps = torch.cat([logits.sigmoid(), torch.zeros(1, 24, 30), torch.ones(1, 24, 30), 0.2 * torch.ones(1, 24, 30)])
    transform = AdaptiveThresholdd("pred", threshold=threshold)
    numbers = {name: getattr(transform, name) for name in ("gain", "tolerance", "at_most")}
    code = f"""settings = {{adaptive: {json.dumps(numbers)}}};
        maps.map((values) => {{ const map = Float32Array.from(values); adapt(map, {threshold}); return map; }})"""
    found = torch.tensor(in_node(tmp_path, code, maps=maps.flatten(1).tolist())).view(maps.shape)
    expected = torch.cat([transform({"pred": probability[None]})["pred"] for probability in maps])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert not torch.equal(expected[1:3], maps[1:3])


def test_the_page_has_the_numbers_of_the_config_or_none_where_it_is_off():
    settings = {}
    for on in (True, False):
        parser = ConfigParser()
        parser.read_config(str(find_bundle("lesion_unet") / "configs" / "inference.json"))
        parser.update({"adaptive_threshold": on, "chosen_temperature": 1.0})
        settings[on] = _photograph_settings(parser, TTAInferer())["adaptive"]
    assert settings == {True: {"gain": 4.0, "tolerance": 0.3, "at_most": 3.0}, False: None}


def test_probabilities_are_tempered_as_by_the_formula(tmp_path):
    maps = torch.tensor([0.0, 0.1, 0.5, 0.7, 1.0])
    code = "settings = {temperature: 1.7}; const map = Float32Array.from(values); temper(map); map"
    found = torch.tensor(in_node(tmp_path, code, values=maps.tolist()))
    torch.testing.assert_close(found, tempered(maps, 1.7), rtol=0, atol=1e-6)


def test_what_is_missing_is_named_before_anything_is_fetched(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.setattr("monai_ext.commands.exporting.page.runtime_files", None)
    with pytest.raises(ValueError, match="ONNX needs further packages: pip install onnx"):
        run(PageOptions("lesion_unet", tmp_path))


def test_what_the_page_cannot_do_is_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="srgan_aerial.* by .*: choose one that segments"):
        page_of_bundle(find_bundle("srgan_aerial"), NOTHING)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="no folder of onnxruntime-web"):
        runtime_files(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="npm is not installed"):
        runtime_files(None)
    (tmp_path / "node_modules" / "onnxruntime-web" / "dist").mkdir(parents=True)
    for name in RUNTIME_FILES:
        (tmp_path / "node_modules" / "onnxruntime-web" / "dist" / name).write_bytes(name.encode())
    assert runtime_files(None) == {name: name.encode() for name in RUNTIME_FILES}


# ---- the whole page in a browser


def smaller_bundle(name: str, folder: Path) -> Path:
    """A bundle with less test-time augmentation, which the browser takes long for."""
    shutil.copytree(find_bundle(name), folder / name)
    path = folder / name / "configs" / "inference.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    if name == "lesion_unet":
        config |= {"scales": [0.5, 0.75], "flips": [[2, 3]]}
    path.write_text(json.dumps(config), encoding="utf-8")
    return folder / name


@torch.no_grad()
def by_python(bundle: Path, file: Path, **settings: object) -> dict[str, torch.Tensor]:
    """What inference.json predicts of a picture: maps at its own size."""
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "inference.json"))
    parser.update({"bundle_root": str(bundle), **settings})
    network, _ = load_bundle_network(bundle)
    item = parser.get_parsed_content("preprocessing")({"image": str(file)})
    pred = parser.get_parsed_content("inferer")(item["image"][None], network)
    if isinstance(pred, torch.Tensor):
        done = parser.get_parsed_content("postprocessing")(item | {"pred": pred[0]})
        return {"map": done["probability"][0]}
    place = item["roi"].tolist(), item["original_size"].tolist()
    return {"map": paste_region(pred["probability"][0, 0], *place), "samples": paste_region(pred["samples"][0], *place)}


def wait(shown, *states: str) -> None:
    """Until the page is in one of these states."""
    shown.wait_for_selector(", ".join(f"body[data-state={state}]" for state in states), timeout=WAIT_MS)


def in_browser(browser, page: Path, file: Path, *, click: tuple[float, float] | None = None, then: str = "", **view):
    """The map that the page shows of a picture, pasted into the picture, and what `then` gives."""
    with opened(browser, page, **view) as shown:
        wait(shown, "ready", "error")
        shown.set_input_files("#file", file)
        wait(shown, "done", "error")
        if click:
            shown.evaluate("([row, column]) => looked(row, column)", click)
            wait(shown, "done", "error")
        assert shown.evaluate("document.body.dataset.state") == "done", shown.inner_text("#status")
        map_, region, size, other = shown.evaluate(
            f"[Array.from(found.map), found.region, [canvas.height, canvas.width], {then or 'null'}]"
        )
        assert shown.evaluate("document.documentElement.scrollWidth <= innerWidth")
        top, left, tall, wide = region
        whole = np.zeros(size, np.float32)
        whole[top : top + tall, left : left + wide] = np.reshape(map_, (tall, wide))
        return torch.from_numpy(whole), other


@pytest.fixture(scope="module")
def runtime() -> dict[str, bytes]:
    folder = os.environ.get("ONNXRUNTIME_WEB") or pytest.skip("needs onnxruntime-web: make page_test")
    return runtime_files(Path(folder))


def test_lesions_in_the_browser_are_those_of_predict(tmp_path, runtime):
    bundle = smaller_bundle("lesion_unet", tmp_path)
    image, _ = draw_lesion((150, 200), seed=(0, 0))
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / "lesion.png")  # JPEG is decoded in several ways
    page = tmp_path / "index.html"
    page.write_text(page_of_bundle(bundle, runtime), encoding="utf-8")
    with chromium() as browser:
        found, area = in_browser(
            browser, page, tmp_path / "lesion.png", width=390, then="maskOf().reduce((sum, value) => sum + value, 0)"
        )
    expected = by_python(bundle, tmp_path / "lesion.png")["map"]
    assert (found - expected).abs().max() < 1e-3 and expected.max() > 0.5
    assert area == int((found > 0.5).sum())


def test_samples_in_the_browser_are_those_of_predict(tmp_path, runtime):
    bundle = find_bundle("prob_unet")
    rows, columns = np.mgrid[:90, :120]
    grey = 60 + 120 * np.exp(-(((rows - 40) / 9) ** 2 + ((columns - 70) / 11) ** 2))
    Image.fromarray((grey + np.random.default_rng(0).normal(0, 6, grey.shape)).clip(0, 255).astype(np.uint8)).save(
        tmp_path / "nodule.png"
    )
    page = tmp_path / "index.html"
    page.write_text(page_of_bundle(bundle, runtime), encoding="utf-8")
    then = "found.masks.map((mask) => mask.reduce((sum, value) => sum + value, 0))"
    with chromium() as browser:
        found, areas = in_browser(browser, page, tmp_path / "nodule.png", click=(40, 70), then=then)
    expected = by_python(bundle, tmp_path / "nodule.png", centre=[40, 70])
    assert (found - expected["map"]).abs().max() < 1e-3 and expected["map"].max() > 0.3
    wanted = (expected["samples"] > 0.5).sum((1, 2)).float()
    assert len(set(areas)) > 3
    torch.testing.assert_close(torch.tensor(areas).float(), wanted, rtol=0.02, atol=2)
