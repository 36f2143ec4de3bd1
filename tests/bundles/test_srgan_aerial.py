"""The bundle for aerial tiles run as users run it, on a few small synthetic scenes."""

from __future__ import annotations

import io
import json
from functools import partial
from pathlib import Path

import bundle_runs
import numpy as np
import pytest
import torch
from bundle_runs import BUNDLES, rows, sentence_of
from ignite.engine import Events
from monai.utils import set_determinism
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from upscaling_toys import needs_rasterio, noise, read, save_raster

from monai_ext.commands.demo.aerial import aerial_blocks
from monai_ext.commands.demo.page import DemoRun
from monai_ext.commands.html import html_page
from monai_ext.engines import OrthogonalMomentum
from monai_ext.handlers.super_resolution.scores import SuperResolutionTable
from monai_ext.losses import ShiftedCrops
from monai_ext.metrics.super_resolution import peak_signal_to_noise
from monai_ext.networks import DetailDiscriminator, MobileNetV2Encoder, SRDiscriminator
from monai_ext.phantoms.aerial import draw_aerial, write_aerial_phantoms
from monai_ext.transforms import Degradation

BUNDLE = BUNDLES / "srgan_aerial"
SMALL = {"generator_features": 8, "blocks": 1}
TINY = SMALL | {
    "discriminator_features": 4,
    "crop_size": 32,
    "batch_size": 4,
    "pretrain_epochs": 2,
    "adversarial_epochs": 2,
    "val_interval": 1,
    "log_interval": 2,
    "r1_gamma": 1.0,
    "r1_interval": 2,
    "ema_decay": 0.5,
}


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    write_aerial_phantoms(folder, count=20, size=(64, 64))
    return folder


workflow = partial(bundle_runs.workflow, BUNDLE.name)
train = bundle_runs.trainer_of(BUNDLE.name, TINY)


@pytest.fixture(scope="module")
def trained(phantoms, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train(folder, phantoms)
    return folder


@pytest.fixture(scope="module")
def evaluated(trained, phantoms) -> Path:
    run = workflow(["train.json", "evaluate.json"], dataset_dir=str(phantoms), output_dir=str(trained), **TINY)
    run.run()
    return trained / "evaluation"


def test_both_workflows_have_every_property(phantoms, tmp_path):
    for name in ("train.json", "inference.json"):
        run = workflow([name], dataset_dir=str(phantoms), output_dir=str(tmp_path), batch_size=4)
        assert run.check_properties() == [], name


def test_training_leaves_weights_of_both_stages_state_table_record_and_curves(trained):
    names = {path.name for path in trained.iterdir() if path.is_file()}
    weights = {"model.pt", "pretrained.pt", "final.pt", "last.pt"}
    assert names == weights | {"best.json", "epochs.csv", "run.json", "run.log"}
    table = rows(trained / "epochs.csv")
    assert [row["epoch"] for row in table] == ["1", "2", "3", "4"]
    assert {"train_loss", "learning_rate", "val_psnr", "val_ssim", "val_psnr_luma", "val_lr_psnr"} <= set(table[0])
    assert json.loads((trained / "run.json").read_text())["settings"]["training_tiles"] == 14
    best = json.loads((trained / "best.json").read_text())
    assert best["pretrained"]["value"] == pytest.approx(max(float(row["val_psnr"]) for row in table[:2]), abs=1e-5)
    # no perceptual score without weights of a feature network: the latest weights of stage two are taken
    final, model = (torch.load(trained / name, weights_only=True) for name in ("final.pt", "model.pt"))
    assert all(torch.equal(value, model[name]) for name, value in final.items())


def test_tensorboard_has_every_term_rates_scores_and_the_same_triplets_in_every_epoch(trained):
    events = EventAccumulator(str(trained / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    tags = events.Tags()
    terms = ("pixel", "consistency", "lattice", "adversarial", "discriminator", "penalty", "real_score", "fake_score")
    wanted = {f"train/{name}" for name in (*terms, "learning_rate_generator", "learning_rate_discriminator")}
    assert wanted | {"validation/psnr", "validation/ssim", "validation/lr_psnr"} <= set(tags["scalars"])
    assert min(point.step for point in events.Scalars("train/discriminator")) > 2 * 3  # stage two only
    pictures = [_decoded(picture) for picture in events.Images(tags["images"][0])]
    assert len(pictures) == 4
    first, last = pictures[0], pictures[-1]
    assert np.array_equal(first[:, :192], last[:, :192]) and np.array_equal(first[:, -192:], last[:, -192:])
    assert not np.array_equal(first[:, 196:388], last[:, 196:388])


def _decoded(picture) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture.encoded_image_string)))


