from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine

from monai_ext.handlers import ValidationLoss


def test_the_mean_is_over_items_whatever_the_batches():
    logits, label = torch.randn(5, 1, 4, 4), torch.randint(0, 2, (5, 1, 4, 4)).float()
    loss = torch.nn.BCEWithLogitsLoss()
    engine = Engine(lambda engine, rows: {"pred": logits[rows].half(), "label": label[rows]})
    ValidationLoss(loss).attach(engine)
    for batches in ([[0, 1, 2], [3, 4]], [[0], [1, 2, 3, 4]]):
        engine.run(batches, max_epochs=1)
        assert engine.state.metrics["val_loss"] == pytest.approx(loss(logits.half().float(), label).item(), rel=1e-5)
