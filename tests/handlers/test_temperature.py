"""Choosing a temperature on one half of the cases and scoring the other."""

from __future__ import annotations

import logging

import pytest
import torch
from monai.transforms import Activationsd
from torch import nn

from monai_ext.engines import BatchEvaluator, RaterEvaluator, RaterInferer
from monai_ext.formulas.temperature import tempered
from monai_ext.handlers.temperature import ChosenTemperature, choose_temperature, known_temperature
from monai_ext.metrics import calibration_scores
from monai_ext.networks import ConsensusNet
from monai_ext.storage.records import read_record
from monai_ext.transforms import Temperedd

CASES, RATERS, TRUE = 12, 3, 2.0


@pytest.fixture
def checkpoint(tmp_path):
    torch.save({"weight": torch.ones(1)}, tmp_path / "final.pt")
    return tmp_path / "final.pt"


def drawn_cases(structures: int = 1) -> list[dict]:
    """Images that are logits, too certain by a factor 2, and masks drawn with the true probabilities."""
    generator = torch.Generator().manual_seed(1)
    items = []
    for number in range(CASES):
        image = 4 * torch.randn(1, structures, 20, 30, generator=generator)
        drawn = torch.rand(1, RATERS, structures, 20, 30, generator=generator)
        masks = (drawn < tempered(image.sigmoid(), TRUE)[:, None]).byte()
        items.append({"id": [f"case{number:02d}"], "image": image, "masks": masks})
    return items


class FirstChannel(nn.Module):
    def forward(self, image):
        return image[:, :1]


def rater_evaluator(cases) -> RaterEvaluator:
    batches = [
        {"id": case["id"], "image": case["image"], "label": case["masks"][:, :, 0], "presence": torch.ones(1, RATERS)}
        for case in cases
    ]
    return RaterEvaluator("cpu", batches, ConsensusNet(FirstChannel()), inferer=RaterInferer(1))


def named(cases) -> list[dict]:
    return [{"id": case["id"][0]} for case in cases]


def test_each_half_is_scored_with_the_temperature_of_the_other(tmp_path, checkpoint, caplog):
    cases = drawn_cases()
    groups = {item["id"]: f"patient{int(item['id'][4:]) // 2}" for item in named(cases)}
    with caplog.at_level(logging.INFO):
        chosen = choose_temperature(
            rater_evaluator(cases), tmp_path / "t.json", items=named(cases), checkpoints=[checkpoint], groups=groups
        )
    assert read_record(tmp_path / "t.json", ChosenTemperature) == chosen
    assert chosen.temperature == pytest.approx(TRUE, rel=0.05) and (chosen.cases, chosen.groups) == (CASES, CASES // 2)
    assert min(chosen.of_halves) <= chosen.temperature <= max(chosen.of_halves) and len(set(chosen.of_halves)) == 2
    by_hand = []
    for case in cases:  # which half it is in must not matter for what may come out
        p, masks = case["image"].sigmoid()[:, 0], case["masks"][:, :, 0]
        by_hand.append([calibration_scores(tempered(p, t), masks)["ece"].item() for t in (1.0, *chosen.of_halves)])
    before, *after = torch.tensor(by_hand).T
    assert chosen.scores["ece"].before.mean == pytest.approx(before.mean().item(), rel=1e-6)
    lowest, highest = (part(after[0], after[1]).mean().item() for part in (torch.minimum, torch.maximum))
    assert lowest <= chosen.scores["ece"].after.mean <= highest
    for name, change in chosen.scores.items():
        assert change.difference.high < 0, name
        assert change.difference.mean == pytest.approx(change.after.mean - change.before.mean)
        if name != "pooled_ece":  # an absolute value: its bootstrap lies above it near 0
            assert change.after.low <= change.after.mean <= change.after.high
    assert f"--temperature {tmp_path / 't.json'}" in caplog.text


def test_single_masks_of_several_structures_are_calibrated_by_the_same_function(tmp_path, checkpoint):
    cases = drawn_cases(structures=2)
    batches = [{"id": case["id"], "image": case["image"], "label": case["masks"][:, 0]} for case in cases]
    sigmoid = Activationsd("pred", sigmoid=True)
    evaluator = BatchEvaluator("cpu", batches, nn.Identity(), decollate=True, postprocessing=sigmoid)
    chosen = choose_temperature(evaluator, tmp_path / "t.json", items=named(cases), checkpoints=[checkpoint])
    assert chosen.temperature == pytest.approx(TRUE, rel=0.1) and chosen.groups == CASES
    assert chosen.scores["ece"].before == chosen.scores["ece_consensus"].before  # one rater
    assert chosen.scores["pooled_ece"].after.mean < 0.5 * chosen.scores["pooled_ece"].before.mean


def test_the_inferer_and_the_transform_apply_what_was_chosen(tmp_path, checkpoint):
    cases = drawn_cases()
    choose_temperature(rater_evaluator(cases), tmp_path / "t.json", items=named(cases), checkpoints=[checkpoint])
    chosen = known_temperature(str(tmp_path / "t.json"), [checkpoint])
    image = cases[0]["image"]
    plain, warm = (RaterInferer(2, temperature=t)(image, ConsensusNet(FirstChannel())) for t in (1.0, chosen))
    assert torch.equal(warm["probability"], tempered(plain["probability"], chosen))
    assert torch.equal(warm["samples"], plain["samples"])
    assert torch.equal(Temperedd("pred", chosen)({"pred": image.sigmoid()})["pred"], warm["probability"])


def test_a_record_is_of_its_weights_alone(tmp_path, checkpoint):
    cases = drawn_cases()
    choose_temperature(rater_evaluator(cases), tmp_path / "t.json", items=named(cases), checkpoints=[checkpoint])
    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="chosen for other weights"):
        known_temperature(str(tmp_path / "t.json"), [tmp_path / "other.pt"])
    assert known_temperature(1.5) == 1.5
    with pytest.raises(ValueError, match="above 0"):
        known_temperature(0)
    with pytest.raises(FileNotFoundError):
        known_temperature(str(tmp_path / "absent.json"))
