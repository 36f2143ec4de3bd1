"""`python -m monai_ext upscale`: files listed, options passed on, layers of a bundle."""

from __future__ import annotations

import json
import logging
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from range_server import serving_ranges
from torch.nn import functional
from upscaling_toys import (
    HAS_RASTERIO,
    bayesian_bundle,
    cut_into_tiles,
    needs_rasterio,
    noise,
    read,
    repeated,
    repeating,
    save_picture,
    save_raster,
    toy,
    typed,
    waves,
)

from monai_ext.commands.bundles.network import load_bundle_network
from monai_ext.commands.upscaling import upscale as command
from monai_ext.commands.upscaling.upscale import plan_outputs
from monai_ext.handlers.training.weight_digests import weight_digests
from monai_ext.metrics.conformal import Calibration, write_calibration
from monai_ext.raster.remote import content_version
from monai_ext.transforms.degradation import Degradation
from monai_ext.upscaling import Choices, UpscaleError, upscale_file
from monai_ext.upscaling.layers import DEVIATIONS, Layers
from monai_ext.upscaling.upscaler import Upscaler


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    definition = "$torch.nn.Sequential(torch.nn.Conv2d(3, 12, 3, padding=1, bias=False), torch.nn.PixelShuffle(2))"
    config = {"imports": ["$import torch"], "network_def": definition}
    (folder / "configs" / "inference.json").write_text(json.dumps(config))
    torch.save(repeating().state_dict(), folder / "models" / "model.pt")
    return folder


REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def layered(tmp_path_factory) -> Path:
    return bayesian_bundle(tmp_path_factory.mktemp("bundle"))


