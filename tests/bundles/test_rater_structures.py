"""Several tasks, read, trained, predicted and scored together, on cells with a nucleus."""

from __future__ import annotations

from pathlib import Path

import pytest
from bundle_runs import rows, run_bundle, sentence_of, workflow

from monai_ext.commands.scoring.score import ScoreOptions, score
from monai_ext.data import write_rater_phantoms

TINY = {"spatial_size": [32, 32], "batch_size": 4, "max_epochs": 1, "folds": 3, "samples": 4, "tta": False}
TINY |= {"tasks": [1, 2], "zoom": 1.0}


@pytest.fixture(scope="module")
def nested(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("nested")
    write_rater_phantoms(folder, count=6, size=(32, 36), tasks=2)
    return folder


def test_two_tasks_are_trained_together_and_scored_as_the_score_command_scores_each(nested, tmp_path):
    options = {"dataset_dir": str(nested), "output_dir": str(tmp_path), "features": 2, **TINY}
    run_bundle("qubiq_holistic", ["train.json"], **options)
    epoch = rows(tmp_path / "epochs.csv")[0]
    assert {
        "val_qubiq_score",
        "val_qubiq_score_task01",
        "val_joint_hungarian_iou",
        "val_head05_task02_dice_gap",
    } <= set(epoch)
    mean = (float(epoch["val_qubiq_score_task01"]) + float(epoch["val_qubiq_score_task02"])) / 2
    assert float(epoch["val_qubiq_score"]) == pytest.approx(mean, abs=1e-5)
    del options["tasks"]  # taken from the run
    run_bundle("qubiq_holistic", ["train.json", "evaluate.json"], write_samples=True, **options)
    predicted, table = tmp_path / "evaluation" / "predictions", rows(tmp_path / "evaluation" / "cases.csv")
    names = {path.name for path in (predicted / table[0]["id"]).iterdir()}
    kinds = ["", *(f"_seg{r:02d}" for r in range(1, 6)), *(f"_sample{m:02d}" for m in range(1, 5))]
    assert names == {f"task{task:02d}{kind}.nii.gz" for task in (1, 2) for kind in kinds}
    found = score(ScoreOptions(predicted, nested, tmp_path / "scores", missing="skip", resamples=10))
    assert [task.task for task in found.tasks] == [1, 2] and found.all_tasks.cases == len(table)
    both = {
        (row["case"], row["task"]): row for row in rows(tmp_path / "scores" / "cases.csv") if row["status"] == "scored"
    }
    pairs = {"qubiq_score": "qubiq_score", "dice": "dice_heads", "hungarian_iou": "hungarian_iou"}
    for line in table:
        for ours, theirs in {**pairs, "dice_rater04": "dice_rater04"}.items():
            for task in (1, 2):
                expected = float(both[line["id"], str(task)][theirs])
                assert float(line[f"{ours}_task{task:02d}"]) == pytest.approx(expected, abs=2e-4), (ours, task)
            mean = (float(line[f"{ours}_task01"]) + float(line[f"{ours}_task02"])) / 2
            assert float(line[ours]) == pytest.approx(mean, abs=1e-5)


def test_a_probabilistic_unet_learns_all_masks_of_a_rater_at_once(nested, tmp_path):
    overlay = {"dataset_dir": str(nested), "features": [2] * 5, "latent": 3, **TINY}
    (nested / "Training" / "case01" / "task02_seg03.nii.gz").rename(tmp_path / "kept.nii.gz")
    run_bundle("prob_unet", ["train.json", "probabilistic_unet.json"], output_dir=str(tmp_path / "run"), **overlay)
    options = {**overlay, "output_dir": str(tmp_path / "out"), "ckpt_path": str(tmp_path / "run" / "final.pt")}
    del options["folds"], options["max_epochs"], options["tasks"]
    workflow("prob_unet", ["inference.json", "probabilistic_unet_inference.json"], **options).run()
    names = {path.name for path in (tmp_path / "out" / "case02").iterdir()}
    kinds = ["", *(f"_sample{m:02d}" for m in range(1, 5))]
    assert names == {f"task{task:02d}{kind}.nii.gz" for task in (1, 2) for kind in kinds}
    for number in range(1, 6):
        (nested / "Training" / "case02" / f"task02_seg{number:02d}.nii.gz").unlink()
    bad = {**overlay, "output_dir": str(tmp_path / "bad")}
    sentence = sentence_of(lambda: run_bundle("prob_unet", ["train.json", "probabilistic_unet.json"], **bad))
    assert "case02 of" in sentence and "no rater who marked all of task01, task02 (1 such cases)" in sentence
