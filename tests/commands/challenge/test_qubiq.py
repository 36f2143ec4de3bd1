"""Tasks of a challenge worked off; the bundle runs are only noted, but for those of one real task."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pages
import pytest
from challenge import SIZE, write_region
from evaluated_runs import write_run

from monai_ext.__main__ import main
from monai_ext.commands.bundles import run_commands
from monai_ext.commands.challenge.qubiq import QubiqOptions, qubiq


def options_of(command: list[str]) -> dict[str, str]:
    return pages.options(command)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Commands that were run; an evaluation and predictions appear, a training of the kidney fails once."""
    commands: list[list[str]] = []

    def work(command: list[str]) -> int:
        commands.append(command)
        given = options_of(command)
        folder = Path(given["output_dir"])
        if "evaluate.json" in given["config_file"]:
            shutil.rmtree(folder / "evaluation", ignore_errors=True)
            write_run(folder, "heads", better=0.1, cases=["case00"], task=int(given["task"]))
        elif "part" in given:
            for case in ("case11_z000", "case11_z001") if given.get("slices") else ("case11", "case12"):
                map_ = np.full((2, 2, 1) if given.get("slices") else (2, 2), int(case[-1]) / 4, np.float32)
                (folder / case).mkdir(parents=True, exist_ok=True)
                nib.save(nib.Nifti1Image(map_, np.eye(4)), folder / case / f"task{int(given['task']):02d}.nii.gz")
        elif given["region"] == "kidney" and len([c for c in commands if "kidney" in c]) == 1:
            return 1
        return 0

    monkeypatch.setattr(run_commands, "execute", work)
    return commands


def test_every_task_is_trained_scored_and_predicted_once_and_a_failure_stops_its_task_alone(
    tmp_path: Path, started: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    write_region(data / "kidney", validated=False)
    write_region(data / "pancreas", raters=2, shape=(*SIZE, 2))
    write_region(data / "prostate", tasks=2, channels=4)
    monkeypatch.chdir(pages.REPOSITORY)
    typed = ["qubiq", str(data), "--output_dir", str(out), "--max_epochs", "7"]
    assert main(typed) == 1
    training = options_of(started[0])
    assert training["region"] == "kidney" and training["fold"] == "0" and training["folds"] == "5"
    assert training["raters"] == "[1, 2, 3]" and training["max_epochs"] == "7" and training["resume"] == "true"
    assert "validation_part" not in training and training["output_dir"] == f"{out}/kidney/task01"
    assert len(started) == 1 + 3 * 3
    volumes, prostate = options_of(started[1]), options_of(started[7])
    assert volumes["slices"] == "true" and volumes["in_channels"] == "1" and volumes["raters"] == "[1, 2]"
    assert prostate["in_channels"] == "4" and prostate["task"] == "2" and "slices" not in prostate
    assert prostate["fold"] == "all" and prostate["validation_part"] == "Validation"
    prediction = options_of(started[9])
    assert prediction["part"] == "Testing" and prediction["ckpt_path"] == f"{out}/prostate/task02/final.pt"
    assert "max_epochs" not in prediction
    page = (out / "qubiq.md").read_text()
    assert "kidney/task01: the step training failed" in page and "| kidney/task01 | 3 | training failed |" in page
    assert "| prostate/task02 | 3 | heads | 0.800 | 0.800 |" in page and "| mean of tasks |" in page
    assert f"submission: 5 maps of the predicted share of raters in {out}/submission" in page

    assert main(typed) == 0  # only what failed, and what follows from it
    assert [options_of(command)["region"] for command in started[10:]] == ["kidney"] * 3
    submission = sorted(str(path.relative_to(out / "submission")) for path in out.glob("submission/*/*/*"))
    assert submission == [
        "kidney/case11/task01.nii.gz", "kidney/case12/task01.nii.gz", "pancreas/case11/task01.nii.gz",
        "prostate/case11/task01.nii.gz", "prostate/case11/task02.nii.gz", "prostate/case12/task01.nii.gz",
        "prostate/case12/task02.nii.gz",
    ]  # fmt: skip
    volume = nib.load(out / "submission" / "pancreas" / "case11" / "task01.nii.gz")
    assert volume.get_fdata()[0, 0].tolist() == [0, 0.25]
    assert main(typed) == 0 and len(started) == 13
    assert main([*typed, "--learning_rate", "0.1"]) == 0 and len(started) == 25
    capsys.readouterr()


def test_a_real_task_of_four_channels_reaches_the_submission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_region(tmp_path / "data", channels=4, raters=2)
    monkeypatch.chdir(pages.REPOSITORY)
    monkeypatch.setattr(run_commands, "execute", partial(pages.bundle_run, patch=monkeypatch))
    (result,) = qubiq(QubiqOptions(tmp_path / "data", tmp_path / "out"))
    assert result.cases == 2 and result.failed == "" and result.scores["rater_agreement"] > 0.5
    assert (result.method, result.scored_on, result.raters) == ("heads", "validation part", [1, 2])
    predicted = nib.load(tmp_path / "out" / "submission" / "case11" / "task01.nii.gz")
    assert predicted.shape == SIZE and 0 <= predicted.get_fdata().min() <= predicted.get_fdata().max() <= 1


def test_the_dry_run_prints_commands_and_settings_of_ours_are_refused(
    tmp_path: Path, started: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    write_region(tmp_path / "data")
    monkeypatch.chdir(pages.REPOSITORY)
    typed = ["qubiq", str(tmp_path / "data"), "--output_dir", str(tmp_path / "out")]
    assert main([*typed, "--dry_run", "--part", "Validation"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and "--part Validation" in lines[2] and not started and not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="--fold is set by `qubiq` for every run"):
        main([*typed, "--fold", "2"])
    with pytest.raises(SystemExit):
        main([*typed, "--part", "Test"])
    assert "part is 'Test': choose Training, Validation or Testing" in capsys.readouterr().err