def test_with_weights_of_a_feature_network_content_loss_and_perceptual_score_join_in(phantoms, tmp_path):
    torch.manual_seed(0)
    torch.save(MobileNetV2Encoder().state_dict(), tmp_path / "features.pt")
    weights = str(tmp_path / "features.pt")
    train(tmp_path / "run", phantoms, feature_weights=weights, pretrain_epochs=1, adversarial_epochs=2)
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert "train/content" in events.Tags()["scalars"]
    table = rows(tmp_path / "run" / "epochs.csv")
    best = json.loads((tmp_path / "run" / "best.json").read_text())["adversarial"]
    assert best["score"] == "val_perceptual"
    assert best["value"] == pytest.approx(min(float(row["val_perceptual"]) for row in table[1:]), abs=1e-6)


def test_a_run_killed_in_stage_two_resumes_to_the_same_weights_and_table(trained, phantoms, tmp_path):
    set_determinism(seed=0)  # as the run does before it builds its networks
    broken = workflow(["train.json"], dataset_dir=str(phantoms), output_dir=str(tmp_path / "run"), **TINY)

    def stop(engine):
        raise KeyboardInterrupt

    broken.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=11), stop)
    with pytest.raises(KeyboardInterrupt):
        broken.run()
    assert (tmp_path / "run" / "last.pt").exists() and not (tmp_path / "run" / "final.pt").exists()
    train(tmp_path / "run", phantoms, resume="true")
    for name in ("final.pt", "pretrained.pt"):
        expected, given = (torch.load(folder / name, weights_only=True) for folder in (trained, tmp_path / "run"))
        assert all(torch.equal(value, given[key]) for key, value in expected.items()), name
    kept = ("epoch", "train_loss", "learning_rate", "val_psnr")
    tables = [
        [[row[key] for key in kept] for row in rows(folder / "epochs.csv")] for folder in (trained, tmp_path / "run")
    ]
    assert tables[0] == tables[1]


def test_evaluation_tabulates_every_test_tile_with_four_methods(evaluated, phantoms):
    table = rows(evaluated / "tiles.csv")
    assert list(table[0]) == ["id", "place", "method", "psnr", "ssim", "psnr_luma", "ssim_luma", "lr_psnr"]
    ids = sorted({row["id"] for row in table})
    assert len(ids) == 4 and len(table) == 16
    # bicubic, redone with Pillow from the file
    with Image.open(phantoms / f"{ids[0]}.png") as picture:
        enlarged = picture.resize((16, 16), Image.Resampling.BICUBIC).resize((64, 64), Image.Resampling.BICUBIC)
        pair = [torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] for image in (enlarged, picture)]
    expected = peak_signal_to_noise(*pair, data_range=255).item()
    found = next(float(row["psnr"]) for row in table if row["id"] == ids[0] and row["method"] == "bicubic")
    assert found == pytest.approx(expected, abs=0.05)


