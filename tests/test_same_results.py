"""The comparison with a plain MONAI pipeline runs and says what it compared; its numbers need real data and hours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import same_results
from monai_ext.data import write_lesion_phantoms


def test_both_pipelines_are_trained_on_the_fold_and_scored_alike(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lesion_phantoms(tmp_path / "data", count=12, size=(40, 48))
    config = json.loads(same_results.BUNDLE.read_text())
    config["network_def"] |= {"width": 0.25, "decoder_channels": [16] * 5}
    small = tmp_path / "bundle" / "configs" / "train.json"
    small.parent.mkdir(parents=True)
    small.write_text(json.dumps(config))
    (small.parent / "metadata.json").write_text((same_results.BUNDLE.parent / "metadata.json").read_text())
    monkeypatch.setattr(same_results, "BUNDLE", small)
    arguments = ["--epochs", "1", "--size", "32,32", "--batch_size", "4", "--folds", "3", "--workers", "0"]
    arguments += ["--seeds", "5", "--dataset_dir", str(tmp_path / "data"), "--output", str(tmp_path / "out.json")]
    same_results.main(arguments)
    printed = capsys.readouterr().out
    assert "(8 cases to train on, 4 to score) after 1 epochs at 32 x 32, batch 4" in printed
    assert "| 5 |" in printed and "| mean |" in printed
    record = json.loads((tmp_path / "out.json").read_text())
    assert set(record["dice"]) == {same_results.PLAIN, same_results.OURS}
    assert all(0 <= score <= 1 for scores in record["dice"].values() for score in scores)


def test_score_is_the_mean_dice_of_masks_cut_at_one_half() -> None:
    cases = [
        {"image": torch.tensor([[[2.0, 1.0], [-1.0, -1.0]]]), "label": torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])},
        {"image": torch.tensor([[[-1.0, 1.0], [-1.0, -1.0]]]), "label": torch.tensor([[[0.0, 1.0], [0.0, 0.0]]])},
    ]
    score = same_results.dice(nn.Identity(), cases, torch.device("cpu"))
    assert score == pytest.approx((2 / 3 + 1) / 2)
