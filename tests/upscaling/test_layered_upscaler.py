"""Samples, bounds and uncertainty of large images: one noise for all windows, named bands, the same after a kill."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional
from upscaling_toys import (
    ALL,
    NOISE_SD,
    Broken,
    Toy,
    bayesian_bundle,
    needs_rasterio,
    noise,
    read,
    repeated,
    save_picture,
    save_raster,
    typed,
)

from monai_ext.commands.upscaling import upscale as command
from monai_ext.handlers.training.weight_digests import weight_digests
from monai_ext.inferers.tiled import TiledInferer
from monai_ext.metrics.conformal import Calibration, write_calibration
from monai_ext.networks.srresnet import SRResNet
from monai_ext.networks.uncertain_sr import PointSuperResolution
from monai_ext.networks.variational import VariationalConv2d
from monai_ext.raster.info import GeoTags, RasterInfo
from monai_ext.raster.partial_rows import PartialRows
from monai_ext.transforms.degradation import Degradation
from monai_ext.upscaling.counter_noise import CounterNoise
from monai_ext.upscaling.file import Choices, upscale_file
from monai_ext.upscaling.layered_upscaler import LayeredUpscaler, band_labels, layered_info
from monai_ext.upscaling.layers import SPREADS, LayerNetwork, Layers
from monai_ext.upscaling.upscaler import Upscaler

REPOSITORY = Path(__file__).parents[2]


def toy(layers: Layers = ALL, *, bands: int = 3, **choices: object) -> LayeredUpscaler:
    torch.manual_seed(0)
    return LayeredUpscaler(Toy(bands), layers, **({"tile": 24, "overlap": 8, "batch_size": 2} | choices))


# Noise without end

GOLDEN, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
MASK = 2**64 - 1


def splitmix(value: int) -> int:
    """Its finaliser, in Python's integers."""
    value &= MASK
    value = (value ^ (value >> 30)) * FIRST & MASK
    value = (value ^ (value >> 27)) * SECOND & MASK
    return value ^ (value >> 31)


def slow_noise(seed: int, draw: int, channel: int, row: int, column: int) -> float:
    state = splitmix(splitmix(seed + GOLDEN) + draw)
    state = splitmix(state + GOLDEN * (channel + 1))
    state = splitmix(state + GOLDEN * (row + 1))
    state = splitmix(state + GOLDEN * (column + 1))
    first, second = (((state >> shift & 0xFFFFFF) + 0.5) / 2**24 for shift in (40, 8))
    return float(np.sqrt(-2 * np.log(first)) * np.cos(2 * np.pi * second))


def test_noise_is_the_hash_of_its_place_written_out_in_pythons_integers():
    rows, columns = torch.tensor([0, 5, 40_000]), torch.tensor([3, 2**31])
    for seed, draw in ((0, 0), (-3, 7), (2**40, -2)):
        found = CounterNoise(2, seed=seed).at(draw, rows, columns)
        for (c, i, j), value in np.ndenumerate(found.numpy()):
            expected = slow_noise(seed, draw, c, int(rows[i]), int(columns[j]))
            assert value == pytest.approx(expected, abs=2e-6)


def test_noise_is_standard_normal_and_knows_nothing_of_its_neighbours():
    field, places = CounterNoise(2, seed=5), torch.arange(300)
    first, second = (field.at(draw, places, places).double() for draw in (0, 1))
    values = first.flatten().numpy()  # 180,000
    assert abs(values.mean()) < 0.01 and abs(values.std() - 1) < 0.01
    assert stats.kstest(values, "norm").pvalue > 1e-3
    other = CounterNoise(2, seed=6).at(0, places, places).double()
    pairs = [
        (first[:, 1:], first[:, :-1]),
        (first[..., 1:], first[..., :-1]),
        (first[0], first[1]),
        (first, second),
        (first, other),
        (first.square()[..., 1:], first.square()[..., :-1]),
    ]
    for a, b in pairs:
        together = torch.stack([a.flatten(), b.flatten()])
        assert abs(torch.corrcoef(together)[0, 1]) < 5 / together.shape[1] ** 0.5