def test_the_summary_is_the_table_in_short_and_the_figure_is_there(evaluated):
    table = rows(evaluated / "tiles.csv")
    summary = json.loads((evaluated / "summary.json").read_text())
    assert summary["tiles"] == summary["places"] == 4
    psnr = {m: np.array([float(r["psnr"]) for r in table if r["method"] == m]) for m in summary["scores"]}
    assert set(psnr) == {"nearest", "bicubic", "lanczos", "network"}
    for method, values in psnr.items():
        assert summary["scores"][method]["psnr"]["mean"] == pytest.approx(values.mean(), abs=1e-5)
        assert summary["scores"][method]["psnr"]["sd"] == pytest.approx(values.std(ddof=1), abs=1e-5)
    gain = summary["gain_over_bicubic"]["psnr"]
    assert gain["mean"] == pytest.approx((psnr["network"] - psnr["bicubic"]).mean(), abs=1e-5)
    assert gain["better"] == (psnr["network"] > psnr["bicubic"]).mean()
    with Image.open(evaluated / "triplets.png") as figure:
        assert figure.width > figure.height / 4 * 3


@pytest.mark.parametrize(("name", "value"), [("split_seed", 1), ("test_fraction", 0.5), ("blur", 1.0)])
def test_an_evaluation_of_other_places_or_settings_than_those_of_the_training_is_refused(
    trained, phantoms, name, value
):
    options = {"dataset_dir": str(phantoms), "output_dir": str(trained)} | TINY | {name: value}
    then = json.loads((trained / "run.json").read_text())["settings"][name]
    sentence = sentence_of(lambda: workflow(["train.json", "evaluate.json"], **options).run())
    assert f"--{name} is {value}, but" in sentence and f"was trained with {then} " in sentence


def test_evaluation_tabulates_further_weights_beside_the_first(trained, phantoms, tmp_path):
    others = {"stage one": str(trained / "pretrained.pt"), "the same": str(trained / "model.pt")}
    options = TINY | {"evaluation_dir": str(tmp_path), "others": others, "precision": "fp32"}
    run = workflow(["train.json", "evaluate.json"], dataset_dir=str(phantoms), output_dir=str(trained), **options)
    run.run()
    table = rows(tmp_path / "tiles.csv")
    values = {name: [row["psnr"] for row in table if row["method"] == name] for name in (*others, "network")}
    assert values["the same"] == values["network"] != values["stage one"]
    alone = TINY | {"evaluation_dir": str(tmp_path / "alone"), "ckpt_path": others["stage one"], "precision": "fp32"}
    workflow(["train.json", "evaluate.json"], dataset_dir=str(phantoms), output_dir=str(trained), **alone).run()
    expected = [row["psnr"] for row in rows(tmp_path / "alone" / "tiles.csv") if row["method"] == "network"]
    assert values["stage one"] == expected
    workflow(["train.json", "evaluate.json"], dataset_dir=str(phantoms), output_dir=str(trained),
        **alone | {"realism": 1.0, "evaluation_dir": str(tmp_path / "mixed")}).run()  # fmt: skip
    mixed = [row["psnr"] for row in rows(tmp_path / "mixed" / "tiles.csv") if row["method"] == "network"]
    assert mixed == values["network"]
    with pytest.raises(ValueError, match="each needs a name of its own"):
        SuperResolutionTable(tmp_path, {"scale": 4}, others={"bicubic": torch.nn.Identity()})


def inference(folder: Path, output: Path, weights: Path, **options) -> None:
    run = workflow(
        ["inference.json"],
        dataset_dir=str(folder),
        output_dir=str(output),
        ckpt_path=str(weights),
        **(SMALL | {"precision": "fp32"} | options),
    )
    run.run()


def test_inference_keeps_names_and_enlarges_pictures_of_any_size_four_times(trained, tmp_path):
    folder = tmp_path / "tiles"
    (folder / "north").mkdir(parents=True)
    Image.new("RGB", (70, 41), (200, 150, 130)).save(folder / "colour.png")
    Image.new("L", (33, 20), 90).save(folder / "north" / "grey tile.jpg")
    Image.new("RGB", (1, 1), (5, 6, 7)).save(folder / "dot.png")
    inference(folder, tmp_path / "out", trained / "model.pt", tile=48, overlap=16)
    sizes = {path.name: Image.open(path).size for path in (tmp_path / "out").glob("*.png")}
    assert sizes == {"colour.png": (280, 164), "north_grey tile.png": (132, 80), "dot.png": (4, 4)}
    assert np.asarray(Image.open(tmp_path / "out" / "colour.png")).dtype == np.uint8


