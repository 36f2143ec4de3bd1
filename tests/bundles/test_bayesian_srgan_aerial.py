"""The Bayesian bundle run as users run it, on a few small synthetic scenes."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import bundle_runs
import numpy as np
import pytest
import torch
from bundle_runs import BUNDLES, rows, run_bundle, sentence_of
from ignite.engine import Events
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.utils import set_determinism
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from monai_ext.commands.demo import bayesian
from monai_ext.commands.demo.bayesian import bayesian_blocks, write_demo_viewer
from monai_ext.commands.demo.page import DemoRun
from monai_ext.commands.html import html_page
from monai_ext.metrics.conformal import Calibration, write_calibration
from monai_ext.networks.latent_srresnet import BayesianSRResNet
from monai_ext.networks.sr_discriminator import SRDiscriminator
from monai_ext.networks.srresnet import SRResNet
from monai_ext.networks.variational import DropoutConv2d, VariationalConv2d
from monai_ext.phantoms.aerial import write_aerial_phantoms
from monai_ext.transforms.degradation import Degradation

BUNDLE = BUNDLES / "bayesian_srgan_aerial"
SMALL = {"generator_features": 16, "blocks": 1, "latent_channels": 2, "texture_blocks": 1}
TINY = SMALL | {
    "discriminator_features": 4,
    "crop_size": 32,
    "batch_size": 4,
    "pretrain_epochs": 2,
    "adversarial_epochs": 2,
    "val_interval": 1,
    "log_interval": 2,
    "ema_decay": 0.5,
}
FEW = {"weight_samples": 2, "latent_samples": 2, "evaluated_samples": 3, "shown_tiles": 2}

workflow = partial(bundle_runs.workflow, BUNDLE.name)


def train(folder: Path, data: Path, **options) -> ConfigWorkflow:
    set_determinism(seed=0)
    run = workflow(["train.json"], dataset_dir=str(data), output_dir=str(folder), **(TINY | options))
    assert run.trainer  # built here, so that every run draws the same numbers from its first step on
    run.run()
    run.finalize()
    return run


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    write_aerial_phantoms(folder, count=20, size=(64, 64))
    return folder


@pytest.fixture(scope="module")
def trained(phantoms, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train(folder, phantoms)
    return folder


def evaluate(run: Path, data: Path, **options) -> dict:
    files, places = ["train.json", "evaluate.json"], {"dataset_dir": str(data), "output_dir": str(run)}
    built = run_bundle(BUNDLE.name, files, **(TINY | FEW | places | options))
    return json.loads((Path(built.parser.get_parsed_content("evaluation_dir")) / "summary.json").read_text())


@pytest.fixture(scope="module")
def summary(trained, phantoms) -> dict:
    return evaluate(trained, phantoms)


def test_training_leaves_weights_of_both_stages_state_table_record_and_curves(trained):
    names = {path.name for path in trained.iterdir() if path.is_file()}
    assert names >= {"model.pt", "pretrained.pt", "final.pt", "last.pt", "best.json", "epochs.csv", "run.json"}
    table = rows(trained / "epochs.csv")
    assert [row["epoch"] for row in table] == ["1", "2", "3", "4"]
    assert {"train_loss", "val_psnr", "val_energy_db", "val_sample_lr_psnr", "val_sample_share"} <= set(table[0])
    assert all(float(row["val_sample_lr_psnr"]) > 50 for row in table)
    assert json.loads((trained / "run.json").read_text())["settings"]["training_tiles"] == 12
    best = json.loads((trained / "best.json").read_text())["pretrained"]
    assert best["value"] == pytest.approx(max(float(row["val_energy_db"]) for row in table[:2]), abs=1e-5)
    events = EventAccumulator(str(trained / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    terms = ("likelihood", "kl", "kl_01", "energy", "sample_distance", "adversarial", "discriminator")
    wanted = {f"train/{name}" for name in terms} | {"validation/psnr", "validation/energy_db"}
    assert wanted | {"health/active_latents", "health/sample_share"} <= set(tags["scalars"])
    assert tags["images"] == ["low resolution, mean, two samples, their difference, original"]


def test_a_run_killed_in_stage_two_resumes_to_the_same_weights(trained, phantoms, tmp_path):
    set_determinism(seed=0)
    broken = workflow(["train.json"], dataset_dir=str(phantoms), output_dir=str(tmp_path / "run"), **TINY)

    def stop(engine):
        raise KeyboardInterrupt

    broken.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=8), stop)
    with pytest.raises(KeyboardInterrupt):
        broken.run()
    train(tmp_path / "run", phantoms, resume="true")
    for name in ("final.pt", "pretrained.pt"):
        expected, given = (torch.load(folder / name, weights_only=True) for folder in (trained, tmp_path / "run"))
        assert all(torch.equal(value, given[key]) for key, value in expected.items()), name


def test_evaluation_scores_mean_samples_and_uncertainty_of_every_test_tile(summary, trained):
    table = rows(trained / "evaluation" / "tiles.csv")
    assert len(table) == summary["tiles"] == 4 and {row["method"] for row in table} == {"bayesian"}
    scores = summary["scores"]
    for name in ("mean_psnr", "ause", "lr_gap", "epistemic_sd"):
        values = np.array([float(row[name]) for row in table])
        assert scores[name]["mean"] == pytest.approx(values.mean(), rel=1e-4), name
    assert scores["lr_psnr_worst"]["lowest"] > 50 and scores["lr_gap"]["highest"] < 3 / 255
    for row in table:
        parts = [float(row[f"{kind}_sd"]) ** 2 for kind in ("aleatoric", "ambiguity", "epistemic")]
        assert sum(parts) == pytest.approx(float(row["total_sd"]) ** 2, rel=1e-3) and min(parts) >= 0
    with Image.open(trained / "evaluation" / "samples.png") as figure:
        assert figure.width > 3 * figure.height / 2


def test_generators_of_srgan_aerial_are_asked_in_the_same_way(phantoms, tmp_path):
    networks = []
    for seed in range(2):
        torch.manual_seed(seed)
        built = workflow(["train.json"], dataset_dir=str(phantoms), **(TINY | {"weight_uncertainty": "none"}))
        generator = built.parser.get_parsed_content("network_def").generator
        with torch.no_grad():
            generator.tail[0].weight.normal_(0, 0.02)
        torch.save(generator.state_dict(), tmp_path / f"{seed}.pt")
        networks.append(str(tmp_path / f"{seed}.pt"))
    shared = {"evaluated_tiles": 2}
    certain = evaluate(tmp_path / "a", phantoms, method="srgan", ckpt_path=networks[0], **shared)["scores"]
    assert certain["total_sd"]["mean"] == 0 and certain["sample_distance"]["mean"] == 0
    mean = certain["mean_psnr"]["mean"]
    assert certain["sample_psnr"]["mean"] == pytest.approx(mean)
    options = {"method": "mc_dropout", "ckpt_path": networks[0], "dropout": 0.2, "generator_features": 8}
    # eight maps are too few for dropout to touch them
    assert "--weight_uncertainty" in sentence_of(lambda: evaluate(tmp_path / "b", phantoms, **options, **shared))
    ensemble = evaluate(tmp_path / "c", phantoms, method="ensemble", checkpoints=networks, consistent="true", **shared)
    scores = ensemble["scores"]
    assert ensemble["method"] == "ensemble" and scores["epistemic_sd"]["mean"] == scores["total_sd"]["mean"] > 0
    assert scores["lr_psnr_worst"]["lowest"] > 50 > certain["lr_psnr_worst"]["lowest"]


def srresnet_with(overlay: str, phantoms: Path, **options: object) -> ConfigParser:
    """The config of srgan_aerial with its overlay srresnet.json and one of this bundle on top."""
    files = ["train.json", "srresnet.json", str(BUNDLE / "configs" / overlay)]
    return bundle_runs.workflow("srgan_aerial", files, dataset_dir=str(phantoms), **options).parser


def test_comparison_overlay_keeps_the_srgan_that_was_scored(phantoms):
    parsed = srresnet_with("comparison.json", phantoms).get_parsed_content
    assert type(parsed("network_def")) is SRResNet and type(parsed("discriminator_def")) is SRDiscriminator
    adversary = parsed("adversary")
    assert adversary.weight == 0.005 and adversary.optimizer.defaults["betas"] == (0.9, 0.99)
    assert len(parsed("parts")["calibration"]) > 0 and parsed("perception").shift == 0


def test_mc_dropout_overlay_gives_the_generator_of_srgan_aerial_dropout(phantoms):
    network = srresnet_with("mc_dropout.json", phantoms, dropout=0.2).get_parsed_content("network_def")
    assert type(network.blocks[0].conv1) is DropoutConv2d and network.blocks[0].conv1.rate == 0.2


@pytest.mark.parametrize(
    ("kind", "layer"), [("none", torch.nn.Conv2d), ("dropout", DropoutConv2d), ("variational", VariationalConv2d)]
)
def test_weights_are_of_the_kind_that_is_asked_for_and_each_kind_trains(kind, layer, phantoms, tmp_path):
    options = {
        "generator_name": "srresnet",
        "weight_uncertainty": kind,
        "pretrain_epochs": 1,
        "adversarial_epochs": 0,
        "val_interval": 5,
    }
    run = train(tmp_path / "run", phantoms, **options)
    network = run.parser.get_parsed_content("network_def")
    assert type(network.generator.blocks[0].conv1) is layer and type(network.texture[0]) is layer
    assert ("weights" in run.trainer.state.output["terms"]) == (kind == "variational")


@pytest.mark.parametrize(
    ("options", "name"), [({}, "model.pt"), ({"generator_name": "srresnet", "blocks": 12}, "srresnet.pt")]
)
def test_the_shipped_generators_of_srgan_aerial_load_into_the_network(options, name, phantoms):
    weights = BUNDLES / "srgan_aerial" / "models" / name
    if not weights.is_file():
        pytest.skip("srgan_aerial ships no weights")
    network = workflow(["inference.json"], dataset_dir=str(phantoms), **options).network_def
    assert isinstance(network, BayesianSRResNet)
    network.generator.load_state_dict(torch.load(weights, weights_only=True))
    assert sum(p.numel() for p in network.parameters()) < 1_000_000


def test_inference_writes_answers_that_reduce_to_their_input(trained, phantoms, tmp_path):
    folder = tmp_path / "tiles"
    folder.mkdir()
    with Image.open(sorted(phantoms.glob("*.png"))[0]) as scene:
        scene.crop((0, 0, 52, 40)).save(folder / "scene.png")
    options = {"dataset_dir": str(folder), "output_dir": str(tmp_path / "out"), "ckpt_path": str(trained / "model.pt")}
    run_bundle(BUNDLE.name, ["inference.json"], **(SMALL | options | {"precision": "fp32"}))
    low, high = (
        torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)[None].double() / 255
        for path in (folder / "scene.png", tmp_path / "out" / "scene.png")
    )
    assert high.shape == (1, 3, 160, 208)
    assert -10 * (Degradation(4).reduce(high) - low).square().mean().log10() > 50


def test_the_demos_page_shows_scores_samples_and_commands(trained, summary, tmp_path, monkeypatch):
    monkeypatch.setattr(bayesian, "write_demo_viewer", lambda configs, output_dir: output_dir / "viewer.html")
    (tmp_path / "training").symlink_to(trained)
    commands = {"training": "python -m monai.bundle run --config_file train.json"}
    page = html_page(bayesian_blocks(DemoRun(BUNDLE / "configs", tmp_path, commands, {"training": 12.0})), title="Demo")
    assert page.count("data:image/png;base64,") == 2
    assert f"{summary['scores']['mean_psnr']['mean']:.4g}" in page and "NTIRE diversity" in page
    assert "<figcaption>training, 12 s</figcaption>" in page and "<code>python -m monai.bundle run" in page


def test_the_demos_page_shows_the_calibration_where_one_was_run(trained, summary, tmp_path, monkeypatch):
    monkeypatch.setattr(bayesian, "write_demo_viewer", lambda configs, output_dir: output_dir / "viewer.html")
    shutil.copytree(trained, tmp_path / "training")
    report = tmp_path / "training" / "uncertainty"
    report.mkdir()
    for name in ("reliability.png", "sparsification.png"):
        shutil.copy(trained / "evaluation" / "samples.png", report / name)
    (report / "summary.json").write_text("{}")
    page = html_page(bayesian_blocks(DemoRun(BUNDLE / "configs", tmp_path, {}, {"training": 1.0})), title="Demo")
    assert page.count("data:image/png;base64,") == 4 and "after it (star)" in page


def test_the_demos_viewer_shows_a_test_scene_by_the_demos_network(tmp_path):
    images, training = tmp_path / "phantoms" / "images", tmp_path / "training"
    write_aerial_phantoms(images, count=1, size=(64, 64))
    network = workflow(["inference.json", "demo_inference.json"], dataset_dir=str(images)).network_def
    (training / "evaluation").mkdir(parents=True)
    torch.save(network.state_dict(), training / "model.pt")
    (training / "evaluation" / "tiles.csv").write_text("id,place\nphantom_0000,phantom_0000\n")
    calibration = Calibration("crc", 0.1, None, (2.0,), weight_samples=2, latent_samples=2)
    write_calibration(calibration, training / "calibration.json")
    page = write_demo_viewer(BUNDLE / "configs", tmp_path)
    text = page.read_text(encoding="utf-8")
    assert page == tmp_path / "viewer.html" and "phantom_0000, reduced four times" in text and "90% interval" in text


def test_mistakes_end_with_one_sentence(trained, phantoms, tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pt")
    wrong = str(tmp_path / "other.pt")
    assert "of another network" in sentence_of(lambda: train(tmp_path / "a", phantoms, init_weights=wrong))
    assert "no checkpoint at" in sentence_of(lambda: evaluate(tmp_path / "none", phantoms))
    assert "--resume true" in sentence_of(lambda: train(trained, phantoms))
    assert "does not divide into patches" in sentence_of(lambda: train(tmp_path / "b", phantoms, patch=24))
    assert "likelihood='student'" in sentence_of(lambda: train(tmp_path / "c", phantoms, likelihood="student"))
