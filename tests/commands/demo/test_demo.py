"""Steps of a demo, each an ordinary bundle run, here only noted."""

from __future__ import annotations

import json

import pytest

from monai_ext.commands.bundles import run_commands
from monai_ext.commands.demo.demo import DemoError, demo
from monai_ext.commands.html import Text


def page(run):
    return [Text(*run.commands)]


@pytest.fixture
def bundle(tmp_path):
    configs = tmp_path / "toy" / "configs"
    configs.mkdir(parents=True)
    content = {
        "page": {"_target_": f"{__name__}.page", "_mode_": "callable"},
        "dataset_dir": "",
        "phantom_images": "$@dataset_dir + '/images'",
    }
    (configs / "demo.json").write_text(json.dumps(content))
    for name in ("train.json", "inference.json", "calibrate.json"):
        (configs / name).write_text("{}")
    return configs.parent


@pytest.fixture
def started(monkeypatch):
    commands = []
    monkeypatch.setattr(run_commands, "execute", lambda command: commands.append(command) or 0)
    return commands


def test_training_evaluation_inference_and_calibration_run_one_after_the_other(bundle, started, tmp_path):
    found = demo(bundle, tmp_path / "out")
    assert found == tmp_path / "out" / "index.html" and "calibration" in found.read_text()
    training, evaluation, inference, calibration = (" ".join(command) for command in started)
    assert "train.json" in training and "--resume true" in training and "--resume" not in evaluation
    assert "evaluate.json" not in evaluation and "calibrate.json" in calibration  # only configs that there are
    assert f"--dataset_dir {tmp_path}/out/phantoms/images" in inference
    assert f"--ckpt_path {tmp_path}/out/training/model.pt" in inference


def test_volumes_are_overlays_of_training_and_evaluation(bundle, started, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no configs/volumes.json: leave out --volumes"):
        demo(bundle, tmp_path / "out", volumes=True)
    for name in ("volumes.json", "demo_volumes.json"):
        (bundle / "configs" / name).write_text("{}")
    demo(bundle, tmp_path / "out", volumes=True)
    training, evaluation, inference, _ = (" ".join(command) for command in started)
    for command in (training, evaluation):
        assert command.index("demo.json") < command.index("/volumes.json") < command.index("demo_volumes.json")
    assert "volumes.json" not in inference  # which takes the settings of the run


def test_a_step_that_fails_ends_the_demo_with_its_command(bundle, monkeypatch, tmp_path):
    monkeypatch.setattr(run_commands, "execute", lambda command: 1)
    with pytest.raises(DemoError, match="training failed.*\n  python -m monai.bundle run"):
        demo(bundle, tmp_path / "out")


def test_a_bundle_without_a_demo_or_without_its_page_is_named(bundle, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no configs/demo.json in the bundle"):
        demo(tmp_path, tmp_path / "out")
    (bundle / "configs" / "demo.json").write_text('{"page": "a"}')
    with pytest.raises(DemoError, match="has no phantom_images"):
        demo(bundle, tmp_path / "out")
