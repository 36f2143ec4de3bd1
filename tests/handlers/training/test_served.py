from __future__ import annotations

import logging

import pytest
from ignite.engine import Engine

from monai_ext.handlers.training.served import KEPT, ServedWeights


@pytest.fixture
def bundle(tmp_path):
    for name in ("configs", "models", "runs/dice"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "models/model.pt").write_text("shipped")
    return tmp_path


def finish(run, *, epochs: int = 2) -> None:
    engine = Engine(lambda engine, batch: None)
    ServedWeights(run).attach(engine)
    engine.run([0], max_epochs=epochs)


def test_the_best_weights_are_served_and_those_of_the_bundle_kept_once(bundle):
    run = bundle / "runs/dice"
    for trained in ("first", "second"):
        (run / "final.pt").write_text("last")
        (run / "model.pt").write_text(trained)
        finish(run)
        assert (bundle / "models/model.pt").read_text() == trained
        assert (bundle / "models" / KEPT).read_text() == "shipped"
    (run / "model.pt").unlink()
    finish(run)
    assert (bundle / "models/model.pt").read_text() == "last"


def test_without_weights_or_a_bundle_nothing_is_served(bundle, tmp_path):
    finish(bundle / "runs/dice")
    assert (bundle / "models/model.pt").read_text() == "shipped"
    (bundle / "runs/dice/model.pt").write_text("trained")
    (bundle / "configs").rmdir()
    finish(bundle / "runs/dice")
    assert (bundle / "models/model.pt").read_text() == "shipped"


def test_the_log_names_the_shipped_weights_only_where_there_are_any(bundle, caplog):
    caplog.set_level(logging.INFO, logger="monai_ext")
    (bundle / "runs/dice/model.pt").write_text("trained")
    finish(bundle / "runs/dice")
    assert KEPT in caplog.text
    caplog.clear()
    for name in ("model.pt", KEPT):
        (bundle / "models" / name).unlink()
    finish(bundle / "runs/dice")
    assert "weights of this training" in caplog.text and KEPT not in caplog.text