def test_realism_leads_from_the_weights_of_stage_one_to_those_of_stage_two(trained, phantoms, tmp_path):
    images = {}
    for realism in (0.0, 0.5, 1.0):
        options = {"realism": realism, "adversarial_weights": str(trained / "model.pt")}
        run = workflow(["inference.json"], dataset_dir=str(phantoms), output_dir=str(tmp_path / str(realism)),
            ckpt_path=str(trained / "pretrained.pt"), **SMALL, **options)  # fmt: skip
        run.parser.get_parsed_content("run#2")
        images[realism] = run.parser.get_parsed_content("network").state_dict()["head.weight"].clone()
    first, second = (
        torch.load(trained / name, weights_only=True)["head.weight"] for name in ("pretrained.pt", "model.pt")
    )
    assert torch.equal(images[0.0], first) and torch.equal(images[1.0], second)
    assert torch.allclose(images[0.5], (first + second) / 2) and not torch.equal(first, second)


def test_inference_keeps_16_bits(trained, tmp_path):
    folder = tmp_path / "tiles"
    folder.mkdir()
    deep = np.linspace(0, 65535, 24 * 20).reshape(20, 24).astype(np.uint16)
    Image.fromarray(deep).save(folder / "deep.png")
    state = torch.load(trained / "model.pt", weights_only=True)
    one_band = {
        name: value[:, :1] if name == "head.weight" else value[:16] if name.startswith("tail.0") else value
        for name, value in state.items()
    }
    torch.save(one_band, tmp_path / "one_band.pt")
    inference(folder, tmp_path / "out", tmp_path / "one_band.pt", bands=[1])
    enlarged = np.asarray(Image.open(tmp_path / "out" / "deep.png"))
    assert enlarged.shape == (80, 96) and enlarged.dtype == np.uint16
    assert len(np.unique(enlarged)) > 256
    assert np.abs(enlarged[2::4, 2::4].astype(float) - deep).mean() < 6000


def test_report_overlay_is_the_papers_networks_and_the_reports_schedule(phantoms, tmp_path):
    run = workflow(["train.json", "srresnet.json", "report.json"], dataset_dir=str(phantoms), output_dir=str(tmp_path))
    parsed = run.parser.get_parsed_content
    parameters = sum(p.numel() for p in parsed("network_def").parameters())
    assert parameters == 1_547_350  # of the paper's generator, see SRResNet
    assert parsed("max_epochs") == 11_000 and parsed("batch_size") == 8 and parsed("crop_size") == 256
    assert isinstance(parsed("loss").first, torch.nn.MSELoss)
    assert type(parsed("discriminator_def")) is SRDiscriminator and parsed("perception").shift == 0
    assert parsed("adversary").optimizer.defaults["betas"] == (0.9, 0.99)


def test_the_discriminator_sees_details_apart_and_the_content_loss_shifted_crops(phantoms, tmp_path):
    torch.manual_seed(0)
    torch.save(MobileNetV2Encoder().state_dict(), tmp_path / "features.pt")
    options = {"dataset_dir": str(phantoms), "feature_weights": str(tmp_path / "features.pt")}
    parsed = workflow(["train.json"], **(TINY | options)).parser.get_parsed_content
    discriminator, content = parsed("discriminator_def"), parsed("image_losses")["content"][1]
    assert type(discriminator) is DetailDiscriminator and discriminator.gain == 10
    assert discriminator(torch.rand(1, 3, 32, 32)).shape[1] == 1
    assert type(content) is ShiftedCrops and content.shift == 16
    images = torch.rand(2, 1, 3, 32, 32)
    assert len({content(*images).item() for _ in range(8)}) > 1
    kept = parsed("perception").score  # a score compares whole images
    assert torch.equal(kept(*images), kept(*images))


