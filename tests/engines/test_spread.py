"""Choosing the spread of samples."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor, nn

from monai_ext.engines.raters import RaterEvaluator, RaterInferer
from monai_ext.engines.spread import ChosenSpread, choose_spread, set_spread
from monai_ext.handlers import MeanRaterScores
from monai_ext.networks import ConsensusNet, DeepEnsemble, LevelSetNet
from monai_ext.storage.records import read_record


class Ramp(nn.Module):
    """Logits that fall from the left to the right: level sets are strips whose widths are spread by the levels."""

    def __init__(self, slope: float):
        super().__init__()
        self.slope = slope

    def forward(self, image: Tensor) -> Tensor:
        return self.slope * torch.linspace(8, -8, image.shape[-1]).expand_as(image)


def evaluator_of(network: nn.Module) -> RaterEvaluator:
    masks = torch.zeros(1, 4, 4, 400)
    for r in range(4):
        masks[:, r, :, : 170 + 20 * r] = 1
    batch = {"image": torch.zeros(1, 1, 4, 400), "label": masks, "presence": torch.ones(1, 4)}
    metric = {"val_qubiq_score": MeanRaterScores()}
    return RaterEvaluator("cpu", [batch], network, inferer=RaterInferer(16), key_val_metric=metric)


@pytest.mark.parametrize("slope", [0.5, 1.0, 4.0])
def test_the_spread_meets_the_diversity_of_the_raters_and_is_kept(slope, tmp_path, caplog):
    evaluator = evaluator_of(LevelSetNet(Ramp(slope)))
    with caplog.at_level(logging.INFO):
        chosen = choose_spread(evaluator, tmp_path / "spread.json")
    assert chosen.sample_diversity == pytest.approx(chosen.rater_diversity, rel=0.03)
    assert read_record(tmp_path / "spread.json", ChosenSpread, way_out="") == chosen
    assert evaluator.network.spread == pytest.approx(chosen.spread, abs=1e-4)
    assert f"--spread {chosen.spread:g}" in caplog.text


def test_the_highest_spread_is_kept_where_it_gives_too_little_diversity(tmp_path):
    chosen = choose_spread(evaluator_of(LevelSetNet(Ramp(500.0))), tmp_path / "spread.json", highest=4.0)
    assert chosen.spread == 4 and chosen.sample_diversity < chosen.rater_diversity


def test_all_members_of_an_ensemble_get_the_spread_and_methods_without_one_are_refused():
    ensemble = DeepEnsemble([LevelSetNet(Ramp(1.0)) for _ in range(3)])
    set_spread(ensemble, 0.3)
    assert [member.spread for member in ensemble.members] == [0.3] * 3
    with pytest.raises(ValueError, match="ConsensusNet has samples without a spread"):
        set_spread(ConsensusNet(Ramp(1.0)), 0.3)
