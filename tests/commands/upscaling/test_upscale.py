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
    bayesian_bundle,
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
from monai_ext.handlers.training.weight_digests import weight_digests
from monai_ext.metrics.conformal import Calibration, write_calibration
from monai_ext.raster.remote import content_version
from monai_ext.transforms.degradation import Degradation
from monai_ext.upscaling import Choices, UpscaleError, upscale_file
from monai_ext.upscaling.layers import DEVIATIONS, Layers
from monai_ext.upscaling.upscaler import Upscaler

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def layered(tmp_path_factory) -> Path:
    return bayesian_bundle(tmp_path_factory.mktemp("bundle"))


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
    assert caplog.text.count("no such part; an ensemble has: --weights FILE for each of several trainings") == 1
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