@pytest.mark.parametrize(
    ("overlays", "weights"),
    [([], "model.pt"), ([], "adversarial.pt"), (["srresnet.json"], "srresnet.pt")],
)
def test_shipped_weights_fit_and_upscale_better_than_bicubic(overlays, weights, phantoms):
    network = workflow(["inference.json", *overlays], dataset_dir=str(phantoms)).network_def.eval()
    state = torch.load(BUNDLE / "models" / weights, weights_only=True)
    assert {value.dtype for value in state.values()} == {torch.float16}
    network.load_state_dict(state, strict=True)
    high_res = torch.stack([draw_aerial((128, 128), layout_seed=seed) for seed in range(4)]).float() / 255
    low_res = Degradation(4, levels=255).reduce(high_res)
    with torch.no_grad():
        upscaled = network(low_res).clip(0, 1)
    bicubic = torch.nn.functional.interpolate(low_res, scale_factor=4.0, mode="bicubic").clip(0, 1)
    psnr = [peak_signal_to_noise(image, high_res, data_range=1).mean() for image in (upscaled, bicubic)]
    assert psnr[0] > psnr[1] + 0.2


def test_muon_trains_both_stages_at_the_rates_of_their_schedules_and_resumes(phantoms, tmp_path):
    options = {"optimizer_name": "muon", "generator_features": 16, "val_interval": 5, "adversarial_epochs": 1}
    run = train(tmp_path / "run", phantoms, **options)
    optimizer = run.parser.get_parsed_content("optimizer")
    assert type(optimizer) is OrthogonalMomentum
    assert len({group["lr"] for group in optimizer.param_groups}) == 1 and len(optimizer.param_groups) == 2
    train(tmp_path / "run", phantoms, **options | {"adversarial_epochs": 2}, resume="true")
    table = rows(tmp_path / "run" / "epochs.csv")
    assert [row["epoch"] for row in table] == ["1", "2", "3", "4"]
    assert float(table[1]["train_loss"]) < float(table[0]["train_loss"])


@pytest.fixture(scope="module")
def two_sizes(tmp_path_factory) -> Path:
    """Tiles of 64 and 48 pixels in folders by place, of which one has most."""
    folder = tmp_path_factory.mktemp("places")
    for place, count, size in (("town", 8, 64), ("shore", 3, 48), ("wood", 3, 64), ("field", 2, 48)):
        write_aerial_phantoms(folder / place, count=count, size=(size, size), seed=count)
    return folder


RECIPE = {
    "optimizer_name": "muon", "learning_rate": 0.004, "end_loss": "psnr", "loss_change": 0.5, "warm_up": 0.03,
    "place_power": 0.5, "size_power": 0.75, "adversarial_schedule": "plateau", "place_pattern": "(?P<place>[a-z]+)/",
}  # fmt: skip


def test_the_recipe_of_the_shipped_weights_is_a_matter_of_options(two_sizes, tmp_path):
    places = {"test_places": ["wood"], "validation_places": ["field"]}
    run = train(tmp_path / "run", two_sizes, adversarial_epochs=1, **RECIPE, **places)
    parsed = run.parser.get_parsed_content
    assert [len(parsed("parts")[part]) for part in ("training", "validation", "test")] == [11, 2, 3]
    weights = dict(zip(parsed("train#dataset").ids, parsed("train#dataloader").weights.tolist(), strict=True))
    shore = 0.75**1.5  # (48 / 64) ** (2 * 0.75), of each of three tiles
    assert weights["town_phantom_0000"] == pytest.approx(8**-0.5)
    assert weights["shore_phantom_0000"] == pytest.approx(shore / (3 * shore) ** 0.5)
    assert {type(part).__name__ for part in (parsed("loss").first, parsed("loss").last)} == {"L1Loss", "PSNRLoss"}
    assert parsed("loss").progress >= 0.5 and parsed("loss").last.weight == 0.01
    table = rows(tmp_path / "run" / "epochs.csv")
    assert float(table[0]["train_loss"]) > 0 > float(table[1]["train_loss"])  # PSNR from the second epoch on
    assert parsed("train#handlers#2").rate_warm_up == 0.03


