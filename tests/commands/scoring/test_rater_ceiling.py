"""What one more rater would score."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from scored_folders import A, B, rows_of, write, write_case

from monai_ext.__main__ import main
from monai_ext.commands.scoring.case_scores import MAP_SCORES, SET_SCORES, map_scores
from monai_ext.commands.scoring.rater_ceiling import others_with_each, rater_ceiling
from monai_ext.metrics import dice_per_rater, generalized_energy_distance, set_scores


def test_a_single_rater_leaves_no_human_ceiling(tmp_path, capsys):
    write_case(tmp_path / "truth" / "case01", {4: A})
    write(tmp_path / "predicted" / "case01" / "task01.nii.gz", np.array(B, dtype=float))
    assert main(["score", "--predictions", f"{tmp_path}/predicted", "--targets", f"{tmp_path}/truth"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("QUBIQ score"))
    assert line.split() == ["QUBIQ", "score", "higher", "0.6667", "0.6667", "to", "0.6667", "-", "-", "1"]
    row = rows_of(tmp_path / "predicted")[0]
    assert row["raters_qubiq_score"] == row["rater_agreement"] == "" and row["raters"] == "1"


@pytest.mark.parametrize(("raters", "strict", "bins"), [(2, False, 15), (4, True, 7), (5, False, 1), (3, True, 2)])
def test_the_ceiling_is_that_of_leaving_raters_out_one_by_one(raters, strict, bins):
    generator = torch.Generator().manual_seed(raters)
    masks = (torch.rand(raters + 1, 6, 7, generator=generator) < 0.4).byte()
    masks[0] = 0  # an empty mask
    presence = torch.arange(raters + 1) != 1
    found = rater_ceiling(masks, presence, set_size=3, strict=strict, bins=bins)
    maps, sets, pairs = [], [], []
    for r in presence.nonzero()[:, 0].tolist():
        others = presence & (torch.arange(raters + 1) != r)
        maps.append(map_scores(masks[None, [r]], masks[None], presence=others[None], strict=strict, bins=bins))
        sets.append(set_scores(masks[None, others], masks[None, [r]]))
        pairs.append(dice_per_rater(masks[None, [r]], masks[None], presence=others[None]).nanmean())
    expected = {name: torch.stack([one[name] for one in maps]).mean().item() for name in maps[0]}
    expected |= {name: torch.stack([one[name] for one in sets]).mean().item() for name in SET_SCORES}
    for name in {*MAP_SCORES, "hungarian_iou", "dice_match", "dice_max"} - {"uncertainty_ncc", "confidence"}:
        assert found[name] == pytest.approx(expected[name], abs=1e-6), name
    assert found["rater_agreement"] == pytest.approx(torch.stack(pairs).mean().item())
    each = others_with_each(masks, presence)["dice"]
    assert each.isnan().tolist() == (~presence).tolist() and each.nanmean().item() == pytest.approx(
        found["rater_agreement"]
    )


@pytest.mark.parametrize("estimator", ["V", "U"])
def test_the_ceiling_of_the_energy_distance_is_its_mean_over_sets_drawn_by_the_same_raters(estimator):
    people = (torch.rand(3, 1, 12, generator=torch.Generator().manual_seed(1)) < 0.5).byte()
    raters = [people[list(draw)] for draw in product(range(3), repeat=2)]
    samples = torch.stack([people[list(draw)] for draw in product(range(3), repeat=3)])
    distances = [
        generalized_energy_distance(samples, masks.expand(len(samples), -1, -1, -1), estimator=estimator).mean()
        for masks in raters
    ]
    options = {"set_size": 3, "estimator": estimator}
    ceilings = [rater_ceiling(m, torch.ones(2, dtype=torch.bool), **options) for m in raters]
    expected = np.mean([ceiling["generalized_energy_distance"] for ceiling in ceilings])
    assert torch.stack(distances).mean().item() == pytest.approx(expected, abs=1e-12)