def test_one_file_may_name_its_output_and_collisions_are_refused(tmp_path):
    for name in ("a.png", "b.webp", "b.png"):
        save_picture(tmp_path / name, noise(3, 4, 4))
    assert plan_outputs([tmp_path / "a.png"], tmp_path / "x.tif") == [(tmp_path / "a.png", tmp_path / "x.tif")]
    assert plan_outputs([tmp_path / "a.png"], tmp_path / "out") == [(tmp_path / "a.png", tmp_path / "out" / "a.png")]
    with pytest.raises(ValueError, match="would both be written to .*b.png"):
        plan_outputs([tmp_path], tmp_path / "out")
    with pytest.raises(ValueError, match="a.png is one of the inputs"):
        plan_outputs([tmp_path / "a.png"], tmp_path)
    with pytest.raises(FileNotFoundError, match="input .*none.png does not exist"):
        plan_outputs([tmp_path / "none.png"], tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no images in .*empty"):
        plan_outputs([tmp_path / "empty"], tmp_path / "out")
    with pytest.raises(ValueError, match="x.xyz is of an unknown kind: choose one of .tif"):
        plan_outputs([tmp_path / "a.png"], tmp_path / "x.xyz")
    assert plan_outputs([tmp_path / "a.png"], tmp_path / "run.v2")[0][1] == tmp_path / "run.v2" / "a.png"
    (tmp_path / "x.xyz").mkdir()
    assert plan_outputs([tmp_path / "a.png"], tmp_path / "x.xyz")[0][1] == tmp_path / "x.xyz" / "a.png"
    with pytest.raises(ValueError, match="b.webp is a file, and the images go to a folder"):
        plan_outputs([tmp_path], tmp_path / "b.webp")


def test_the_command_upscales_a_folder_with_its_subfolders(tmp_path, bundle, caplog, capsys):
    folder, out = tmp_path / "in", tmp_path / "out"
    (folder / "sub").mkdir(parents=True)
    images = {"a.png": noise(3, 10, 12), "sub/b.png": noise(3, 5, 5, seed=1), "sub/c.bmp": noise(3, 6, 7, seed=2)}
    for name, pixels in images.items():
        save_picture(folder / name, pixels)
    (folder / "notes.txt").write_text("no image")
    (folder / "broken.png").write_bytes(b"\x89PNG nothing")
    words = (folder, out, "--bundle", bundle, "--tile", 16, "--overlap", 4, "--device", "cpu", "--jobs", 2)
    with caplog.at_level(logging.CRITICAL), pytest.raises(UpscaleError, match="1 of 4 images could not be upscaled"):
        command.run(typed(*words))
    for name, pixels in images.items():
        np.testing.assert_array_equal(read((out / name).with_suffix(".png")), repeated(pixels))
    assert not (out / "broken.png").exists()
    (folder / "broken.png").unlink()
    assert command.run(typed(*words, "--resume", "--scale", 2)) == 0
    assert "0 of 3 images upscaled 2 times, 3 were there already" in capsys.readouterr().err
    with pytest.raises(ValueError, match="upscales 2 times, not 4"):
        command.run(typed(*words, "--scale", 4))


def test_tiles_of_a_grid_keep_their_names_and_have_each_other_as_context(tmp_path, bundle, capsys, caplog):
    files = cut_into_tiles(tmp_path / "in", waves(32, 32))
    (tmp_path / "in" / "attribution.json").write_text("{}")
    words = ("--bundle", bundle, "--tile", 24, "--overlap", 4, "--device", "cpu")
    assert command.run(typed(tmp_path / "in", tmp_path / "out", *words)) == 0
    assert "4 of 4 images are tiles of a grid: their neighbours are their context" in capsys.readouterr().err
    for file in files:
        np.testing.assert_array_equal(read(tmp_path / "out" / file.relative_to(tmp_path / "in")), repeated(read(file)))
    assert len([path for path in (tmp_path / "out").rglob("*") if path.is_file()]) == 4
    assert command.run(typed(tmp_path / "in", tmp_path / "out", *words, "--resume", "--no_context")) == 0
    assert "4 of 4 images upscaled" in capsys.readouterr().err  # other work than with context
    with pytest.raises(ValueError, match="a.tif: the images are no grid of map tiles"):
        command.run(typed(files[0], tmp_path / "one", *words, "--mosaic", tmp_path / "a.tif"))
    with pytest.raises(ValueError, match="3.4.png: it is one of the images"):
        command.run(typed(tmp_path / "in", tmp_path / "one", *words, "--mosaic", files[0]))
    with pytest.raises(ValueError, match=r"mosaic .*a.png: name a .tif"):
        command.run(typed(tmp_path / "in", tmp_path / "one", *words, "--mosaic", tmp_path / "a.png"))
    for folder in "ab":
        cut_into_tiles(tmp_path / "two" / folder, waves(32, 32))
    with pytest.raises(ValueError, match="a/5/3/4.png and .*b/5/3/4.png would lie at one place"):
        command.run(typed(tmp_path / "two", tmp_path / "one", *words, "--mosaic", tmp_path / "a.tif"))
    assert not (tmp_path / "one").exists()
    for number, file in enumerate(files):
        save_picture(file, noise(3, 16, 16, seed=number))
    command.run(typed(tmp_path / "in", tmp_path / "out", *words))
    assert "4 of 4 images have names of map tiles, but their borders do not fit together" in caplog.text


@pytest.mark.parametrize("south", [False, True])
def test_tiles_are_cut_into_tiles_of_a_deeper_zoom(tmp_path, bundle, capsys, south):
    pixels, words = waves(32, 16), ("--bundle", bundle, "--overlap", 4, "--device", "cpu", "--deeper")
    files = cut_into_tiles(tmp_path / "in", pixels, south=south)
    mosaic = ("--mosaic", tmp_path / "a.tif") if HAS_RASTERIO else ()
    for folder, out in (("in", "out"), ("in/5", "column"))[south:]:
        command.run(typed(tmp_path / folder, tmp_path / out, *words, *mosaic))
        found = sorted((tmp_path / out).rglob("*.png"))
        assert len(found) == 8 and {file.parts[-3] for file in found} == {"6"}
        expected = repeated(pixels)
        for file in found:
            column, row = int(file.parent.name) - 6, int(file.stem) - 8
            top = 16 * (3 - row if south else row)
            np.testing.assert_array_equal(read(file), expected[:, top : top + 16, 16 * column : 16 * column + 16])
        assert not mosaic or np.array_equal(read(tmp_path / "a.tif")[:3], expected)
    found[0].unlink()
    command.run(typed(tmp_path / "in", tmp_path / "column", *words, "--resume"))
    assert "1 of 2 images upscaled 2 times, 1 were there already" in capsys.readouterr().err and found[0].is_file()
    assert {file.suffix for file in (tmp_path / "column").rglob("*") if file.is_file()} == {".png"}
    save_picture(tmp_path / "photo.png", waves(16, 16))
    for source, output, message in (
        (tmp_path / "photo.png", tmp_path / "out", "photo.png is no map tile Z/X/Y.png"),
        (files[0], tmp_path / "one.png", "one.png is a file, and the tiles go to a folder"),
        (save_picture(tmp_path / "5_1_2.png", waves(15, 16)), tmp_path / "out", "cannot be cut into 2 x 2 tiles"),
    ):
        with pytest.raises(ValueError, match=message):
            command.run(typed(source, output, *words))


def test_the_count_of_rows_may_be_given(tmp_path, bundle, capsys):
    files = cut_into_tiles(tmp_path / "in", noise(3, 32, 32))  # whose borders do not fit
    words = (tmp_path / "in", tmp_path / "out", "--bundle", bundle, "--overlap", 4, "--device", "cpu", "--deeper")
    with pytest.raises(ValueError, match="if it is one, --scheme xyz"):
        command.run(typed(*words))
    command.run(typed(*words, "--scheme", "tms"))
    assert "4 of 4 images are tiles of a grid, rows from the south" in capsys.readouterr().err
    np.testing.assert_array_equal(read(tmp_path / "out" / "6" / "6" / "9.png"), repeated(read(files[0]))[:, :16, :16])
    if HAS_RASTERIO:
        save_picture(files[0], waves(16, 20))
        words = (*words, "--scheme", "xyz", "--mosaic", tmp_path / "a.tif")
        with pytest.raises(ValueError, match=r"several sizes, 16 x 16 \(.*\), 20 x 16 \(.*3/4.png\)"):
            command.run(typed(*words))


@needs_rasterio
def test_a_window_of_a_tiff_by_its_address(tmp_path, bundle, capsys):
    (tmp_path / "server").mkdir()
    pixels = waves(64, 64)
    source = save_raster(tmp_path / "server" / "a.tif", pixels)
    words = ("--bundle", bundle, "--overlap", 4, "--device", "cpu", "--window", 8, 4, 20, 30)
    with serving_ranges(tmp_path / "server") as server:
        address = f"{server.url}/a.tif?sig=hidden//x"
        for output in ("out", "b.tif"):
            assert command.run(typed(f"/vsicurl/{address}", tmp_path / output, *words)) == 0
            found = tmp_path / output / "a.tif" if output == "out" else tmp_path / output
            np.testing.assert_array_equal(read(found), repeated(pixels[:, 4:34, 8:28]))
        command.run(typed(address, tmp_path / "b.tif", *words, "--resume"))
        assert "0 of 1 images upscaled 2 times, 1 were there already" in capsys.readouterr().err
        save_raster(source, pixels)
        content_version.cache_clear()
        command.run(typed(address, tmp_path / "b.tif", *words, "--resume"))
    said = capsys.readouterr().err
    assert "1 of 1 images upscaled" in said and "hidden" not in said  # changed on the server
    with pytest.raises(SystemExit):
        typed(address, tmp_path / "out", *words, "--deeper")
    assert "--window or --bbox takes a part of each image: leave out the other" in capsys.readouterr().err


@needs_rasterio
def test_deep_tiles_of_a_grid_have_one_range(tmp_path, bundle, capsys, caplog):
    pixels = waves(16, 32).astype(np.uint16) * 12
    for column in (0, 1):
        file = tmp_path / "in" / "5" / str(column) / "0.tif"
        file.parent.mkdir(parents=True)
        save_raster(file, pixels[..., 16 * column :][..., :16], crs=None, transform=None)
    with caplog.at_level("INFO"):
        command.run(typed(tmp_path / "in", tmp_path / "out", "--bundle", bundle, "--overlap", 4, "--device", "cpu"))
    assert caplog.text.count(f"0 to {pixels.max()} become 0 to 1 (--range LOW HIGH sets them)") == 1
    words = ("--bundle", bundle, "--overlap", 4, "--device", "cpu", "--resume", "--mosaic", tmp_path / "a.tif")
    command.run(typed(tmp_path / "in", tmp_path / "out", *words))
    assert "0 of 2 images upscaled 2 times, 2 were there already" in capsys.readouterr().err
    np.testing.assert_array_equal(read(tmp_path / "a.tif")[:3], repeated(pixels))


def test_a_killed_process_leaves_what_a_second_one_needs_for_the_same_file(tmp_path, bundle):
    """Really killed, by a signal that nobody can catch."""
    config = json.loads((bundle / "configs" / "inference.json").read_text())
    slow = "type('Slow', (torch.nn.Identity,), {'forward': lambda self, image: (time.sleep(0.02), image)[1]})()"
    config["imports"].append("$import time")
    config["network_def"] = config["network_def"][:-1] + f", {slow})"
    (bundle / "configs" / "inference.json").write_text(json.dumps(config))
    source = save_picture(tmp_path / "a.png", noise(3, 1600, 12))
    words = (source, tmp_path / "b.png", "--bundle", bundle, "--tile", 24, "--overlap", 8, "--device", "cpu")
    (tmp_path / "b.png").write_bytes(b"precious")
    child = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "monai_ext", "upscale", *map(str, words)], stderr=subprocess.DEVNULL
    )
    record = tmp_path / ".b.png.partial.json"
    try:
        while not (record.is_file() and json.loads(record.read_text())["strips"] >= 10):  # of 100
            assert child.poll() is None, "it ended before it could be killed"
            time.sleep(0.01)
    finally:
        child.kill()
        child.wait()
    assert child.returncode == -signal.SIGKILL
    assert (tmp_path / "b.png").read_bytes() == b"precious"
    done = json.loads(record.read_text())["strips"]
    assert 10 <= done < 100
    network, identity = load_bundle_network(bundle)
    counted = []
    network.register_forward_hook(lambda module, inputs, output: counted.append(len(inputs[0])))
    choices = Choices(resume=True, identity=identity)
    resumed = Upscaler(network, tile=24, overlap=8)
    assert upscale_file(source, tmp_path / "b.png", upscaler=resumed, choices=choices)
    assert sum(counted) == 1 + 100 - done  # one for the scale
    assert command.run(typed(source, tmp_path / "whole.png", *words[2:])) == 0
    np.testing.assert_array_equal(read(tmp_path / "b.png"), read(tmp_path / "whole.png"))
    assert (tmp_path / "b.png").read_bytes() == (tmp_path / "whole.png").read_bytes()
    assert not list(tmp_path.glob(".*"))