@needs_rasterio
@pytest.mark.parametrize(("bands", "shown"), [([1, 2, 3, 4], [3, 0, 1]), ([5], [0, 0, 0])])
def test_any_number_of_bands_is_trained_and_enlarged(bands, shown, tmp_path):
    (tmp_path / "tiles").mkdir()
    for number in range(12):
        save_raster(tmp_path / "tiles" / f"{number}.tif", noise(5, 32, 32, seed=number))
    options = {"bands": bands, "shown_bands": shown, "pretrain_epochs": 1, "adversarial_epochs": 1}
    train(tmp_path / "run", tmp_path / "tiles", **options)
    inference(tmp_path / "tiles", tmp_path / "out", tmp_path / "run" / "final.pt", bands=bands)
    assert read(next((tmp_path / "out").glob("*.tif"))).shape == (len(bands), 128, 128)


def test_training_on_everything_watches_training_tiles_and_can_be_scored_on_places_that_are_new(two_sizes, tmp_path):
    everything = {"test_fraction": 0, "validation_fraction": 0, "watched_tiles": 4}
    options = RECIPE | {"pretrain_epochs": 1, "adversarial_epochs": 0}
    run = train(tmp_path / "run", two_sizes, **options, **everything)
    parts = run.parser.get_parsed_content("parts")
    assert len(parts["training"]) == 16 and len(parts["validation"]) == 4 and parts["test"] == []
    assert (tmp_path / "run" / "final.pt").exists()


def test_srresnet_overlay_trains_and_continues_from_the_shipped_weights(phantoms, tmp_path):
    run = workflow(
        ["train.json", "srresnet.json"],
        dataset_dir=str(phantoms),
        output_dir=str(tmp_path / "run"),
        **(TINY | {"generator_features": 48, "blocks": 12, "pretrain_epochs": 1, "adversarial_epochs": 0}),
        init_weights=str(BUNDLE / "models" / "srresnet.pt"),
    )
    run.run()
    start, end = (
        torch.load(path, weights_only=True)
        for path in (BUNDLE / "models" / "srresnet.pt", tmp_path / "run" / "final.pt")
    )
    assert start.keys() == end.keys()
    changes = [(end[name] - value.float()).abs().max().item() for name, value in start.items()]
    assert 0 < max(changes) < 0.1


def test_the_default_generator_is_small_enough_to_ship_in_half_precision(phantoms):
    run = workflow(["inference.json"], dataset_dir=str(phantoms))
    parameters = sum(p.numel() for p in run.network_def.parameters())
    assert 250_000 < parameters and 2 * parameters < 4_000_000


def test_the_demos_page_shows_scores_triplets_and_commands(trained, evaluated, tmp_path):
    (tmp_path / "training").symlink_to(trained)
    commands = {"training": "python -m monai.bundle run --config_file train.json"}
    page = html_page(aerial_blocks(DemoRun(BUNDLE / "configs", tmp_path, commands, {"training": 12.0})), title="Demo")
    assert page.count("data:image/png;base64,") == 2
    summary = json.loads((evaluated / "summary.json").read_text())
    assert f"{summary['gain_over_bicubic']['psnr']['mean']:+.2f} dB" in page
    assert all(f'<th scope="row">{method}</th>' in page for method in summary["scores"])
    assert "<figcaption>training, 12 s</figcaption>" in page and "<code>python -m monai.bundle run" in page