def test_noise_has_at_least_one_channel():
    with pytest.raises(ValueError, match="channels=0 must be at least 1"):
        CounterNoise(0)


# Layers of a window


def grid(height: int, width: int) -> Tensor:
    return torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"))[None]


def test_layers_are_what_the_network_says_of_the_fields_noise():
    network, low_res = Toy().eval(), torch.rand(1, 3, 9, 8)
    found = LayerNetwork(network, ALL)(low_res, grid(9, 8)).unflatten(1, (-1, 3))  # (1, layers, 3, 18, 16)
    layers = dict(zip(ALL.names, found.unbind(1), strict=True))
    field = CounterNoise(1, seed=0)
    rows, columns = torch.arange(9), torch.arange(8)
    with torch.no_grad():
        for draw in range(2):
            expected = network(low_res, field.at(draw, rows, columns)[None]).clamp(0, 1)
            torch.testing.assert_close(layers[f"sample {draw + 1}"], expected)
        draws = torch.stack([field.at(draw, rows, columns) for draw in range(-6, 0)]).view(1, 3, 2, 1, 9, 8)
        generator = torch.Generator().manual_seed(1)
        parts = network.uncertainty(low_res, weight_samples=3, latent_samples=2, generator=generator, noise=draws)
    torch.testing.assert_close(layers["mean"], parts["mean"])
    for name in SPREADS:
        torch.testing.assert_close(layers[name].square(), parts[name], atol=1e-7, rtol=1e-5)
    assert layers["aleatoric"].allclose(torch.tensor(NOISE_SD))
    assert layers["epistemic"].max() > 0 and layers["ambiguity"].max() > 0
    total = sum(layers[name].square() for name in SPREADS[:3])
    torch.testing.assert_close(total, layers["total"].square(), atol=1e-7, rtol=1e-4)
    torch.testing.assert_close(layers["lower"], (parts["mean"] - 2 * layers["total"]).clamp(0, 1))
    torch.testing.assert_close(layers["upper"], (parts["mean"] + 2 * layers["total"]).clamp(0, 1))


def test_without_bounds_and_uncertainty_the_mean_is_the_plain_answer():
    network, low_res = Toy().eval(), torch.rand(2, 3, 6, 7)
    found = LayerNetwork(network, Layers(samples=1))(low_res, grid(6, 7).expand(2, -1, -1, -1))
    with torch.no_grad():
        torch.testing.assert_close(found[:, :3], network(low_res))


@pytest.mark.parametrize(("mode", "tolerance"), [("halo", 2e-5), ("feather", 0.02)])  # feather hears of window edges
def test_cut_into_windows_all_layers_are_those_of_the_whole(mode, tolerance):
    torch.manual_seed(0)
    network, low_res = LayerNetwork(Toy().eval(), ALL), torch.rand(1, 3, 50, 41)
    whole = network(low_res, grid(50, 41))
    tiled = TiledInferer(20, 6, mode=mode, batch_size=2)(low_res, network, aligned=grid(50, 41))
    inside = (..., slice(4, -4), slice(4, -4))  # at the border one pads and the other mirrors
    torch.testing.assert_close(tiled[inside], whole[inside], atol=tolerance, rtol=0)


def test_samples_of_a_network_without_a_latent_are_draws_of_its_weights_alike_in_all_windows():
    generator = SRResNet(features=4, blocks=1, scale=2, norm=None, conv=VariationalConv2d)
    network = PointSuperResolution(generator).eval()
    low_res = torch.rand(1, 3, 30, 30)
    whole = LayerNetwork(network, Layers(samples=3))(low_res, grid(30, 30))
    tiled = TiledInferer(28, 20)(low_res, LayerNetwork(network, Layers(samples=3)), aligned=grid(30, 30))
    torch.testing.assert_close(tiled[..., 24:-24, 24:-24], whole[..., 24:-24, 24:-24], atol=1e-5, rtol=0)
    samples = whole.unflatten(1, (4, 3))[:, 1:]
    assert (samples[:, 0] - samples[:, 1]).abs().max() > 1e-4


