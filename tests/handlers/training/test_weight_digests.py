"""Digests of weights."""

from __future__ import annotations

import pytest
import torch

from monai_ext.handlers.training.weight_digests import calibration_of_weights, digest_of, weight_digests
from monai_ext.metrics.conformal import Calibration, write_calibration


def test_a_digest_survives_half_precision_and_order_but_no_other_weight_name_or_shape():
    state = {"a": torch.tensor([0.1, 0.2]), "steps": torch.tensor(3)}
    digest = digest_of(state)
    assert len(digest) == 16 and digest == digest_of(dict(reversed(state.items())))
    assert digest == digest_of({**state, "a": state["a"].half(), "note": "text"})
    others = [
        {**state, "a": state["a"] + 0.01},
        {**state, "a": state["a"][None]},
        {"b": state["a"], "steps": state["steps"]},
    ]
    assert len({digest, *map(digest_of, others)}) == 4


def test_files_have_the_digests_of_their_content_whatever_their_order(tmp_path):
    for name in "ab":
        torch.save({name: torch.ones(2)}, tmp_path / f"{name}.pt")
    paths = [tmp_path / "a.pt", tmp_path / "b.pt"]
    assert weight_digests(paths) == weight_digests(paths[::-1]) == tuple(sorted(weight_digests(paths)))
    assert digest_of({"a": torch.ones(2)}) in weight_digests(paths)


def test_a_calibration_is_used_with_its_weights_alone(tmp_path, caplog):
    for name in "ab":
        torch.save({name: torch.ones(2)}, tmp_path / f"{name}.pt")
    path, (own, other) = tmp_path / "calibration.json", (tmp_path / "a.pt", tmp_path / "b.pt")
    calibration = Calibration("crc", 0.1, None, (2.0,), weights=weight_digests([own]))
    write_calibration(calibration, path)
    assert calibration_of_weights(path, [own]) == calibration and not caplog.text
    with pytest.raises(ValueError, match="calibration.json' was made with other weights than .*b.pt"):
        calibration_of_weights(path, [other])
    write_calibration(Calibration("crc", 0.1, None, (2.0,)), path)
    assert calibration_of_weights(path, [other]).weights == ()
    assert "does not record its weights" in caplog.text
