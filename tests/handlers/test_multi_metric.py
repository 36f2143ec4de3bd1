"""Several scores of one metric."""

from __future__ import annotations

import pytest
from ignite.engine import Engine

from monai_ext.handlers.multi_metric import MultiMetricHandler


class Scores:
    def __call__(self, prediction, label):
        return None

    def aggregate(self):
        return {"dice": 0.5, "jaccard": 1 / 3}

    def reset(self):
        pass


def test_one_score_is_the_metric_and_the_others_stand_beside_it():
    engine = Engine(lambda engine, batch: (batch, batch))
    MultiMetricHandler(Scores(), "dice", output_transform=lambda output: output).attach(engine, "val_mean_dice")
    engine.run([1])
    assert engine.state.metrics == {"val_mean_dice": 0.5, "val_mean_jaccard": pytest.approx(1 / 3)}
