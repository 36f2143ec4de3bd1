"""Progressive resizing."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Events
from training_engines import engine

from monai_ext.handlers import (
    ProgressiveSize,
)
from monai_ext.transforms import BatchAugment


@pytest.mark.parametrize(
    ("stages", "expected"),
    [([[0, 1]], [(32, 64)] * 5), ([[0, 0.5], [0.6, 1]], [(16, 32)] * 3 + [(32, 64)] * 2)],
)
def test_sizes_follow_the_epoch(stages, expected):
    augment, seen = BatchAugment(), []
    trainer = engine({"loss": torch.tensor(1.0)}, epochs=5)
    ProgressiveSize([augment], [32, 64], stages).attach(trainer)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda e: seen.append(augment.spatial_size))
    trainer.run_engine()
    assert seen == expected


@pytest.mark.parametrize(
    ("stages", "message"),
    [([[0.2, 1]], "begin at 0"), ([[0, 1], [0, 0.5]], "rise"), ([[0, 1.5]], r"factors must be in \(0, 1\]")],
)
def test_impossible_stages_are_refused(stages, message):
    with pytest.raises(ValueError, match=message):
        ProgressiveSize([], [32, 64], stages)