@pytest.mark.parametrize("choices", [{"samples": -1}, {"weight_samples": 0}, {"latent_samples": 0}])
def test_numbers_of_draws_are_checked(choices):
    with pytest.raises(ValueError, match="samples=.* must not be negative, weight_samples=.* must be at least 1"):
        Layers(**choices)


# Files


@needs_rasterio
def test_a_geotiff_gets_every_layer_as_named_bands_with_its_place_kept(tmp_path):
    import rasterio
    from rasterio.enums import ColorInterp

    source = save_raster(tmp_path / "a.tif", noise(3, 30, 41) // 2 + 64)
    with rasterio.open(source, "r+") as dataset:
        dataset.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue]
        dataset.scales, dataset.offsets, dataset.units = (0.1,) * 3, (2.0,) * 3, ("W",) * 3
    upscale_file(source, tmp_path / "b.tif", upscaler=toy())
    with rasterio.open(source) as old, rasterio.open(tmp_path / "b.tif") as new:
        assert new.bounds == old.bounds and new.crs == old.crs and new.res == (0.25, 0.25)
        names = [f"{layer}: {band}" for layer in ALL.names for band in ("red", "green", "blue")]
        assert list(new.descriptions) == names
        assert set(new.dtypes) == {"float32"} and new.interleaving.name == "band"
        assert [colour.name for colour in new.colorinterp[:4]] == ["red", "green", "blue", "undefined"]
        assert new.offsets[0] == 2.0 and new.offsets[-1] == 0.0 and set(new.scales) == {0.1} and new.units[-1] == "W"
        assert new.tags(4)["LAYER"] == "sample 1"
        settings = json.loads(new.tags()["MONAI_EXT_LAYERS"])
        assert settings["weight_samples"] == 3 and settings["bounds"]["multiplier"] == [2.0]
        layers = dict(zip(ALL.names, new.read().reshape(len(ALL.names), 3, 60, 82), strict=True))
    np.testing.assert_allclose(layers["aleatoric"], 255 * NOISE_SD, rtol=1e-4)
    parts = sum(layers[name] ** 2 for name in SPREADS[:3])
    np.testing.assert_allclose(layers["total"] ** 2, parts, rtol=1e-3)
    np.testing.assert_allclose(layers["upper"] - layers["mean"], 2 * layers["total"], atol=1e-2)
    np.testing.assert_allclose(layers["mean"], repeated(read(source)), atol=60)


