"""Networks trained in seconds on drawn scenes, and the questions that their uncertainty answers."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from uncertain_toys import TINY

from monai_ext.__main__ import main
from monai_ext.commands.uncertainty.checks import CheckSettings, uncertainty_checks


def test_every_question_is_answered_with_numbers_and_a_figure(tmp_path, capsys, monkeypatch):
    settings = CheckSettings(
        training=TINY, members=2, scenes=(2, 4), scales=(2, 4), noises=(0.0, 0.1), asked=3, size=32, weight_samples=2,
        latent_samples=2, interval_scenes=24, mode_fields=2, mode_steps=2, mode_samples=3,
    )  # fmt: skip
    document = uncertainty_checks(tmp_path, settings)
    assert json.loads((tmp_path / "checks.json").read_text())["settings"]["members"] == 2
    for way in ("ensemble", "dropout", "variational"):
        places = document["epistemic_by_place"][way]
        assert [place["group"] for place in places] == ["unseen", "coarser", "furrows"]
        assert all(
            place["as_expected"] == (place["mean"] > place["seen_mean"] and place["probability"] > 0.5)
            for place in places
        )
        assert list(document["epistemic_by_amount"][way]["means"]) == ["2", "4"]
    assert list(document["ambiguity_by_scale"]["means"]) == ["2", "4"]
    assert list(document["aleatoric_by_noise"]["means"]) == ["0", "0.1"]
    rows = document["intervals"]["coverage"]
    assert [row["nominal"] for row in rows] == pytest.approx([0.5, 0.7, 0.8, 0.9, 0.95])
    assert all(abs(row["after"] - row["nominal"]) < 0.08 for row in rows)
    assert sum(document["modes"]["shares"]) == pytest.approx(1) and not document["modes"]["as_expected"]
    names = {path.name for path in tmp_path.iterdir()}
    figures = ("place", "amount", "ambiguity", "aleatoric", "intervals", "modes")
    assert names == {"checks.json", *(f"{name}.png" for name in figures)}
    for path in tmp_path.glob("*.png"):
        assert (np.asarray(Image.open(path).convert("L")) < 128).mean() > 0.005
    monkeypatch.setattr("monai_ext.commands.uncertainty.checks.uncertainty_checks", lambda *_: document)
    assert main(["uncertainty_checks", "--output_dir", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 16 and lines[0].startswith("epistemic, ensemble: ")
    assert lines[-3].startswith("aleatoric rises with noise: ") and "0.1: " in lines[-3]
    assert lines[-2].startswith("calibrated intervals reach their nominal coverage: ") and "90%: " in lines[-2]
    assert lines[-1].startswith("3 samples find all modes: NO (recall ")


def test_settings_that_ask_nothing_are_refused():
    with pytest.raises(ValueError, match=r"scenes=\[16\]: give two numbers or more, ascending"):
        CheckSettings(scenes=(16,))
    with pytest.raises(ValueError, match=r"noises=\[0.1, 0.0\]"):
        CheckSettings(noises=(0.1, 0.0))
    with pytest.raises(ValueError, match="members=1 must be at least 2"):
        CheckSettings(members=1)
