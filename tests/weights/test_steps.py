"""Steps of a recipe: skipped, resumed, printed, and stopped where one fails."""

from __future__ import annotations

import subprocess

import pytest

from weights.steps import Step, bundle_run, evaluation, run_steps, training


def writing(path, *, text: str = "done") -> Step:
    words = ("-c", f"from pathlib import Path; file = Path({str(path)!r}); file.open('a').write({text!r})")
    return Step(f"write {path.name}", words, path)


def test_steps_run_once_and_in_order(tmp_path, capfd):
    steps = [writing(tmp_path / "a" / "first"), writing(tmp_path / "second")]
    run_steps(steps, dry_run=True)
    assert not list(tmp_path.iterdir()) and capfd.readouterr().out.count("python -c") == 2
    run_steps(steps)
    run_steps(steps)
    assert (tmp_path / "a" / "first").read_text() == (tmp_path / "second").read_text() == "done"
    assert "# 1 of 2: write first, done" in capfd.readouterr().out


def test_a_failed_step_ends_the_run(tmp_path):
    broken = Step("break", ("-c", "raise SystemExit(3)"), tmp_path / "never")
    with pytest.raises(subprocess.CalledProcessError):
        run_steps([broken, writing(tmp_path / "after")])
    with pytest.raises(FileNotFoundError, match="step 1, 'idle', ended without"):
        run_steps([Step("idle", ("-c", ""), tmp_path / "nothing"), writing(tmp_path / "after")])
    assert not (tmp_path / "after").exists()


def test_an_interrupted_training_goes_on(tmp_path):
    step = training("train", "lesion_unet", tmp_path, {"fold": 3, "anonymous": True}, overlays=["multi_gpu.json"])
    configs = "['bundles/lesion_unet/configs/train.json', 'bundles/lesion_unet/configs/multi_gpu.json']"
    assert step.command() == (
        "python", "-m", "monai.bundle", "run", "--config_file", configs, "--bundle_root", "bundles/lesion_unet",
        "--output_dir", str(tmp_path), "--fold", "3", "--anonymous", "true",
    )  # fmt: skip
    (tmp_path / "last.pt").touch()
    assert step.command()[-2:] == ("--resume", "true") and step.makes == tmp_path / "final.pt"


def test_an_evaluation_reads_train_json_and_ends_with_its_summary(tmp_path):
    assert evaluation("score", "lesion_unet", tmp_path, {}).makes == tmp_path / "evaluation" / "summary.json"
    elsewhere = evaluation("score", "lesion_unet", tmp_path, {"evaluation_dir": tmp_path / "x"})
    assert elsewhere.makes == tmp_path / "x" / "summary.json"
    assert "bundles/a/configs/b.json" in bundle_run("lesion_unet", ["bundles/a/configs/b.json"], {})