@needs_rasterio
def test_without_uncertainty_all_bands_stay_whole_numbers_of_the_sources_type(tmp_path):
    import rasterio

    source = save_raster(tmp_path / "a.tif", noise(3, 20, 20, dtype=np.uint16) // 2 + 9000)
    layers = Layers(samples=2)
    upscale_file(source, tmp_path / "b.tif", upscaler=toy(layers), choices=Choices(cog=True))
    with rasterio.open(tmp_path / "b.tif") as dataset:
        assert set(dataset.dtypes) == {"uint16"} and dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert [name.split(":")[0] for name in dataset.descriptions] == [n for n in layers.names for _ in range(3)]
        found = dataset.read()
    np.testing.assert_array_equal(found[:3], repeated(read(source)))
    assert 0 < np.abs(found[3:6].astype(float) - found[:3]).mean() < 6500


@needs_rasterio
@pytest.mark.parametrize("kind", ["nodata", "alpha"])
def test_what_is_missing_is_missing_in_every_layer(tmp_path, kind):
    import rasterio
    from rasterio.enums import ColorInterp

    pixels = np.full((2 if kind == "alpha" else 1, 40, 30), 90, np.uint8)
    pixels[-1, 20:] = 0
    source = save_raster(tmp_path / "a.tif", pixels, nodata=0 if kind == "nodata" else None)
    if kind == "alpha":
        with rasterio.open(source, "r+") as dataset:
            dataset.colorinterp = [ColorInterp.gray, ColorInterp.alpha]
    layers = Layers(samples=1, uncertainty=True, weight_samples=2, latent_samples=2)
    upscale_file(source, tmp_path / "b.tif", upscaler=toy(layers, bands=1))
    with rasterio.open(tmp_path / "b.tif") as dataset:
        found, names = dataset.read(), list(dataset.descriptions)
    if kind == "nodata":
        assert names == layers.names
        assert (found[:, 40:] == 0).all() and (found[:, :40] != 0).all()
    else:
        assert [name for name in names if name in layers.names] == layers.names
        np.testing.assert_array_equal(found[1], repeated(pixels)[1])  # in its place, and as opaque as it was
        assert np.isfinite(found).all()


@needs_rasterio
def test_pictures_become_a_folder_with_a_picture_for_each_layer(tmp_path):
    import rasterio

    pixels = noise(4, 20, 30)
    pixels[3] = 255
    source = save_picture(tmp_path / "scene.png", pixels)
    out = tmp_path / "out"
    assert upscale_file(source, out / "scene.png", upscaler=toy())
    names = ["lower.png", "mean.png", "sample_1.png", "sample_2.png", "uncertainty.tif", "upper.png"]
    assert sorted(path.name for path in (out / "scene").iterdir()) == names
    assert list(out.iterdir()) == [out / "scene"]
    images = {name: np.asarray(Image.open(out / "scene" / f"{name}.png")).astype(int) for name in ("lower", "upper")}
    assert images["lower"].shape == (40, 60, 4) and (images["lower"] <= images["upper"]).all()
    with rasterio.open(out / "scene" / "uncertainty.tif") as dataset:
        assert list(dataset.descriptions) == [f"{n}: {b}" for n in SPREADS for b in ("red", "green", "blue")]
        assert dataset.read(1).mean() == pytest.approx(255 * NOISE_SD, rel=1e-4)
    assert not upscale_file(source, out / "scene.png", upscaler=toy(), choices=Choices(resume=True))


def test_a_label_for_each_band():
    plain = RasterInfo(Path("a"), (1, 1), 3, np.dtype(np.uint8), (None,) * 3)
    assert band_labels(plain) == ("red", "green", "blue")
    assert band_labels(RasterInfo(Path("a"), (1, 1), 1, np.dtype(np.uint8), (None,))) == (None,)
    geo = GeoTags(descriptions=(None, "b & w"), colours=("undefined",) * 2, order=(1, 0), band_tags=({}, {}))
    two = RasterInfo(Path("a"), (1, 1), 2, np.dtype(np.uint8), (None,) * 2, geo=geo)
    assert band_labels(two) == ("b & w", "band 2")
    named = RasterInfo(Path("a"), (1, 1), 1, np.dtype(np.uint8), (None,))
    layers = layered_info(named, ["mean", "total"], dtype=np.dtype(np.float32))
    assert layers.geo.descriptions == ("mean", "total") and layers.bands == 2


@pytest.mark.parametrize("suffix", [pytest.param(".tif", marks=needs_rasterio), ".png"])
def test_a_run_that_broke_off_goes_on_to_the_same_layers_whatever_the_windows(tmp_path, suffix, monkeypatch):
    layers = Layers(samples=2, bounds=ALL.bounds, weight_samples=2, latent_samples=2)
    source = save_picture(tmp_path / "a.png", noise(3, 100, 30))
    upscale_file(source, tmp_path / f"whole{suffix}", upscaler=toy(layers))
    target, calls, append = tmp_path / f"b{suffix}", [], PartialRows.append

    def killed(self: PartialRows, strip: np.ndarray, *, last: bool = False) -> None:
        calls.append(self.path)
        if len(calls) == (4 if suffix == ".tif" else 12):  # in between two files of one strip
            raise Broken
        append(self, strip, last=last)

    with monkeypatch.context() as patch, pytest.raises(Broken):
        patch.setattr(PartialRows, "append", killed)
        upscale_file(source, target, upscaler=toy(layers))
    partials = list(tmp_path.rglob("*.partial.json"))
    assert {json.loads(path.read_text())["strips"] for path in partials} == ({3} if suffix == ".tif" else {2, 3})
    assert upscale_file(source, target, upscaler=toy(layers), choices=Choices(resume=True))
    assert not list(tmp_path.rglob("*.partial*"))
    other = toy(layers, tile=64, overlap=16)
    upscale_file(source, tmp_path / f"other{suffix}", upscaler=other)
    for name in [target] if suffix == ".tif" else sorted((tmp_path / "b").iterdir()):
        relative = name.relative_to(target if suffix == ".tif" else tmp_path / "b")
        found = read(name)
        np.testing.assert_array_equal(found, read(_twin(tmp_path, "whole", suffix, relative)))
        wide = read(_twin(tmp_path, "other", suffix, relative)).astype(int)
        assert np.abs(found - wide).max() <= 1  # a rounding


def _twin(folder: Path, stem: str, suffix: str, relative: Path) -> Path:
    return folder / f"{stem}{suffix}" if suffix == ".tif" else folder / stem / relative


# What does not go together


def test_layers_need_a_network_that_knows_several_answers_and_the_same_bands(tmp_path):
    plain = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2))
    with pytest.raises(ValueError, match="Sequential knows one answer only: samples, bounds and uncertainty need"):
        LayeredUpscaler(plain, ALL)
    with pytest.raises(ValueError, match="no layer is asked for beside the mean"):
        LayeredUpscaler(Toy(), Layers())
    source = save_picture(tmp_path / "a.png", noise(1, 8, 8))
    with pytest.raises(ValueError, match="takes 3 bands and the image has 1: samples and uncertainty need a network"):
        upscale_file(source, tmp_path / "b.png", upscaler=toy(Layers(samples=1)))
    assert isinstance(toy(), Upscaler)


