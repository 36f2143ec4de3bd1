"""The comparison with a plain MONAI pipeline runs and says what it compared; its numbers need real data and hours."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from monai.transforms import Compose, NormalizeIntensityd
from PIL import Image
from torch import nn

from benchmarks import same_results
from monai_ext.data import DecodeImaged, lesion_items, write_lesion_phantoms
from monai_ext.transforms import BatchAugment


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
    assert "(8 cases to train on, 4 to score, each at its own size) after 1 epochs at 32 x 32, batch 4" in printed
    assert "| 5 |" in printed and "| mean |" in printed
    record = json.loads((tmp_path / "out.json").read_text())
    assert set(record["dice"]) == {"plain", "same", "one_size", "bundle"}
    assert all(0 <= score <= 1 for scores in record["dice"].values() for score in scores)


def test_the_same_recipe_leaves_out_what_the_plain_pipeline_does_not_have(tmp_path: Path) -> None:
    write_lesion_phantoms(tmp_path, count=12, size=(32, 32))
    workflow = ConfigWorkflow(
        config_file=str(same_results.BUNDLE),
        workflow_type="train",
        logging_file=False,
        dataset_dir=str(tmp_path),
        output_dir=str(tmp_path / "run"),
        spatial_size=[32, 32],
        **same_results.same_recipe(json.loads(same_results.BUNDLE.read_text())),
    )
    workflow.initialize()
    augment, plain = workflow.parser.get_parsed_content("train#augmentation"), same_results.augmentation((32, 32))
    drawn = augment.draw(200, torch.Generator().manual_seed(0)).values
    assert {"flip", "rotate", "scale", "translate", "brightness", "gamma"} == set(drawn)
    assert drawn["scale"].shape == (200, 2) and 0.78 <= drawn["scale"].min() and drawn["scale"].max() <= 1.28
    assert 0.8 <= drawn["brightness"].min() < 0.85 and 1.15 < drawn["brightness"].max() <= 1.2
    assert 0.8 <= drawn["gamma"].min() < 0.85 and 1.15 < drawn["gamma"].max() <= 1.2
    assert any(type(step).__name__ == "RandAdjustContrastd" for step in plain)
    assert workflow.parser.get_parsed_content("average").decay == 0


def test_score_is_the_mean_dice_of_masks_cut_at_one_half_at_their_own_size(tmp_path: Path) -> None:
    grey = {"one": [[200, 200], [20, 20]], "two": [[20, 200], [20, 20]]}
    masks = {"one": [[255, 0], [0, 0]], "two": [[0, 255], [0, 0]]}
    items = []
    for name, values in grey.items():
        items.append({"image": str(tmp_path / f"{name}.png"), "label": str(tmp_path / f"{name}_mask.png")})
        Image.fromarray(np.array(values, np.uint8)).save(items[-1]["image"])
        Image.fromarray(np.kron(np.array(masks[name], np.uint8), np.ones((4, 4), np.uint8))).save(items[-1]["label"])
    centred = NormalizeIntensityd("image", subtrahend=[128.0] * 3, divisor=[1.0] * 3, channel_wise=True)

    class FirstBand(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image[:, :1].as_subclass(torch.Tensor)

    # Bilinear from 2 x 2 to 8 x 8 with the logits 72 and -108, t = 0, 0, 1/8, 3/8 ... of the way: positive while the
    # product of the weights of 72 exceeds 0.6. one: the upper 4 x 8, of which 4 x 4 are true. two: 4 + 4 + 3 + 2.
    score = same_results.dice(FirstBand(), items, [DecodeImaged(), centred], torch.device("cpu"))
    assert score == pytest.approx((2 * 16 / (32 + 16) + 2 * 13 / (13 + 16)) / 2)


def test_the_bundle_sees_what_its_own_evaluation_sees(tmp_path: Path) -> None:
    write_lesion_phantoms(tmp_path, count=1, size=(40, 48))
    item = lesion_items(tmp_path)[0]
    config = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]}
    seen = Compose(same_results.bundle_decoding(config, (20, 24)))(item)["image"]
    normalise = BatchAugment(mean=config["mean"], std=config["std"])
    wanted = normalise({"image": DecodeImaged((20, 24))(item)["image"][None]})["image"][0]
    torch.testing.assert_close(torch.as_tensor(seen), wanted, atol=1e-5, rtol=0)