@needs_rasterio
def test_the_command_writes_coherent_consistent_layers_without_seams(tmp_path, layered, caplog):
    import rasterio

    coarse = torch.rand(1, 3, 9, 8, generator=torch.Generator().manual_seed(1))
    smooth = functional.interpolate(coarse, (90, 80), mode="bicubic")
    source = save_raster(tmp_path / "a.tif", (smooth[0].clamp(0, 1) * 200 + 20).round().byte().numpy())
    words = (source, tmp_path / "b.tif", "--bundle", layered, "--tile", 48, "--device", "cpu")
    assert command.run(typed(*words, "--samples", 2, "--bounds", "--uncertainty")) == 0
    assert not caplog.records
    with rasterio.open(tmp_path / "b.tif") as dataset:
        settings = json.loads(dataset.tags()["MONAI_EXT_LAYERS"])
        assert (settings["weight_samples"], settings["latent_samples"]) == (2, 3)  # as calibrated
        names = [name.split(":")[0] for name in dataset.descriptions[::3]]
        layers = dict(zip(names, torch.from_numpy(dataset.read()).unflatten(0, (-1, 3)), strict=True))
    for sample in ("sample 1", "sample 2"):
        gap = Degradation(4).reduce(layers[sample][None] / 255) * 255 - torch.from_numpy(read(source))[None]
        assert gap.square().mean().sqrt() < 0.3  # of 255, across the windows' edges too
    assert (layers["sample 1"] - layers["sample 2"]).abs().mean() > 0.5
    edges = {1: [4 * edge for edge in (18, 36, 54, 72)], 2: [4 * edge for edge in (16, 32, 48, 64)]}
    for name in ("sample 1", "ambiguity", "epistemic", "total"):
        for axis, seams in edges.items():
            steps = layers[name].movedim(axis, -1).diff().abs().double()
            # A step across an edge of windows beside those at the same phase of the scale.
            every = steps[..., 3::4]
            at = torch.tensor([seam // 4 - 1 for seam in seams])
            rest = torch.tensor([i for i in range(8, every.shape[-1] - 8) if i not in at.tolist()])
            ratio = every[..., at].mean() / every[..., rest].mean()
            assert 0.8 < ratio < 1.25, (name, axis, ratio)


def test_the_command_names_what_is_missing_or_does_not_fit(tmp_path, layered, caplog):
    source = save_picture(tmp_path / "a.png", noise(3, 8, 8))
    words = (source, tmp_path / "b.png", "--bundle", layered, "--device", "cpu", "--samples", 1)
    with pytest.raises(ValueError, match="precision 'bf16': samples, bounds and uncertainty are computed in float32"):
        command.run(typed(*words, "--precision", "bf16"))
    with pytest.raises(FileNotFoundError, match="no weights at .*none.pt"):
        command.run(typed(*words, "--weights", tmp_path / "none.pt"))
    assert command.run(typed(*words, "--bounds", "--weight_samples", 1)) == 0
    assert "--weight_samples 1: the bounds were calibrated with 2" in caplog.text
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.png", "a.jpg"):
        save_picture(folder / name, noise(3, 8, 8))
    with pytest.raises(ValueError, match="layers of .*a.jpg and .*a.png would both be written to .*out/a"):
        command.run(typed(folder, tmp_path / "out", *words[2:]))


def test_layers_never_overwrite_an_input(tmp_path, layered):
    """The names of the layers are ours: an earlier result lies where the next one would be written."""
    (tmp_path / "q").mkdir()
    source = save_picture(tmp_path / "q" / "mean.png", noise(3, 8, 8))
    before = source.read_bytes()
    words = ("--bundle", layered, "--device", "cpu", "--samples", 1)
    with pytest.raises(ValueError, match="layers of .*mean.png go to the folder .*q, where the input .*mean.png lies"):
        command.run(typed(source, tmp_path / "q.png", *words))
    with pytest.raises(ValueError, match="output .*q/mean.png is its own input"):
        upscale_file(source, tmp_path / "q.png", upscaler=toy(Layers(samples=1)))
    assert source.read_bytes() == before and [path.name for path in tmp_path.iterdir()] == ["q"]


def test_bounds_need_the_calibration_that_lies_beside_the_weights(tmp_path, layered):
    weights = shutil.copy(layered / "models" / "model.pt", tmp_path)
    source = save_picture(tmp_path / "a.png", noise(3, 8, 8))
    words = (
        source,
        tmp_path / "b.png",
        "--bundle",
        layered,
        "--weights",
        weights,
        "--device",
        "cpu",
        "--bounds",
    )
    with pytest.raises(FileNotFoundError, match=f"no calibration at '{tmp_path}/calibration.json'"):
        command.run(typed(*words))
    shutil.copy(layered / "models" / "calibration.json", tmp_path)
    assert command.run(typed(*words)) == 0


def test_bounds_that_were_calibrated_with_other_weights_are_refused(tmp_path, layered):
    """Half precision makes no other weights of them, in whatever order; one network of an ensemble is another."""
    state = torch.load(layered / "models" / "model.pt", weights_only=True)
    torch.save(state, tmp_path / "a.pt")
    torch.save({name: value.half() for name, value in state.items()}, tmp_path / "half.pt")
    torch.save({name: 1.01 * value for name, value in state.items()}, tmp_path / "b.pt")
    digests = weight_digests([tmp_path / "a.pt", tmp_path / "b.pt"])
    assert digests == weight_digests([tmp_path / "b.pt", tmp_path / "half.pt"]) and len(set(digests)) == 2
    calibration = Calibration("crc", 0.1, None, (1.7,), weight_samples=2, latent_samples=3, weights=digests)
    write_calibration(calibration, tmp_path / "calibration.json")
    source = save_picture(tmp_path / "p.png", noise(3, 8, 8))
    words = (source, tmp_path / "o.png", "--bundle", layered, "--device", "cpu", "--bounds", "--weights")
    assert command.run(typed(*words, tmp_path / "half.pt", "--weights", tmp_path / "b.pt")) == 0
    with pytest.raises(ValueError, match="calibration.json' was made with other weights than .*a.pt, for which"):
        command.run(typed(*words, tmp_path / "a.pt"))


def test_several_weights_make_an_ensemble_whose_disagreement_is_epistemic(tmp_path, layered, caplog):
    certain = tmp_path / "certain"
    shutil.copytree(layered, certain)
    config = certain / "configs" / "inference.json"
    config.write_text(config.read_text().replace('"rate": 0.1', '"rate": 0.0'))
    state = torch.load(certain / "models" / "model.pt", weights_only=True)
    generator = torch.Generator().manual_seed(3)
    other = {name: value + 0.02 * torch.randn(value.shape, generator=generator) for name, value in state.items()}
    files = [certain / f"member_{i}.pt" for i in range(3)]
    for path, content in zip(files, (state, other, state), strict=True):
        torch.save(content, path)
    source = save_picture(tmp_path / "a.png", noise(3, 16, 16))
    spreads = {}
    for name, members in {"one": [0], "alike": [0, 2], "apart": [0, 1]}.items():
        words = [word for i in members for word in ("--weights", files[i])]
        given = ("--bundle", certain, "--device", "cpu", "--uncertainty", "--weight_samples", 2, "--latent_samples", 16)
        assert command.run(typed(source, tmp_path / name / "a.png", *given, *words)) == 0
        spreads[name] = read(tmp_path / name / "a" / "uncertainty.tif").reshape(-1, 3, 64, 64)
    assert len(spreads.pop("one")) == len(DEVIATIONS) - 1  # one set of certain weights has no such part
    assert caplog.text.count("no epistemic layer: a single network of deterministic weights has no such part") == 1
    epistemic = {name: found[DEVIATIONS.index("epistemic")] for name, found in spreads.items()}
    assert epistemic["apart"].mean() > 3 * epistemic["alike"].mean()  # which is what chance leaves
    squares = {name: np.square(spreads["apart"][DEVIATIONS.index(name)]) for name in DEVIATIONS}
    np.testing.assert_allclose(squares.pop("total"), sum(squares.values()), rtol=1e-3, atol=1e-3)


def test_several_weights_of_a_network_with_one_answer_are_refused(tmp_path):
    weights = [word for _ in range(2) for word in ("--weights", REPOSITORY / "bundles/srgan_aerial/models/model.pt")]
    source = save_picture(tmp_path / "a.png", noise(3, 8, 8))
    words = (source, tmp_path / "b.png", "--bundle", REPOSITORY / "bundles/srgan_aerial", "--device", "cpu", *weights)
    with pytest.raises(ValueError, match="2 files of weights, but GatedSRNet is deterministic.*give --weights once"):
        command.run(typed(*words))


def test_realism_mixes_the_weights_of_the_adversarial_stage_into_the_image(tmp_path, bundle):
    save_picture(tmp_path / "a.png", noise(3, 8, 8) // 2)
    state = {name: 2 * value for name, value in repeating().state_dict().items()}
    torch.save(state, bundle / "models" / "adversarial.pt")
    for realism in ("0", "0.5"):
        words = (tmp_path / "a.png", tmp_path / f"{realism}.png", "--bundle", bundle, "--realism", realism)
        command.run(typed(*words))
    plain, mixed = (read(tmp_path / f"{realism}.png").astype(float) for realism in ("0", "0.5"))
    assert np.abs(mixed - 1.5 * plain).max() <= 1 and plain.max() > 100