# The command


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return bayesian_bundle(tmp_path_factory.mktemp("bundle"))


@needs_rasterio
def test_the_command_writes_coherent_consistent_layers_without_seams(tmp_path, bundle, caplog):
    import rasterio

    coarse = torch.rand(1, 3, 9, 8, generator=torch.Generator().manual_seed(1))
    smooth = functional.interpolate(coarse, (90, 80), mode="bicubic")
    source = save_raster(tmp_path / "a.tif", (smooth[0].clamp(0, 1) * 200 + 20).round().byte().numpy())
    words = (source, tmp_path / "b.tif", "--bundle", bundle, "--tile", 48, "--device", "cpu")
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
            # A step across an edge of windows beside those at the same phase of the enlargement.
            every = steps[..., 3::4]
            at = torch.tensor([seam // 4 - 1 for seam in seams])
            rest = torch.tensor([i for i in range(8, every.shape[-1] - 8) if i not in at.tolist()])
            ratio = every[..., at].mean() / every[..., rest].mean()
            assert 0.8 < ratio < 1.25, (name, axis, ratio)


def test_the_command_says_what_is_missing_or_does_not_fit(tmp_path, bundle, caplog):
    source = save_picture(tmp_path / "a.png", noise(3, 8, 8))
    words = (source, tmp_path / "b.png", "--bundle", bundle, "--device", "cpu", "--samples", 1)
    with pytest.raises(ValueError, match="--precision bf16: samples, bounds and uncertainty are computed in float32"):
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


def test_layers_never_overwrite_an_input(tmp_path, bundle):
    """The names of the layers are ours: an earlier result lies where the next one would be written."""
    (tmp_path / "q").mkdir()
    source = save_picture(tmp_path / "q" / "mean.png", noise(3, 8, 8))
    before = source.read_bytes()
    words = ("--bundle", bundle, "--device", "cpu", "--samples", 1)
    with pytest.raises(ValueError, match="layers of .*mean.png go to the folder .*q, where the input .*mean.png lies"):
        command.run(typed(source, tmp_path / "q.png", *words))
    with pytest.raises(ValueError, match="output .*q/mean.png is its own input"):
        upscale_file(source, tmp_path / "q.png", upscaler=toy(Layers(samples=1)))
    assert source.read_bytes() == before and [path.name for path in tmp_path.iterdir()] == ["q"]


def test_bounds_need_the_calibration_that_lies_beside_the_weights(tmp_path, bundle):
    weights = shutil.copy(bundle / "models" / "model.pt", tmp_path)
    source = save_picture(tmp_path / "a.png", noise(3, 8, 8))
    words = (source, tmp_path / "b.png", "--bundle", bundle, "--weights", weights, "--device", "cpu", "--bounds")
    with pytest.raises(FileNotFoundError, match=f"no calibration at '{tmp_path}/calibration.json'"):
        command.run(typed(*words))
    shutil.copy(bundle / "models" / "calibration.json", tmp_path)
    assert command.run(typed(*words)) == 0


def test_bounds_that_were_calibrated_with_other_weights_are_refused(tmp_path, bundle):
    """Half precision makes no other weights of them, in whatever order; one network of an ensemble is another."""
    state = torch.load(bundle / "models" / "model.pt", weights_only=True)
    torch.save(state, tmp_path / "a.pt")
    torch.save({name: value.half() for name, value in state.items()}, tmp_path / "half.pt")
    torch.save({name: 1.01 * value for name, value in state.items()}, tmp_path / "b.pt")
    digests = weight_digests([tmp_path / "a.pt", tmp_path / "b.pt"])
    assert digests == weight_digests([tmp_path / "b.pt", tmp_path / "half.pt"]) and len(set(digests)) == 2
    calibration = Calibration("crc", 0.1, None, (1.7,), weight_samples=2, latent_samples=3, weights=digests)
    write_calibration(calibration, tmp_path / "calibration.json")
    source = save_picture(tmp_path / "p.png", noise(3, 8, 8))
    words = (source, tmp_path / "o.png", "--bundle", bundle, "--device", "cpu", "--bounds", "--weights")
    assert command.run(typed(*words, tmp_path / "half.pt", "--weights", tmp_path / "b.pt")) == 0
    with pytest.raises(ValueError, match="calibration.json' was found with other weights than .*a.pt, for which"):
        command.run(typed(*words, tmp_path / "a.pt"))


def test_several_weights_make_an_ensemble_whose_disagreement_is_epistemic(tmp_path, bundle):
    certain = tmp_path / "certain"
    shutil.copytree(bundle, certain)
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
        spreads[name] = read(tmp_path / name / "a" / "uncertainty.tif").reshape(len(SPREADS), 3, 64, 64)
    epistemic = {name: found[SPREADS.index("epistemic")] for name, found in spreads.items()}
    assert not epistemic["one"].any()  # one set of certain weights cannot tell
    assert epistemic["apart"].mean() > 3 * epistemic["alike"].mean()  # which is what chance leaves
    squares = {name: np.square(spreads["apart"][SPREADS.index(name)]) for name in SPREADS}
    np.testing.assert_allclose(squares.pop("total"), sum(squares.values()), rtol=1e-3, atol=1e-3)


def test_several_weights_of_a_network_with_one_answer_are_refused(tmp_path):
    weights = [word for _ in range(2) for word in ("--weights", REPOSITORY / "bundles/srgan_aerial/models/model.pt")]
    source = save_picture(tmp_path / "a.png", noise(3, 8, 8))
    words = (source, tmp_path / "b.png", "--bundle", REPOSITORY / "bundles/srgan_aerial", "--device", "cpu", *weights)
    with pytest.raises(ValueError, match="2 files of weights, but SRResNet knows one answer only.*give --weights once"):
        command.run(typed(*words))