def test_mistakes_end_with_one_sentence(trained, phantoms, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no tile lies in" in sentence_of(lambda: train(tmp_path / "a", tmp_path / "empty"))
    assert "smaller than crop_size=128" in sentence_of(lambda: train(tmp_path / "b", phantoms, crop_size=128))
    assert "multiple of the scale" in sentence_of(lambda: train(tmp_path / "c", phantoms, crop_size=30))
    assert "--resume true" in sentence_of(lambda: train(trained, phantoms))
    missing = "none.pt"
    assert missing in sentence_of(lambda: train(tmp_path / "d", phantoms, feature_weights=missing))
    assert missing in sentence_of(lambda: inference(phantoms, tmp_path / "e", tmp_path / missing))
    nan = "$lambda prediction, target: prediction.mean() * float('nan')"
    assert "NaN" in sentence_of(lambda: train(tmp_path / "f", phantoms, loss=nan))
    assert not list((tmp_path / "f").glob("*.pt"))


def test_reflectance_of_16_bits_with_blank_tiles_and_collars_has_the_scores_of_8_bits(tmp_path, phantoms):
    """One range from the files through training and evaluation to the upscaled files; 16 of 40 scenes show nothing."""
    rasterio = pytest.importorskip("rasterio", reason="needs rasterio")
    tiles, plain = tmp_path / "tiles", tmp_path / "plain"
    tiles.mkdir()
    plain.mkdir()
    scenes = sorted(phantoms.glob("*.png")) or sorted(phantoms.glob("*.jpg"))

    def write(name: str, pixels: np.ndarray) -> None:
        about = {"driver": "GTiff", "count": 3, "height": 64, "width": 64, "dtype": "uint16", "photometric": "rgb"}
        with rasterio.open(tiles / f"{name}.tif", "w", **about) as dataset:
            dataset.write(pixels)

    for scene in scenes:
        eight = np.moveaxis(np.asarray(Image.open(scene).convert("RGB")), -1, 0)
        Image.fromarray(np.moveaxis(eight, 0, -1)).save(plain / f"{scene.stem}.png")
        pixels = np.rint(eight / 255 * 2999).astype(np.uint16) + 1
        if scene == scenes[-1]:
            pixels[:, :20] = 0  # a collar
        write(scene.stem, pixels)
    for number in range(16):
        write(f"blank_{number}", np.full((3, 64, 64), 900 + number, np.uint16))
    settings = TINY | {"pretrain_epochs": 1, "adversarial_epochs": 0, "intensity_range": [0, 3000]}
    found = {}
    for name, folder in (("deep", tiles), ("plain", plain)):
        own = settings if name == "deep" else settings | {"intensity_range": None}
        run = workflow(["train.json"], dataset_dir=str(folder), output_dir=str(tmp_path / name), **own)
        run.run()
        run = workflow(
            ["train.json", "evaluate.json"],
            dataset_dir=str(folder),
            output_dir=str(tmp_path / name),
            **(own | {"intensity_range": None}),
        )
        run.run()
        table = rows(tmp_path / name / "evaluation" / "tiles.csv")
        found[name] = {row["id"]: float(row["psnr"]) for row in table if row["method"] == "bicubic"}
    log = (tmp_path / "deep" / "run.log").read_text()
    assert "16 of 36 tiles left out, blank (one colour): blank_0" in log
    assert "1 of 20 tiles show no ground in some pixels" in log and scenes[-1].stem in log
    assert json.loads((tmp_path / "deep" / "pixel_scale.json").read_text())["high"] == 3000
    assert not (tmp_path / "plain" / "pixel_scale.json").exists()
    assert found["deep"].keys() == found["plain"].keys()
    for tile, psnr in found["deep"].items():
        assert psnr == pytest.approx(found["plain"][tile], abs=0.3 if tile != scenes[-1].stem else 3)
    workflow(
        ["inference.json"],
        dataset_dir=str(tiles),
        output_dir=str(tmp_path / "out"),
        ckpt_path=str(tmp_path / "deep" / "model.pt"),
        **SMALL,
    ).run()
    with rasterio.open(tmp_path / "out" / f"{scenes[0].stem}.tif") as upscaled:
        with rasterio.open(tiles / f"{scenes[0].stem}.tif") as source:
            assert upscaled.dtypes[0] == "uint16" and upscaled.shape == (256, 256)
            assert upscaled.read().mean() == pytest.approx(source.read().mean(), rel=0.03)
